// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.hash.HashScheme.Generator;
import io.engram.hash.HashScheme.PrimeSearch;
import io.engram.hash.WindowRule.Dead;
import io.engram.testkit.Seeds;
import java.lang.management.ManagementFactory;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.random.RandomGenerator;
import java.util.stream.IntStream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;

class NgramHasherTest {
  private static final int ROUNDS = 400;

  private static final NgramHasher V41 =
      new NgramHasher(HashLayout.derive(Variants.V41).getFirst(), Variants.V41_RULE);

  /** A random layer with a random rule; moduli on both sides of what vectors can do. */
  private static NgramHasher randomHasher(RandomGenerator random) {
    int vocabulary = random.nextInt(3, 40);
    if (random.nextInt(4) == 0) {
      vocabulary = random.nextInt(3, Integer.MAX_VALUE);
    }
    List<Integer> orders = new ArrayList<>();
    for (int order = 1; order <= 6; order++) {
      if (random.nextInt(3) == 0) {
        orders.add(order);
      }
    }
    if (orders.isEmpty()) {
      orders.add(random.nextInt(1, 9));
    }
    long slots = 2 + (random.nextLong() >>> random.nextInt(8, 62));
    HashScheme scheme =
        new HashScheme(
            vocabulary,
            orders,
            random.nextInt(1, 12),
            Collections.nCopies(orders.size(), slots),
            List.of(random.nextInt(100)),
            random.nextInt(1000),
            random.nextBoolean() ? Generator.NUMPY_PCG64 : Generator.SPLITMIX64,
            random.nextBoolean() ? PrimeSearch.RESTART_PER_ORDER : PrimeSearch.ONE_RUN,
            random.nextInt(1, 200));
    int boundary = random.nextInt(3) == 0 ? WindowRule.NO_BOUNDARY : random.nextInt(3);
    Dead dead =
        switch (random.nextInt(3)) {
          case 0 -> Dead.REFUSED;
          case 1 -> Dead.BLOCKS;
          default -> boundary == WindowRule.NO_BOUNDARY ? Dead.BLOCKS : Dead.BOUNDARY;
        };
    WindowRule rule = new WindowRule(random.nextInt(3), boundary, dead);
    return new NgramHasher(HashLayout.derive(scheme).getFirst(), rule);
  }

  /** Ids with boundaries and dead positions in them, sometimes many, sometimes hardly any. */
  private static int[] randomIds(RandomGenerator random, NgramHasher hasher, int length) {
    int rarity = random.nextInt(2, 200);
    boolean dead = hasher.rule().dead() != Dead.REFUSED;
    int vocabulary = hasher.layout().vocabularySize();
    int[] ids = new int[length];
    for (int i = 0; i < length; i++) {
      ids[i] = random.nextInt(vocabulary);
      if (ids[i] == hasher.rule().boundary() || random.nextInt(rarity) == 0) {
        ids[i] = Math.max(random.nextInt(vocabulary), hasher.rule().boundary());
        if (dead && random.nextBoolean()) {
          ids[i] = Lookback.DEAD;
        }
      }
    }
    return ids;
  }

  @Test
  void everySchemeAndRuleFollowsTheWords() {
    RandomGenerator random = Seeds.random("everySchemeAndRuleFollowsTheWords");
    for (int round = 0; round < ROUNDS; round++) {
      NgramHasher hasher = randomHasher(random);
      // Around the size of a block, and far below.
      int[] ids = randomIds(random, hasher, random.nextInt(random.nextBoolean() ? 20 : 160));
      long[] expected = new ReferenceHasher(hasher.layout(), hasher.rule()).hash(ids);
      assertArrayEquals(expected, hasher.hash(ids), () -> hasher.layout() + " " + hasher.rule());
    }
  }

  @Test
  void rowsAreWithinTheTable() {
    RandomGenerator random = Seeds.random("rowsAreWithinTheTable");
    for (int round = 0; round < 50; round++) {
      NgramHasher hasher = randomHasher(random);
      HashLayout layout = hasher.layout();
      long[] rows = hasher.hash(randomIds(random, hasher, 100));
      for (int i = 0; i < rows.length; i++) {
        int column = i % hasher.columns();
        long row = rows[i] - layout.offset(column);
        assertTrue(row >= 0 && row < layout.modulus(column), () -> layout + " row " + row);
      }
    }
  }

  /** Hazard 4: however a sequence is cut, and whichever method hashes the pieces. */
  @Test
  void anyChunkingGivesTheSameRows() {
    RandomGenerator random = Seeds.random("anyChunkingGivesTheSameRows");
    for (int round = 0; round < ROUNDS; round++) {
      NgramHasher hasher = randomHasher(random);
      int columns = hasher.columns();
      int[] ids = randomIds(random, hasher, random.nextInt(200));
      long[] expected = hasher.hash(ids);
      int margin = random.nextInt(5);
      long[] rows = new long[expected.length + margin];
      Lookback past = Lookback.start();
      for (int from = 0; from < ids.length; ) {
        int most = random.nextInt(8) == 0 ? 100 : 4;
        int count = Math.min(random.nextInt(most), ids.length - from);
        int out = margin + from * columns;
        switch (random.nextInt(4)) {
          case 0 -> {
            // The chunk in an array of its own, whose surroundings must not be read.
            int[] alone = new int[count + 4];
            Arrays.fill(alone, Integer.MIN_VALUE);
            System.arraycopy(ids, from, alone, 2, count);
            hasher.hash(alone, 2, count, past, rows, out);
          }
          case 1 -> hasher.hashRange(ids, from, from + count, rows, out);
          case 2 -> {
            for (int i = 0; i < count; i++) {
              Lookback then = past.advance(ids, from, i);
              hasher.hash(ids[from + i], then, rows, out + i * columns);
            }
          }
          default -> {
            long[] chunk = hasher.hash(Arrays.copyOfRange(ids, from, from + count), past);
            System.arraycopy(chunk, 0, rows, out, chunk.length);
          }
        }
        past = past.advance(ids, from, count);
        from += count;
      }
      assertArrayEquals(expected, Arrays.copyOfRange(rows, margin, rows.length));
    }
  }

  /** The same with the look-back lost at the cut: the test above would notice. */
  @Test
  void aLostLookbackChangesRows() {
    RandomGenerator random = Seeds.random("aLostLookbackChangesRows");
    int[] ids = random.ints(64, 3, 99_092).toArray();
    int columns = V41.columns();
    long[] whole = V41.hash(ids);
    long[] second = V41.hash(Arrays.copyOfRange(ids, 37, 64));
    int differing = 0;
    for (int i = 0; i < 3 * columns; i++) {
      differing += whole[37 * columns + i] == second[i] ? 0 : 1;
    }
    // 24, 16 and 8 row ids reach before the cut.
    assertTrue(differing > 40, differing + " of 48 differ");
    assertArrayEquals(
        Arrays.copyOfRange(whole, 40 * columns, 64 * columns),
        Arrays.copyOfRange(second, 3 * columns, 27 * columns));
  }

  /** Hazard 5: rejected drafts. */
  @Test
  void rollingBackIsAsIfNothingWasDrafted() {
    RandomGenerator random = Seeds.random("rollingBackIsAsIfNothingWasDrafted");
    for (int round = 0; round < ROUNDS; round++) {
      NgramHasher hasher = randomHasher(random);
      int[] prompt = randomIds(random, hasher, random.nextInt(1, 150));
      int[] draft = randomIds(random, hasher, random.nextInt(1, 65));
      int[] rest = randomIds(random, hasher, random.nextInt(1, 10));
      Lookback past = Lookback.start().advance(prompt);
      Lookback drafted = past.advance(draft);
      int accepted = random.nextInt(draft.length + 1);
      int[] kept = Arrays.copyOf(draft, accepted);
      Lookback back = drafted.rollBack(draft.length - accepted);
      assertArrayEquals(
          hasher.hash(rest, past.advance(kept)), hasher.hash(rest, back), hasher::toString);
      assertArrayEquals(
          hasher.hash(rest, past.advance(kept)),
          hasher.hash(rest, Lookback.fromBytes(back.toBytes())));
    }
  }

  @Test
  void keepingRejectedDraftsWouldChangeRows() {
    Lookback past = Lookback.start().advance(new int[] {10, 20, 30, 40});
    Lookback drafted = past.advance(new int[] {50, 60});
    int[] next = {70};
    assertFalse(Arrays.equals(V41.hash(next, past), V41.hash(next, drafted)));
    assertArrayEquals(V41.hash(next, past), V41.hash(next, drafted.rollBack(2)));
  }

  @Test
  void aLookbackThatForgotWhatIsNeededIsRefused() {
    int[] ids = {5, 6, 7, 8, 9, 10, 11};
    long[] out = new long[V41.columns()];
    Lookback tiny = Lookback.start(2).advance(ids);
    refused(
        "position 7 keeps 2 ids, layer 1 needs the 3 before it", () -> V41.hash(4, tiny, out, 0));
    refused("needs the 3 before it", () -> V41.hash(new int[] {4, 4}, tiny));
    Lookback rolled = Lookback.start(4).advance(ids).rollBack(2);
    refused("position 5 keeps 2 ids", () -> V41.hash(4, rolled, out, 0));
    refused(
        "sequence 0: the look-back",
        () -> V41.hashBatch(new int[] {4}, 1, List.of(rolled), out, 0));
    refused(
        "sequence 0: the look-back",
        () -> V41.hashRagged(new int[] {4}, new int[] {0, 1}, List.of(rolled), out, 0));
    assertArrayEquals(new long[V41.columns()], out);
    // Just enough, and near the start, where less is enough.
    V41.hash(4, Lookback.start(3).advance(ids), out, 0);
    assertArrayEquals(
        V41.hash(new int[] {5, 4}),
        concat(V41.hash(new int[] {5}), V41.hash(new int[] {4}, Lookback.start(1).advance(5))));
  }

  private static long[] concat(long[] a, long[] b) {
    long[] both = Arrays.copyOf(a, a.length + b.length);
    System.arraycopy(b, 0, both, a.length, b.length);
    return both;
  }

  @Test
  void batchesAreTheirSequences() {
    RandomGenerator random = Seeds.random("batchesAreTheirSequences");
    for (int round = 0; round < ROUNDS; round++) {
      NgramHasher hasher = randomHasher(random);
      int columns = hasher.columns();
      int sequences = random.nextInt(1, 6);
      int length = random.nextInt(30);
      boolean equal = random.nextBoolean();
      boolean continued = random.nextBoolean();
      int skipped = equal ? 0 : random.nextInt(4);
      int[] starts = new int[sequences + 1];
      starts[0] = skipped;
      List<Lookback> pasts = new ArrayList<>();
      long[] expected = new long[0];
      int[] ids = new int[skipped];
      Arrays.fill(ids, Integer.MIN_VALUE);
      for (int s = 0; s < sequences; s++) {
        int[] chunk = randomIds(random, hasher, equal ? length : random.nextInt(30));
        Lookback past = Lookback.start();
        if (continued) {
          past = past.advance(randomIds(random, hasher, random.nextInt(20)));
        }
        pasts.add(past);
        expected = concat(expected, hasher.hash(chunk, past));
        starts[s + 1] = starts[s] + chunk.length;
        ids = Arrays.copyOf(ids, starts[s + 1]);
        System.arraycopy(chunk, 0, ids, starts[s], chunk.length);
      }
      List<Lookback> given = continued ? pasts : List.of();
      long[] rows = new long[(ids.length - skipped) * columns + 2];
      hasher.hashRagged(ids, starts, given, rows, 1);
      assertArrayEquals(expected, Arrays.copyOfRange(rows, 1, rows.length - 1));
      if (equal) {
        long[] batch = new long[rows.length];
        hasher.hashBatch(ids, sequences, given, batch, 1);
        assertArrayEquals(rows, batch);
      }
    }
  }

  /** Hazard 9: ids out of range are refused, by position, before anything is written. */
  @Test
  void idsOutOfRangeAreRefusedByPosition() {
    long[] out = new long[10 * V41.columns()];
    int[] ids = {1, 2, 99_092, 4};
    String text = "id 99092 at position 2, index 2 is outside 0..99091";
    refused(text, () -> V41.hash(ids));
    refused(text, () -> V41.hash(ids, 0, 4, Lookback.start(), out, 0));
    refused(text, () -> V41.hashRange(ids, 0, 4, out, 0));
    refused(text, () -> V41.hashRange(ids, 3, 4, out, 0));
    refused("sequence 1: id 99092 at position 0", () -> V41.hashBatch(ids, 2, List.of(), out, 0));
    refused(
        "sequence 0: id 99092 at position 2",
        () -> V41.hashRagged(ids, new int[] {0, 3, 4}, List.of(), out, 0));
    Lookback past = Lookback.start().advance(new int[] {7, 8, 9, 10});
    refused("id 99092 at position 4, index 2", () -> V41.hash(ids, 2, 2, past, out, 0));
    refused("id -2 at position 4", () -> V41.hash(-2, past, out, 0));
    refused("id -2147483648 at", () -> V41.hash(Integer.MIN_VALUE, past, out, 0));
    refused("id 99092 at position 4", () -> V41.hash(99_092, past, out, 0));
    // Raw ids in a look-back where compressed ones belong.
    Lookback raw = past.map(id -> id == 9 ? 129_264 : id);
    refused("id 129264 at position 2 of the look-back", () -> V41.hash(5, raw, out, 0));
    refused("id 129264 at position 2 of the look-back", () -> V41.hash(new int[] {5}, raw));
    assertArrayEquals(new long[out.length], out);
    V41.hash(99_091, past, out, 0);
  }

  @Test
  void deadPositionsAreRefusedWhereTheRuleHasNone() {
    NgramHasher demo =
        new NgramHasher(
            HashLayout.derive(Variants.DEMO).getFirst(), WindowRule.padded(Variants.PAD));
    int[] ids = {1, 2, Lookback.DEAD};
    long[] out = new long[3 * demo.columns()];
    refused("position 2, index 2 is DEAD", () -> demo.hash(ids));
    refused(
        "position 0, index 0 is DEAD", () -> demo.hash(Lookback.DEAD, Lookback.start(), out, 0));
    refused("position 2, index 2 is DEAD", () -> demo.hashRange(ids, 0, 3, out, 0));
    Lookback past = Lookback.start().advance(ids);
    refused("position 2 of the look-back is DEAD", () -> demo.hash(1, past, out, 0));
    assertArrayEquals(new long[out.length], out);
  }

  @Test
  void rulesOutsideTheVocabularyAreRefused() {
    HashLayout layout = V41.layout();
    refused("99092", () -> new NgramHasher(layout, WindowRule.padded(99_092)));
    refused("99092", () -> new NgramHasher(layout, new WindowRule(2, 99_092, Dead.BLOCKS)));
    assertThrows(NullPointerException.class, () -> new NgramHasher(layout, null));
  }

  @Test
  void rangesThatDoNotFitAreRefused() {
    int columns = V41.columns();
    int[] ids = {1, 2, 3, 4};
    long[] out = new long[4 * columns];
    Lookback past = Lookback.start();
    refused("ids has 4 elements", () -> V41.hash(ids, 2, 3, past, out, 0));
    refused("ids has 4 elements", () -> V41.hash(ids, -1, 2, past, out, 0));
    refused("ids has 4 elements", () -> V41.hash(ids, 1, -1, past, out, 0));
    refused("out has 96 elements", () -> V41.hash(ids, 0, 4, past, out, 1));
    refused("out has 96 elements", () -> V41.hash(ids, 0, 1, past, out, -1));
    refused("out has 96 elements", () -> V41.hash(1, past, out, 73));
    refused("sequence has 4 elements", () -> V41.hashRange(ids, 0, 5, out, 0));
    refused("sequence has 4 elements", () -> V41.hashRange(ids, 3, 2, out, 0));
    refused("sequence has 4 elements", () -> V41.hashRange(ids, -1, 2, out, 0));
    refused("out has 96 elements", () -> V41.hashRange(ids, 0, 4, out, 24));
    refused("do not divide into 3", () -> V41.hashBatch(ids, 3, List.of(), out, 0));
    refused("do not divide into 0", () -> V41.hashBatch(ids, 0, List.of(), out, 0));
    refused("out has 96", () -> V41.hashBatch(ids, 2, List.of(), out, 1));
    refused(
        "found 1 look-backs for 2 sequences", () -> V41.hashBatch(ids, 2, List.of(past), out, 0));
    refused("starts is empty", () -> V41.hashRagged(ids, new int[0], List.of(), out, 0));
    refused(
        "starts descends from 3 to 2 at index 2",
        () -> V41.hashRagged(ids, new int[] {0, 3, 2, 4}, List.of(), out, 0));
    refused(
        "ids has 4 elements", () -> V41.hashRagged(ids, new int[] {0, 3, 5}, List.of(), out, 0));
    refused(
        "ids has 4 elements", () -> V41.hashRagged(ids, new int[] {-1, 3, 4}, List.of(), out, 0));
    refused(
        "out has 96 elements", () -> V41.hashRagged(ids, new int[] {0, 3, 4}, List.of(), out, 1));
    refused(
        "found 3 look-backs for 2 sequences",
        () -> V41.hashRagged(ids, new int[] {0, 3, 4}, List.of(past, past, past), out, 0));
    assertArrayEquals(new long[out.length], out);
  }

  private static void refused(String message, Executable call) {
    IllegalArgumentException e = assertThrows(IllegalArgumentException.class, call, message);
    assertTrue(e.getMessage().contains(message), e.getMessage());
  }

  @Test
  void zeroTokensWriteNothing() {
    long[] out = {-7, -7};
    V41.hash(new int[3], 3, 0, Lookback.start(), out, 2);
    V41.hashRange(new int[3], 2, 2, out, 0);
    V41.hashBatch(new int[0], 4, List.of(), out, 1);
    V41.hashRagged(new int[5], new int[] {2, 2, 2}, List.of(), out, 0);
    V41.hashRagged(new int[5], new int[] {2}, List.of(), out, 0);
    assertArrayEquals(new long[] {-7, -7}, out);
    assertEquals(0, V41.hash(new int[0]).length);
  }

  @Test
  void nothingIsWrittenBesideTheRange() {
    RandomGenerator random = Seeds.random("nothingIsWrittenBesideTheRange");
    for (int round = 0; round < 100; round++) {
      NgramHasher hasher = randomHasher(random);
      int[] ids = randomIds(random, hasher, random.nextInt(1, 100));
      int before = random.nextInt(1, 20);
      int after = random.nextInt(1, 20);
      long[] out = new long[before + ids.length * hasher.columns() + after];
      Arrays.fill(out, -7);
      hasher.hash(ids, 0, ids.length, Lookback.start(), out, before);
      for (int i = 0; i < out.length; i++) {
        assertEquals(i < before || i >= out.length - after, out[i] == -7);
      }
    }
  }

  /** A dead position hashes as fill only, and nothing is seen across it. */
  @Test
  void deadPositionsBlockForGood() {
    int pad = Variants.PAD;
    int[] ids = {10, 11, Lookback.DEAD, 12, 13, 14, 15};
    long[] rows = V41.hash(ids);
    int columns = V41.columns();
    assertArrayEquals(V41.hash(new int[] {pad}), ReferenceHasher.positions(rows, columns, 2, 3));
    assertArrayEquals(
        V41.hash(new int[] {12, 13, 14, 15}), ReferenceHasher.positions(rows, columns, 3, 7));
  }

  @Test
  void theBoundarySeesItsOwnSegment() {
    NgramHasher qwen =
        new NgramHasher(
            HashLayout.derive(Variants.QWEN).getFirst(), Variants.qwenRule(Variants.QWEN_EOS));
    int eos = Variants.QWEN_EOS;
    long[] rows = qwen.hash(new int[] {5, 6, eos, 7, 8});
    int columns = qwen.columns();
    assertArrayEquals(
        ReferenceHasher.positions(qwen.hash(new int[] {5, 6, eos}), columns, 2, 3),
        ReferenceHasher.positions(rows, columns, 2, 3));
    assertFalse(
        Arrays.equals(qwen.hash(new int[] {eos}), ReferenceHasher.positions(rows, columns, 2, 3)));
    assertArrayEquals(qwen.hash(new int[] {7, 8}), ReferenceHasher.positions(rows, columns, 3, 5));
  }

  /** Row ids at a position depend on that many ids and on no later ones. */
  @Test
  void windowsAreCausalAndShort() {
    RandomGenerator random = Seeds.random("windowsAreCausalAndShort");
    int columns = V41.columns();
    int[] ids = random.ints(40, 3, 99_092).toArray();
    long[] rows = V41.hash(ids);
    int changed = 20;
    ids[changed]++;
    ids[changed] %= 99_092;
    long[] other = V41.hash(ids);
    for (int p = 0; p < ids.length; p++) {
      boolean same =
          Arrays.equals(
              ReferenceHasher.positions(rows, columns, p, p + 1),
              ReferenceHasher.positions(other, columns, p, p + 1));
      assertEquals(p < changed || p > changed + 3, same, "position " + p);
    }
  }

  @Test
  void accessorsGiveWhatWasPassed() {
    assertSame(Variants.V41_RULE, V41.rule());
    assertEquals(24, V41.columns());
    assertEquals(1, V41.layout().layerId());
  }

  /** Decoding and prefilling into a caller's array, once compiled, allocate nothing. */
  @Test
  void hotPathsAllocateNothing() {
    RandomGenerator random = Seeds.random("hotPathsAllocateNothing");
    int[] ids = random.ints(256, 0, 99_092).toArray();
    Arrays.fill(ids, 50, 70, Lookback.DEAD);
    ids[254] = Lookback.DEAD;
    Lookback past = Lookback.start().advance(ids);
    List<Lookback> pasts = List.of(past, past);
    int[] starts = {0, 100, 256};
    long[] out = new long[ids.length * V41.columns()];
    neverAllocates(() -> {
      for (int id : ids) {
        V41.hash(id, past, out, 0);
      }
    });
    neverAllocates(() -> V41.hash(ids, 0, ids.length, past, out, 0));
    neverAllocates(() -> {
      for (int p = 0; p < ids.length; p++) {
        V41.hashRange(ids, p, p + 1, out, 0);
      }
    });
    neverAllocates(() -> V41.hashBatch(ids, 2, pasts, out, 0));
    neverAllocates(() -> V41.hashRagged(ids, starts, pasts, out, 0));
  }

  /** Interpreted vectors live on the heap, so this waits until compiled code runs. */
  private static void neverAllocates(Runnable call) {
    var threads = (com.sun.management.ThreadMXBean) ManagementFactory.getThreadMXBean();
    long allocated = Long.MAX_VALUE;
    long deadline = System.nanoTime() + 20_000_000_000L;
    while (allocated > 0 && System.nanoTime() < deadline) {
      for (int i = 0; i < 50; i++) {
        call.run();
      }
      long before = threads.getCurrentThreadAllocatedBytes();
      for (int i = 0; i < 20; i++) {
        call.run();
      }
      allocated = threads.getCurrentThreadAllocatedBytes() - before;
    }
    assertEquals(0, allocated);
  }

  @Test
  void oneHasherServesManyThreads() throws Exception {
    RandomGenerator random = Seeds.random("oneHasherServesManyThreads");
    int[] ids = random.ints(2000, -1, 99_092).toArray();
    long[] expected = V41.hash(ids);
    List<Callable<long[]>> calls =
        IntStream.range(0, 32)
            .<Callable<long[]>>mapToObj(i ->
                () -> {
                  long[] out = new long[expected.length];
                  Lookback past = Lookback.start();
                  for (int from = 0; from < ids.length; ) {
                    int count = Math.min(1 + (from * 31 + i) % 97, ids.length - from);
                    V41.hash(ids, from, count, past, out, from * V41.columns());
                    past = past.advance(ids, from, count);
                    from += count;
                  }
                  return out;
                })
            .toList();
    try (ExecutorService pool = Executors.newFixedThreadPool(4)) {
      for (Future<long[]> result : pool.invokeAll(calls)) {
        assertArrayEquals(expected, result.get());
      }
    }
  }
}
