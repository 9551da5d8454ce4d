// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.knuddels.jtokkit.Encodings;
import com.knuddels.jtokkit.api.Encoding;
import com.knuddels.jtokkit.api.EncodingType;
import io.engram.testkit.Golden;
import io.engram.testkit.Seeds;
import java.io.File;
import java.net.MalformedURLException;
import java.net.URL;
import java.net.URLClassLoader;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.EnumSource;

@Tag("once")
class JtokkitTokenizerTest {
  @Test
  void servesCl100kBase() {
    JtokkitTokenizer tokenizer = JtokkitTokenizer.cl100kBase();
    Vocabulary vocabulary = tokenizer.vocabulary();
    assertEquals(100_277, vocabulary.size());
    assertArrayEquals(new int[] {15339, 1917}, tokenizer.encode("hello world"));
    assertEquals("hello world", tokenizer.decode(15339, 1917));
    assertEquals("Ġworld", vocabulary.token(1917));
    assertEquals("<|endoftext|>", vocabulary.token(100_257));
    assertEquals("<|endofprompt|>", vocabulary.text(100_276));
    assertFalse(vocabulary.isToken(100_256));
    assertFalse(vocabulary.isToken(100_275));
    // Text that looks like a special token is text.
    assertTrue(tokenizer.encode("<|endoftext|>").length > 1);
    assertThrows(IllegalArgumentException.class, () -> tokenizer.encode("\uD83D"));
    assertEquals("cl100k_base with a Vocabulary of 100277 ids", tokenizer.toString());

    RandomGenerator random = Seeds.random("servesCl100kBase");
    for (int i = 0; i < 1_000; i++) {
      String text = RandomText.next(random, 12);
      assertEquals(text, tokenizer.decode(tokenizer.encode(text)));
    }

    TokenMap map = TokenMap.compress(vocabulary);
    assertEquals(vocabulary.size(), map.size());
    int[] cases = map.map(tokenizer.encode("Hello hello HELLO"));
    assertEquals(cases[0], cases[1]);
    // All ids without a token share one number, which no token has.
    int none = map.get(100_256);
    for (int id = 0; id < vocabulary.size(); id++) {
      assertEquals(!vocabulary.isToken(id), map.get(id) == none, "id " + id);
    }
  }

  @Test
  void checksTheSize() {
    Encoding encoding = Encodings.newLazyEncodingRegistry().getEncoding(EncodingType.R50K_BASE);
    assertEquals(50_257, JtokkitTokenizer.of(encoding, 50_257).vocabulary().size());
    for (int size : new int[] {0, -1, 50_256, 50_258, Integer.MAX_VALUE}) {
      IllegalArgumentException e =
          assertThrows(IllegalArgumentException.class, () -> JtokkitTokenizer.of(encoding, size));
      assertTrue(e.getMessage().contains("size is " + size), e.getMessage());
    }
  }

  /** The rest of the package works where JTokkit is absent. */
  @Test
  void isOptional() throws Exception {
    URL[] without =
        Arrays.stream(System.getProperty("java.class.path").split(File.pathSeparator))
            .filter(entry -> !entry.contains("jtokkit"))
            .map(JtokkitTokenizerTest::url)
            .toArray(URL[]::new);
    try (URLClassLoader loader =
        new URLClassLoader(without, ClassLoader.getPlatformClassLoader())) {
      assertThrows(ClassNotFoundException.class, () -> loader.loadClass(Encoding.class.getName()));
      Path file = Golden.path("v41_mini/tokenizer.json");
      Object tokenizer =
          loader
              .loadClass(Tokenizer.class.getName())
              .getMethod("readTokenizerJson", Path.class)
              .invoke(null, file);
      Class<?> vocabularyClass = loader.loadClass(Vocabulary.class.getName());
      Object vocabulary =
          loader.loadClass(Tokenizer.class.getName()).getMethod("vocabulary").invoke(tokenizer);
      Class<?> mapClass = loader.loadClass(TokenMap.class.getName());
      Object map = mapClass.getMethod("compress", vocabularyClass).invoke(null, vocabulary);
      assertEquals(543, mapClass.getMethod("compressedSize").invoke(map));
      Class<?> jtokkit = loader.loadClass(JtokkitTokenizer.class.getName());
      assertThrows(NoClassDefFoundError.class, jtokkit::getMethods);
    }
  }

  private static URL url(String entry) {
    try {
      return new File(entry).toURI().toURL();
    } catch (MalformedURLException e) {
      throw new IllegalArgumentException(entry, e);
    }
  }

  @ParameterizedTest
  @EnumSource(EncodingType.class)
  void everyEncodingThatComesAlongIsReadWhole(EncodingType type) {
    JtokkitTokenizer tokenizer = JtokkitTokenizer.of(type);
    String text = "The caf\u00e9 is open.";
    assertEquals(text, tokenizer.decode(tokenizer.encode(text)));
  }
}
