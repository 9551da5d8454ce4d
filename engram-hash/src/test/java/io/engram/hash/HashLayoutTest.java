// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import io.engram.hash.HashScheme.Generator;
import io.engram.hash.HashScheme.PrimeSearch;
import io.engram.testkit.Golden;
import io.engram.testkit.Seeds;
import java.math.BigInteger;
import java.util.Arrays;
import java.util.List;
import java.util.Optional;
import java.util.function.UnaryOperator;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

@Tag("once")
class HashLayoutTest {
  @Test
  void deepSeekV41() {
    JsonObject golden = Golden.json("v41_layout.json");
    List<HashLayout> layouts = HashLayout.derive(Variants.V41);
    long[] rows = Golden.longs(golden.getAsJsonObject("config").get("engram_num_embeddings"));
    assertEquals(2, layouts.size());
    for (int i = 0; i < 2; i++) {
      HashLayout layout = layouts.get(i);
      assertArrayEquals(
          Golden.longs(golden.getAsJsonArray("multipliers").get(i)), layout.multipliers());
      assertArrayEquals(Golden.longs(golden.getAsJsonArray("primes").get(i)), layout.moduli());
      assertArrayEquals(Golden.longs(golden.getAsJsonArray("offsets").get(i)), layout.offsets());
      assertEquals(rows[i], layout.rowCount());
      assertEquals(rows[i], layout.hashedRows());
    }
    assertEquals(1, layouts.get(0).layerId());
    assertEquals(14, layouts.get(1).layerId());
    // 196,613,849,600 parameters in all.
    assertEquals(196_613_849_600L, (rows[0] + rows[1]) * 256);
  }

  @Test
  void paperDemo() {
    JsonObject golden = Golden.json("demo_default_hash.json");
    for (HashLayout layout : HashLayout.derive(Variants.DEMO)) {
      String layer = Integer.toString(layout.layerId());
      assertArrayEquals(
          Golden.longs(golden.getAsJsonObject("multipliers").get(layer)), layout.multipliers());
      assertArrayEquals(Golden.longs(golden.getAsJsonObject("primes").get(layer)), layout.moduli());
      assertEquals(golden.getAsJsonObject("row_totals").get(layer).getAsLong(), layout.rowCount());
    }
  }

  @Test
  void smallPaperDemoWithASlotCountForEachOrder() {
    JsonObject golden = Golden.json("demo_engram_forward_small_f32.json").getAsJsonObject("layers");
    for (HashLayout layout : HashLayout.derive(smallDemo())) {
      JsonObject layer = golden.getAsJsonObject(Integer.toString(layout.layerId()));
      assertArrayEquals(Golden.longs(layer.get("primes")), layout.moduli());
      assertArrayEquals(Golden.longs(layer.get("offsets")), layout.offsets());
    }
  }

  static HashScheme smallDemo() {
    return new HashScheme(
        98_627,
        List.of(2, 3),
        4,
        List.of(97L, 101L),
        List.of(1, 15),
        0,
        Generator.NUMPY_PCG64,
        PrimeSearch.RESTART_PER_ORDER,
        1);
  }

  @Test
  void smallV41() {
    JsonObject golden = Golden.json("v41_engram_forward_small.json");
    JsonArray multipliers = golden.getAsJsonArray("multipliers");
    List<HashLayout> layouts =
        HashLayout.derive(Variants.deepSeek(50, List.of(2, 3, 4), 2, 40, List.of(1, 5)));
    for (int i = 0; i < layouts.size(); i++) {
      HashLayout layout = layouts.get(i);
      assertArrayEquals(Golden.longs(multipliers.get(i)), layout.multipliers());
      assertArrayEquals(Golden.longs(golden.getAsJsonArray("primes").get(i)), layout.moduli());
      assertArrayEquals(Golden.longs(golden.getAsJsonArray("offsets").get(i)), layout.offsets());
      assertEquals(
          Golden.longs(golden.getAsJsonObject("config").get("engram_num_embeddings"))[i],
          layout.rowCount());
    }
  }

  @Test
  void megatronPort() {
    HashScheme scheme =
        new HashScheme(
            64,
            List.of(2, 3),
            1,
            List.of(10L, 10L),
            List.of(0, 2),
            7,
            Generator.NUMPY_PCG64,
            PrimeSearch.RESTART_PER_ORDER,
            1);
    List<HashLayout> layouts = HashLayout.derive(scheme);
    assertArrayEquals(
        new long[] {90085750735096467L, 129302135670983891L, 111788089137436145L},
        layouts.get(0).multipliers());
    assertArrayEquals(
        new long[] {30741515212205435L, 45358833932237951L, 28612392822150695L},
        layouts.get(1).multipliers());
  }

  @Test
  void qwen() {
    HashLayout layout = HashLayout.derive(Variants.QWEN).getFirst();
    assertArrayEquals(
        new long[] {23703573157769L, 20109073645365L, 8052911324071L}, layout.multipliers());
    long[] tails = {3, 23, 33, 47, 59, 63, 69, 77, 81, 93, 107, 147, 153, 159, 161, 171};
    assertArrayEquals(
        Arrays.stream(tails).map(tail -> 20_000_000 + tail).toArray(), layout.moduli());
    assertEquals(320_001_446, layout.hashedRows());
    assertEquals(320_001_536, layout.rowCount());
  }

  @Test
  void smallQwenWithTwoLayers() {
    JsonObject golden = Golden.json("qwen4exp_ple_small_f32.json").getAsJsonObject("layers");
    for (HashLayout layout : HashLayout.derive(Variants.qwen(300, 3, 100, List.of(1, 3)))) {
      JsonObject layer = golden.getAsJsonObject(Integer.toString(layout.layerId()));
      assertArrayEquals(Golden.longs(layer.get("multipliers")), layout.multipliers());
      assertArrayEquals(Golden.longs(layer.get("head_vocab_sizes")), layout.moduli());
      assertArrayEquals(Golden.longs(layer.get("head_offsets")), layout.offsets());
      assertEquals(layer.get("rows_padded").getAsLong(), layout.rowCount());
    }
  }

  /** Table parameters of the paper's models, in billions; 80 wide per head. */
  @ParameterizedTest
  @CsvSource({"2262400, 5.792", "7239680, 18.534"})
  void paperModels(long slots, String billions) {
    HashScheme scheme = Variants.deepSeek(98_627, List.of(2, 3), 8, slots, List.of(1, 14));
    long parameters = HashLayout.derive(scheme).stream().mapToLong(HashLayout::rowCount).sum() * 80;
    assertEquals(billions, "%.3f".formatted(parameters / 1e9));
  }

  /** Hazard 3: a vocabulary that is off by one changes every multiplier. */
  @Test
  void anotherVocabularySizeChangesEveryMultiplier() {
    HashLayout right = HashLayout.derive(Variants.V41).getFirst();
    HashLayout wrong = HashLayout.derive(Variants.withVocabulary(Variants.V41, 99_091)).getFirst();
    for (int shift = 0; shift < 4; shift++) {
      assertNotEquals(right.multiplier(shift), wrong.multiplier(shift));
    }
    assertEquals(
        Optional.of("layer 1: vocabulary size is 99092, the other has 99091"),
        right.firstDifference(wrong));
  }

  /** Hazard 4, its arithmetic part: products are proved to fit, at the largest vocabularies too. */
  @Test
  void productsNeverOverflow() {
    RandomGenerator random = Seeds.random("productsNeverOverflow");
    BigInteger limit = BigInteger.ONE.shiftLeft(63);
    for (int i = 0; i < 300; i++) {
      int vocabulary = i < 3 ? Integer.MAX_VALUE - i : 1 + (random.nextInt() >>> 1 >>> (i % 30));
      for (Generator generator : Generator.values()) {
        HashScheme scheme =
            new HashScheme(
                vocabulary,
                List.of(1, 3),
                2,
                List.of(50L, 50L),
                List.of(i),
                i,
                generator,
                PrimeSearch.RESTART_PER_ORDER,
                1);
        for (long multiplier : HashLayout.derive(scheme).getFirst().multipliers()) {
          assertEquals(1, multiplier & 1);
          assertTrue(
              BigInteger.valueOf(multiplier)
                      .multiply(BigInteger.valueOf(vocabulary - 1L))
                      .compareTo(limit)
                  < 0,
              scheme::toString);
        }
      }
    }
    // The bound of V4.1 that the specification quotes.
    assertTrue(
        BigInteger.valueOf(2 * 46_539_438_283_891L + 1)
                .multiply(BigInteger.valueOf(99_091))
                .compareTo(limit)
            < 0);
  }

  @Test
  void storedBuffersGiveTheSameLayout() {
    for (HashScheme scheme : List.of(Variants.V41, Variants.DEMO, Variants.QWEN)) {
      for (HashLayout layout : HashLayout.derive(scheme)) {
        HashLayout stored = restored(scheme, layout, UnaryOperator.identity());
        assertEquals(Optional.empty(), layout.firstDifference(stored));
        assertEquals(layout, stored);
        assertEquals(layout.hashCode(), stored.hashCode());
        assertEquals(layout.toString(), stored.toString());
      }
    }
  }

  private static HashLayout restored(
      HashScheme scheme, HashLayout layout, UnaryOperator<long[]> multipliers) {
    return HashLayout.stored(
        scheme,
        layout.layerId(),
        multipliers.apply(layout.multipliers()),
        layout.moduli(),
        layout.offsets());
  }

  /**
   * Hazard 2: JSON numbers as doubles. Multipliers above 2^53 lose their last bits, and would name
   * other, equally valid rows.
   */
  @Test
  void multipliersThatWentThroughDoublesAreRefused() {
    JsonObject golden = Golden.json("v41_engram_forward_small.json");
    long[] exact = Golden.longs(golden.getAsJsonArray("multipliers").get(0));
    long[] rounded = Arrays.stream(exact).map(m -> (long) (double) m).toArray();
    HashScheme scheme = Variants.deepSeek(50, List.of(2, 3, 4), 2, 40, List.of(1, 5));
    HashLayout layout = HashLayout.derive(scheme).getFirst();
    assertTrue(
        assertThrows(IllegalArgumentException.class, () -> restored(scheme, layout, m -> rounded))
            .getMessage()
            .contains("expected odd"));

    int[] ids = {44, 17, 3, 9, 21, 48, 30, 2};
    long[] right = new NgramHasher(layout, Variants.V41_RULE).hash(ids);
    long[] wrong = new ReferenceHasher(layout, Variants.V41_RULE, rounded).hash(ids);
    assertArrayEquals(right, new ReferenceHasher(layout, Variants.V41_RULE, exact).hash(ids));
    int other = 0;
    for (int i = 0; i < right.length; i++) {
      other += right[i] == wrong[i] ? 0 : 1;
    }
    assertTrue(other > right.length * 9 / 10, other + " of " + right.length + " rows differ");
  }

  @Test
  void badBuffersAreRefused() {
    HashScheme scheme = Variants.V41;
    HashLayout layout = HashLayout.derive(scheme).getFirst();
    refused("multiplier 1 is 0", () -> restored(scheme, layout, m -> with(m, 1, 0)));
    refused("multiplier 1 is -3", () -> restored(scheme, layout, m -> with(m, 1, -3)));
    refused("expected odd", () -> restored(scheme, layout, m -> with(m, 2, m[2] + 1)));
    refused(
        "multiplier 3 is 93079824061261",
        () -> restored(scheme, layout, m -> with(m, 3, 93_079_824_061_261L)));
    refused("found 3 multipliers", () -> restored(scheme, layout, m -> Arrays.copyOf(m, 3)));
    refused(
        "layer 2 is none of",
        () ->
            HashLayout.stored(scheme, 2, layout.multipliers(), layout.moduli(), layout.offsets()));
    refused(
        "found 23 moduli",
        () ->
            HashLayout.stored(
                scheme,
                1,
                layout.multipliers(),
                Arrays.copyOf(layout.moduli(), 23),
                layout.offsets()));
    refused(
        "modulus 5 is 0",
        () ->
            HashLayout.stored(
                scheme, 1, layout.multipliers(), with(layout.moduli(), 5, 0), layout.offsets()));
    refused(
        "found 25 offsets",
        () ->
            HashLayout.stored(
                scheme,
                1,
                layout.multipliers(),
                layout.moduli(),
                Arrays.copyOf(layout.offsets(), 25)));
    refused(
        "offset of column 7 is 112000698, expected 112000697",
        () ->
            HashLayout.stored(
                scheme,
                1,
                layout.multipliers(),
                layout.moduli(),
                with(layout.offsets(), 7, layout.offset(7) + 1)));
    refused(
        "2^63 rows",
        () ->
            HashLayout.stored(
                scheme,
                1,
                layout.multipliers(),
                with(layout.moduli(), 23, Long.MAX_VALUE),
                layout.offsets()));
  }

  /** The largest odd multiplier that fits is taken, the next is refused. */
  @Test
  void theOverflowCheckIsExact() {
    HashLayout layout = HashLayout.derive(Variants.V41).getFirst();
    long largest = Long.MAX_VALUE / 99_091;
    long fits = largest % 2 == 0 ? largest - 1 : largest;
    assertEquals(fits, restored(Variants.V41, layout, m -> with(m, 0, fits)).multiplier(0));
    refused(
        "does not fit 63 bits", () -> restored(Variants.V41, layout, m -> with(m, 0, fits + 2)));
    refused(
        "does not fit 63 bits",
        () -> restored(Variants.V41, layout, m -> with(m, 0, Long.MAX_VALUE)));
  }

  @Test
  void schemesThatRunOutOfNumbersAreRefused() {
    refused("too few primes", () -> HashLayout.derive(huge(Long.MAX_VALUE - 30, 0)));
    refused("2^63 rows", () -> HashLayout.derive(huge(Long.MAX_VALUE - 1000, 0)));
    refused("does not fit 63 bits", () -> HashLayout.derive(huge(10, Long.MAX_VALUE)));
  }

  private static HashScheme huge(long slots, long seed) {
    return new HashScheme(
        10,
        List.of(2),
        2,
        List.of(slots),
        List.of(1),
        seed,
        Generator.NUMPY_PCG64,
        PrimeSearch.RESTART_PER_ORDER,
        1);
  }

  private static long[] with(long[] values, int index, long value) {
    values[index] = value;
    return values;
  }

  private static void refused(String message, Runnable construction) {
    IllegalArgumentException e =
        assertThrows(IllegalArgumentException.class, construction::run, message);
    assertTrue(e.getMessage().contains(message), e.getMessage());
  }

  @Test
  void theFirstDifferenceIsNamed() {
    List<HashLayout> layouts = HashLayout.derive(Variants.DEMO);
    HashLayout layout = layouts.getFirst();
    differs("layer id is 1, the other has 15", layout, layouts.getLast());
    differs(
        "multiplier 2 is 36129212583461, the other has 36129212583463",
        layout,
        restored(Variants.DEMO, layout, m -> with(m, 2, m[2] + 2)));
    long[] moduli = with(layout.moduli(), 15, 646_621);
    differs(
        "modulus of column 15 is 646619, the other has 646621",
        layout,
        HashLayout.stored(Variants.DEMO, 1, layout.multipliers(), moduli, layout.offsets()));
    differs(
        "list of orders is [2, 3], the other has [2, 4]",
        layout,
        first(Variants.deepSeek(98_627, List.of(2, 4), 8, 646_400, List.of(1))));
    differs(
        "number of heads per order is 8, the other has 4",
        layout,
        first(Variants.deepSeek(98_627, List.of(2, 3), 4, 646_400, List.of(1))));
    HashScheme aligned =
        new HashScheme(
            98_627,
            List.of(2, 3),
            8,
            List.of(646_400L, 646_400L),
            List.of(1),
            0,
            Generator.NUMPY_PCG64,
            PrimeSearch.RESTART_PER_ORDER,
            1000);
    differs("number of rows is 10344164, the other has 10345000", layout, first(aligned));
  }

  private static HashLayout first(HashScheme scheme) {
    return HashLayout.derive(scheme).getFirst();
  }

  private static void differs(String message, HashLayout here, HashLayout there) {
    assertEquals(Optional.of("layer 1: " + message), here.firstDifference(there));
    assertNotEquals(here, there);
    assertTrue(there.firstDifference(here).isPresent());
  }

  @Test
  void arraysAreNeverShared() {
    HashLayout layout = HashLayout.derive(Variants.DEMO).getFirst();
    long[] multipliers = layout.multipliers();
    long[] moduli = layout.moduli();
    long[] offsets = layout.offsets();
    HashLayout stored = HashLayout.stored(Variants.DEMO, 1, multipliers, moduli, offsets);
    multipliers[0] = moduli[0] = offsets[0] = 4;
    layout.multipliers()[1] = layout.moduli()[1] = layout.offsets()[1] = 4;
    HashLayout again = HashLayout.derive(Variants.DEMO).getFirst();
    assertEquals(again, layout);
    assertEquals(again, stored);
    assertThrows(UnsupportedOperationException.class, () -> layout.orders().set(0, 5));
  }

  @Test
  void accessorsByColumnAgreeWithTheCopies() {
    HashLayout layout = HashLayout.derive(Variants.DEMO).getFirst();
    assertEquals(16, layout.columns());
    assertEquals(3, layout.maxOrder());
    assertEquals(8, layout.headsPerOrder());
    assertEquals(98_627, layout.vocabularySize());
    long rows = 0;
    for (int column = 0; column < layout.columns(); column++) {
      assertEquals(layout.moduli()[column], layout.modulus(column));
      assertEquals(rows, layout.offset(column));
      rows += layout.modulus(column);
    }
    assertEquals(rows, layout.hashedRows());
    assertThrows(IndexOutOfBoundsException.class, () -> layout.modulus(16));
    assertThrows(IndexOutOfBoundsException.class, () -> layout.offset(-1));
    assertThrows(IndexOutOfBoundsException.class, () -> layout.multiplier(3));
    assertFalse(layout.equals(null));
  }
}
