// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import io.engram.testkit.Golden;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

/** Row ids that the reference implementations gave. */
class NgramHasherGoldenTest {
  private static final List<NgramHasher> V41 =
      HashLayout.derive(Variants.V41).stream()
          .map(layout -> new NgramHasher(layout, Variants.V41_RULE))
          .toList();

  static Stream<JsonObject> v41Cases() {
    return Golden.json("v41_hash_cases.json").getAsJsonArray("cases").asList().stream()
        .map(JsonElement::getAsJsonObject);
  }

  private static JsonObject v41Case(String prefix) {
    return v41Cases()
        .filter(c -> c.get("name").getAsString().startsWith(prefix))
        .findFirst()
        .orElseThrow();
  }

  /** Compressed ids, DEAD where the mask is false. */
  private static int[] v41Ids(JsonObject golden) {
    int[] ids = Variants.compress(Golden.ints(golden.get("raw_ids")));
    return Variants.masked(ids, golden.get("mask"));
  }

  /** Both layers as the golden files interleave them: [position][layer][column]. */
  private static long[] interleaved(long[] layer1, long[] layer14) {
    int columns = Variants.V41.columns();
    long[] both = new long[layer1.length * 2];
    for (int at = 0; at < layer1.length; at += columns) {
      System.arraycopy(layer1, at, both, at * 2, columns);
      System.arraycopy(layer14, at, both, at * 2 + columns, columns);
    }
    return both;
  }

  private static String sha256(long[] values) {
    ByteBuffer bytes =
        ByteBuffer.allocate(values.length * Long.BYTES).order(ByteOrder.LITTLE_ENDIAN);
    bytes.asLongBuffer().put(values);
    try {
      return HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes.array()));
    } catch (NoSuchAlgorithmException e) {
      throw new AssertionError(e);
    }
  }

  @ParameterizedTest
  @MethodSource("v41Cases")
  void deepSeekV41(JsonObject golden) {
    int[] ids = v41Ids(golden);
    long[] rows = interleaved(V41.get(0).hash(ids), V41.get(1).hash(ids));
    if (golden.has("hash_ids")) {
      assertArrayEquals(Golden.longs(golden.get("hash_ids")), rows);
    } else {
      assertEquals(golden.get("sha256_i64le_[L][layer][col]").getAsString(), sha256(rows));
    }
  }

  @Test
  void theCasesAreAllThere() {
    assertEquals(10, v41Cases().count());
    assertEquals(20, v41Ids(v41Case("image_dead_mask")).length);
    assertEquals(4, Arrays.stream(v41Ids(v41Case("image_dead_mask"))).filter(i -> i < 0).count());
  }

  /** Digests that others published for the 64 tokens and for [0, 3], and of the 256 random ids. */
  @Test
  void publishedDigests() {
    int[] fixture = v41Ids(v41Case("tensorfold_64"));
    assertEquals(
        "4633be6ad86c895b69d4cd42c1ec59bdd8b96309a2e3e15d188aa62a2a1d5214",
        sha256(interleaved(V41.get(0).hash(fixture), V41.get(1).hash(fixture))));
    int[] two = Variants.compress(0, 3);
    long[] layer1 = V41.get(0).hash(two);
    long[] layer14 = V41.get(1).hash(two);
    assertEquals(
        "8e0187ea859a7db65517a540eb5210457ec907fd0b2f44042d830366cbedbda5", sha256(layer1));
    assertEquals(
        "33e046238287e6e8b7c3466bdb4b7b47182ad19f9115afac8a1983ede219ba80", sha256(layer14));
    assertEquals(
        "f5a64799492bea90bc6d87f0cb8a67bb983441e1cd9c12ec2e7b8df6cbcfee1d",
        sha256(interleaved(layer1, layer14)));
    int[] random = v41Ids(v41Case("random256"));
    assertEquals(
        "e12bb9890bcd144657fe8cd7488425a72ff885992c6d2bdfc238b16c5d50c902",
        sha256(interleaved(V41.get(0).hash(random), V41.get(1).hash(random))));
    JsonObject published = Golden.json("v41_real_checkpoint_layer1_published.json");
    assertArrayEquals(Golden.longs(published.get("ordered_row_ids_[2][24]")), layer1);
  }

  @Test
  void theFixtureInChunks() {
    int[] ids = v41Ids(v41Case("tensorfold_64"));
    for (NgramHasher hasher : V41) {
      long[] expected = hasher.hash(ids);
      long[] rows = new long[expected.length];
      Lookback past = Lookback.start();
      int from = 0;
      for (int count : new int[] {37, 1, 26}) {
        hasher.hash(ids, from, count, past, rows, from * hasher.columns());
        past = past.advance(ids, from, count);
        from += count;
      }
      assertArrayEquals(expected, rows);
    }
  }

  @Test
  void paperDemo() {
    JsonObject golden = Golden.json("demo_default_hash.json");
    assertArrayEquals(
        Golden.ints(golden.get("compressed_ids")),
        Variants.compress(Golden.ints(golden.get("input_ids"))));
    for (HashLayout layout : HashLayout.derive(Variants.DEMO)) {
      JsonElement expected =
          golden.getAsJsonObject("hash_ids_without_offset").get(Integer.toString(layout.layerId()));
      demoBatch(layout, Golden.ints(golden.get("compressed_ids")), expected);
    }
  }

  @Test
  void smallPaperDemo() {
    JsonObject golden = Golden.json("demo_engram_forward_small_f32.json");
    int[] ids = Variants.compress(Golden.ints(golden.get("input_ids")));
    for (HashLayout layout : HashLayout.derive(HashLayoutTest.smallDemo())) {
      JsonObject layer =
          golden.getAsJsonObject("layers").getAsJsonObject(Integer.toString(layout.layerId()));
      demoBatch(layout, ids, layer.get("hash_ids_without_offset"));
    }
  }

  /** Two sequences; the demo's row ids lack the offsets. */
  private static void demoBatch(HashLayout layout, int[] ids, JsonElement golden) {
    NgramHasher hasher = new NgramHasher(layout, WindowRule.padded(Variants.PAD));
    long[] expected = Golden.longs(golden);
    for (int i = 0; i < expected.length; i++) {
      expected[i] += layout.offset(i % layout.columns());
    }
    long[] rows = new long[expected.length];
    hasher.hashBatch(ids, 2, List.of(), rows, 0);
    assertArrayEquals(expected, rows);
  }

  /** Raw ids with EOS inside, at the first position and twice in a row of segments. */
  @Test
  void smallQwen() {
    JsonObject golden = Golden.json("qwen4exp_ple_small_f32.json");
    int eos = golden.getAsJsonObject("config").get("eos_token_id").getAsInt();
    int[] ids = Golden.ints(golden.get("input_ids"));
    for (HashLayout layout : HashLayout.derive(Variants.qwen(300, 3, 100, List.of(1, 3)))) {
      JsonObject layer =
          golden.getAsJsonObject("layers").getAsJsonObject(Integer.toString(layout.layerId()));
      long[] expected = Golden.longs(layer.get("row_ids"));
      NgramHasher hasher = new NgramHasher(layout, Variants.qwenRule(eos));
      long[] rows = new long[expected.length];
      hasher.hashBatch(ids, 2, List.of(), rows, 0);
      assertArrayEquals(expected, rows);
      // Padding is hashed as if it were EOS.
      int[] padded = Arrays.stream(ids).map(id -> id == eos ? Lookback.DEAD : id).toArray();
      hasher.hashBatch(padded, 2, List.of(), rows, 0);
      assertArrayEquals(expected, rows);
    }
  }

  @Test
  void smallV41WithDeadPositions() {
    JsonObject golden = Golden.json("v41_engram_forward_small.json");
    int[] map = Golden.ints(golden.get("token_map"));
    int[] ids = Arrays.stream(Golden.ints(golden.get("input_ids"))).map(id -> map[id]).toArray();
    ids = Variants.masked(ids, golden.get("mask"));
    List<HashLayout> layouts =
        HashLayout.derive(Variants.deepSeek(50, List.of(2, 3, 4), 2, 40, List.of(1, 5)));
    // [sequence][position][layer][column]
    JsonArray sequences = golden.getAsJsonArray("hash_ids");
    for (int layer = 0; layer < 2; layer++) {
      NgramHasher hasher = new NgramHasher(layouts.get(layer), Variants.V41_RULE);
      long[] rows = new long[ids.length * hasher.columns()];
      hasher.hashBatch(ids, 2, List.of(), rows, 0);
      int at = 0;
      for (JsonElement sequence : sequences) {
        for (JsonElement position : sequence.getAsJsonArray()) {
          long[] expected = Golden.longs(position.getAsJsonArray().get(layer));
          assertArrayEquals(expected, Arrays.copyOfRange(rows, at, at + expected.length));
          at += expected.length;
        }
      }
      assertEquals(rows.length, at);
    }
  }

  /** The image id typed as text is an ordinary token; first ids published for V4.1. */
  @ParameterizedTest
  @ValueSource(ints = {0, 2, 223, 129_279})
  void firstIdsOfSingleTokens(int token) {
    long[] layer1 = V41.get(0).hash(Variants.compress(token));
    long[] layer14 = V41.get(1).hash(Variants.compress(token));
    long[] expected =
        switch (token) {
          case 0 -> new long[] {5_702_652, 24_393_184, 39_183_301, 372_375_971};
          case 2 -> new long[] {4_299_726, 29_253_038, 43_157_972, 381_853_422};
          case 223 -> new long[] {13_497_081, 26_306_375, 40_564_330, 380_320_904};
          default -> new long[] {2_008_568, 17_698_461, 32_185_018, 372_021_888};
        };
    assertArrayEquals(
        expected, new long[] {layer1[0], layer1[1], layer1[2], layer14[layer14.length - 1]});
  }
}
