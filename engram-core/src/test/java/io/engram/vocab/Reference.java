// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

import static java.nio.charset.StandardCharsets.UTF_8;

import ai.djl.huggingface.tokenizers.HuggingFaceTokenizer;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Arrays;
import java.util.Map;
import java.util.stream.Collectors;
import java.util.stream.IntStream;

/** The Rust library, as the oracle. */
final class Reference implements AutoCloseable {
  private final HuggingFaceTokenizer tokenizer;

  Reference(String tokenizerJson) {
    try {
      tokenizer =
          HuggingFaceTokenizer.newInstance(
              new ByteArrayInputStream(tokenizerJson.getBytes(UTF_8)),
              Map.of("addSpecialTokens", "false", "truncation", "false", "padding", "false"));
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /**
   * A tokenizer that gives the UTF-8 bytes of normalised and split text as ids: a byte-fallback BPE
   * of 256 byte tokens and nothing else.
   */
  static Reference ofBytes(String normalizer, String preTokenizer) {
    String vocab =
        IntStream.range(0, 256)
            .mapToObj(b -> String.format("\"<0x%02X>\":%d", b, b))
            .collect(Collectors.joining(","));
    return new Reference(
        """
        {"version":"1.0","truncation":null,"padding":null,"added_tokens":[],
         "normalizer":%s,"pre_tokenizer":%s,"post_processor":null,"decoder":null,
         "model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,
           "end_of_word_suffix":null,"fuse_unk":false,"byte_fallback":true,"vocab":{%s},"merges":[]}}
        """
            .formatted(normalizer, preTokenizer, vocab));
  }

  /** A tokenizer that shows where its pre-tokenizer cuts: every word is one unknown token. */
  static Reference ofWords(String preTokenizer) {
    return new Reference(
        """
        {"version":"1.0","truncation":null,"padding":null,"added_tokens":[],
         "normalizer":null,"pre_tokenizer":%s,"post_processor":null,"decoder":null,
         "model":{"type":"BPE","dropout":null,"unk_token":"<unk>","continuing_subword_prefix":null,
           "end_of_word_suffix":null,"fuse_unk":true,"byte_fallback":false,"vocab":{"<unk>":0},"merges":[]}}
        """
            .formatted(preTokenizer));
  }

  /** The normaliser of tokenizer compression, as the released code configures it. */
  static Reference compressionNormalizer() {
    return ofBytes(
        """
        {"type":"Sequence","normalizers":[{"type":"NFKC"},{"type":"NFD"},{"type":"StripAccents"},
         {"type":"Lowercase"},
         {"type":"Replace","pattern":{"Regex":"[ \\\\t\\\\r\\\\n]+"},"content":" "},
         {"type":"Replace","pattern":{"Regex":"^ $"},"content":"\\uE000"},
         {"type":"Strip","strip_left":true,"strip_right":true},
         {"type":"Replace","pattern":{"String":"\\uE000"},"content":" "}]}
        """,
        "null");
  }

  int[] encode(String text) {
    return Arrays.stream(tokenizer.encode(text, false, false).getIds())
        .mapToInt(Math::toIntExact)
        .toArray();
  }

  /** Starts and ends of the words that a tokenizer of {@link #ofWords} finds, in code points. */
  int[] words(String text) {
    return Arrays.stream(tokenizer.encode(text, false, false).getCharTokenSpans())
        .flatMapToInt(span -> IntStream.of(span.getStart(), span.getEnd()))
        .toArray();
  }

  String decode(int... ids) {
    return tokenizer.decode(Arrays.stream(ids).asLongStream().toArray(), false);
  }

  /** What a tokenizer of {@link #ofBytes} makes of a text. */
  String textOf(String text) {
    long[] ids = tokenizer.encode(text, false, false).getIds();
    byte[] bytes = new byte[ids.length];
    for (int i = 0; i < bytes.length; i++) {
      bytes[i] = (byte) ids[i];
    }
    return new String(bytes, UTF_8);
  }

  @Override
  public void close() {
    tokenizer.close();
  }
}
