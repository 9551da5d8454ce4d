// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.endurance;

import io.engram.Dtype;
import io.engram.EngramException;
import io.engram.EngramMemory;
import io.engram.MemoryOptions;
import io.engram.Tier;
import io.engram.checkpoint.Checkpoint;
import io.engram.hash.Lookback;
import io.engram.store.DirectReads;
import io.engram.store.DirectRowStore;
import io.engram.store.RowStore;
import io.engram.table.EngramTable;
import io.engram.table.RowFormat;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Locale;
import java.util.random.RandomGenerator;
import java.util.random.RandomGeneratorFactory;
import java.util.stream.LongStream;

/** Reads a {@link SparseCheckpoint} through the library and compares. Also a program of its own. */
final class FullSizeReader {
  private static final ValueLayout.OfFloat FLOAT = ValueLayout.JAVA_FLOAT_UNALIGNED;
  private static final ValueLayout.OfShort SHORT = ValueLayout.JAVA_SHORT_UNALIGNED;
  private static final int BATCH = 200;
  private static final int HOLES = 500;

  private final EngramMemory memory;
  private final Path directory;
  private final RandomGenerator random;
  private long checked;
  private long wrong;

  private FullSizeReader(EngramMemory memory, Path directory, long seed) {
    this.memory = memory;
    this.directory = directory;
    this.random = RandomGeneratorFactory.of("L64X128MixRandom").create(seed);
  }

  /** What was found: rows looked at, and those of them that were not what they should be. */
  record Findings(long checked, long wrong) {}

  /** Opens a checkpoint with its tables mapped, however large they are. */
  static EngramMemory open(Path directory) {
    return EngramMemory.open(directory, MemoryOptions.builder().tier(Tier.MAPPED).build());
  }

  static Findings read(EngramMemory memory, Path directory, long seed) throws IOException {
    FullSizeReader reader = new FullSizeReader(memory, directory, seed);
    for (int layer : memory.config().layerIds()) {
      reader.readLayer(layer, memory.table(layer));
      reader.readText(layer);
    }
    return new Findings(reader.checked, reader.wrong);
  }

  /** The same rows by direct reads of the same files. */
  static Findings readDirectly(EngramMemory memory, Path directory, long seed, DirectReads how)
      throws IOException {
    FullSizeReader reader = new FullSizeReader(memory, directory, seed);
    RowFormat format = memory.config().rowFormat();
    int headDim = memory.config().headDim();
    try (Checkpoint checkpoint = Checkpoint.open(directory)) {
      for (int layer : memory.config().layerIds()) {
        try (RowStore store =
            DirectRowStore.of(
                "layer " + layer,
                format.valueBytes(headDim),
                format.scaleBytes(headDim),
                checkpoint.rowParts(layer),
                how)) {
          reader.readLayer(layer, memory.table(layer).over(store));
        }
      }
    }
    return new Findings(reader.checked, reader.wrong);
  }

  /** Arguments: the directory, and a seed for the order of the reads. */
  public static void main(String[] arguments) throws IOException {
    Locale.setDefault(Locale.ROOT);
    Path directory = Path.of(arguments[0]);
    long start = System.nanoTime();
    long seed = Long.parseLong(arguments[1]);
    boolean right = true;
    try (EngramMemory memory = open(directory)) {
      double opened = (System.nanoTime() - start) / 1e9;
      System.out.printf("opened in %.2f s%n", opened);
      right &= report("mapped", read(memory, directory, seed));
      right &=
          report(
              "direct, page cache",
              readDirectly(memory, directory, seed + 1, DirectReads.buffered()));
      try {
        right &=
            report(
                "direct, O_DIRECT",
                readDirectly(memory, directory, seed + 2, DirectReads.uncached()));
      } catch (EngramException e) {
        System.out.println("without O_DIRECT: " + e.getMessage());
      }
      if (ProcessFigures.available()) {
        System.out.printf(
            "heap peak %s, resident %s of which anonymous %s%n",
            ProcessFigures.mib(ProcessFigures.peakHeap()),
            ProcessFigures.mib(ProcessFigures.memory().get("VmRSS")),
            ProcessFigures.mib(ProcessFigures.anonymous()));
      }
    }
    System.exit(right ? 0 : 1);
  }

  private static boolean report(String tier, Findings findings) {
    System.out.printf(
        "%s: %d rows checked, %d wrong%n", tier, findings.checked(), findings.wrong());
    return findings.wrong() == 0 && findings.checked() > 0;
  }

  private RowPattern pattern(int layer) {
    return memory.config().rowFormat() == RowFormat.FP8_BLOCK32
        ? SparseCheckpoint.v41Pattern(layer)
        : SparseCheckpoint.plePattern();
  }

  private float expected(RowPattern pattern, long row, int index) {
    return pattern.scaleBytes() > 0
        ? Decoded.fp8Block32(pattern, row, index)
        : Decoded.bfloat16(pattern, row, index);
  }

  private void readLayer(int layer, EngramTable table) throws IOException {
    RowPattern pattern = pattern(layer);
    long[] written = SparseFiles.readLongs(directory.resolve("written." + layer + ".rows"));
    long[] shuffled = written.clone();
    for (int i = shuffled.length - 1; i > 0; i--) {
      int j = random.nextInt(i + 1);
      long row = shuffled[i];
      shuffled[i] = shuffled[j];
      shuffled[j] = row;
    }
    int width = table.headDim();
    float[] row = new float[width];
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment floats = arena.allocate(4L * BATCH * width);
      MemorySegment halves = arena.allocate(2L * BATCH * width);
      for (int at = 0; at < shuffled.length; at += BATCH) {
        int count = Math.min(BATCH, shuffled.length - at);
        table.gather(shuffled, at, count, floats, 0, Dtype.F32);
        table.gather(shuffled, at, count, halves, 0, Dtype.BF16);
        float[] array = table.gather(Arrays.copyOfRange(shuffled, at, at + count));
        for (int i = 0; i < count; i++) {
          boolean right = true;
          for (int v = 0; v < width; v++) {
            long index = (long) i * width + v;
            float want = expected(pattern, shuffled[at + i], v);
            row[v] = floats.getAtIndex(FLOAT, index);
            right &= Decoded.equal(want, row[v]);
            right &= Decoded.equal(want, array[i * width + v]);
            float half = Float.intBitsToFloat(halves.getAtIndex(SHORT, index) << 16);
            right &= Decoded.equal(want, half);
          }
          count(right);
        }
      }
    }
    long[] holes = random.longs(HOLES, 0, table.rowCount()).toArray();
    float[] nothing = table.gather(holes);
    for (int i = 0; i < holes.length; i++) {
      if (Arrays.binarySearch(written, holes[i]) < 0) {
        boolean zero = true;
        for (int v = 0; v < width; v++) {
          zero &= nothing[i * width + v] == 0;
        }
        count(zero);
      }
    }
    for (long id : new long[] {-1, table.rowCount(), Long.MAX_VALUE, Long.MIN_VALUE}) {
      try {
        table.gather(0, id);
        count(false);
      } catch (IndexOutOfBoundsException e) {
        count(e.getMessage().contains(String.valueOf(id)));
      }
    }
  }

  /** The text again, hashed by the library, in chunks of any size. */
  private void readText(int layer) throws IOException {
    RowPattern pattern = pattern(layer);
    int[] ids =
        LongStream.of(SparseFiles.readLongs(directory.resolve("text.ids")))
            .mapToInt(Math::toIntExact)
            .toArray();
    long[] rows = SparseFiles.readLongs(directory.resolve("text." + layer + ".rows"));
    count(Arrays.equals(rows, memory.rowIds(layer, ids)));
    int columns = memory.config().hashing().columns();
    int width = memory.config().headDim();
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment out = arena.allocate(4L * ids.length * columns * width);
      Lookback past = Lookback.start();
      for (int at = 0; at < ids.length; ) {
        int chunk = Math.min(1 + random.nextInt(40), ids.length - at);
        memory.lookup(layer, ids, at, chunk, past, out.asSlice(4L * at * columns * width));
        past = past.advance(ids, at, chunk);
        at += chunk;
      }
      for (int i = 0; i < rows.length; i++) {
        boolean right = true;
        for (int v = 0; v < width; v++) {
          right &=
              Decoded.equal(
                  expected(pattern, rows[i], v), out.getAtIndex(FLOAT, (long) i * width + v));
        }
        count(right);
      }
    }
  }

  private void count(boolean right) {
    checked++;
    wrong += right ? 0 : 1;
  }
}
