// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.endurance;

import io.engram.Dtype;
import io.engram.EngramException;
import io.engram.store.RowStore;
import io.engram.table.EngramTable;
import io.engram.table.RowFormat;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicReference;
import java.util.concurrent.atomic.LongAdder;
import java.util.random.RandomGenerator;

/**
 * A process that gathers from one table through all tiers at once, with four threads, while another
 * process does things to the table's files. Obeys lines of its standard input:
 *
 * <ul>
 *   <li>{@code open DIR PARTS SLOTS}: opens all tiers and begins to gather;
 *   <li>{@code cut N}, {@code swapped N}, {@code none}: ends gathering, reads row by row, knowing
 *       that part N has become shorter, has been replaced or deleted, or nothing has happened, and
 *       closes everything.
 * </ul>
 *
 * <p>Exit code 0 if nothing but rows and {@link EngramException}s came of all that, each where the
 * contract says so.
 */
final class FaultChild {
  static final RowPattern PATTERN = new RowPattern(99, 256, 8);

  private static final int THREADS = 4;
  private static final int BATCH = 48;
  private static final int PROBES = 400;

  /** One bit of every sixteenth row is wrong: what the harness must notice. */
  private static final boolean FLIP = Boolean.getBoolean("engram.test.flip");

  private final TableFiles table;
  private final List<Serving.Opened> opened = new ArrayList<>();
  private final List<EngramTable> tables = new ArrayList<>();
  private final List<Thread> readers = new ArrayList<>();
  private final LongAdder right = new LongAdder();
  private final LongAdder refused = new LongAdder();
  private final LongAdder wrong = new LongAdder();
  private final LongAdder astray = new LongAdder();
  private final LongAdder batches = new LongAdder();
  private final AtomicReference<String> example = new AtomicReference<>("");
  private volatile boolean stop;

  private FaultChild(TableFiles table) {
    this.table = table;
  }

  public static void main(String[] arguments) throws Exception {
    boolean good = true;
    BufferedReader orders =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    FaultChild child = null;
    for (String line = orders.readLine(); line != null; line = orders.readLine()) {
      String[] words = line.split(" ", -1);
      if (words[0].equals("open")) {
        child =
            new FaultChild(
                TableFiles.in(
                    Path.of(words[1]),
                    Integer.parseInt(words[2]),
                    Long.parseLong(words[3]),
                    PATTERN));
        child.open();
        System.out.println("reading");
      } else {
        good &= child.finish(words[0], words.length > 1 ? Integer.parseInt(words[1]) : -1);
      }
    }
    System.out.println(good ? "good" : "bad");
    System.exit(good ? 0 : 1);
  }

  private void open() throws IOException {
    for (Serving serving : Serving.of(table)) {
      Serving.Opened each = serving.open(table);
      opened.add(each);
      RowStore store = FLIP ? new Flipping(each.store()) : each.store();
      tables.add(new EngramTable(store, RowFormat.FP8_BLOCK32, PATTERN.valueBytes()));
    }
    for (int t = 0; t < THREADS; t++) {
      long seed = System.nanoTime() + t;
      readers.add(Thread.ofPlatform().start(() -> gatherUntilStopped(Soak.generator(seed))));
    }
  }

  private void gatherUntilStopped(RandomGenerator random) {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment out = arena.allocate(4L * BATCH * PATTERN.valueBytes());
      long[] ids = new long[BATCH];
      while (!stop) {
        EngramTable from = tables.get(random.nextInt(tables.size()));
        int count = 1 + random.nextInt(BATCH);
        for (int i = 0; i < count; i++) {
          ids[i] = random.nextLong(table.rowCount());
        }
        batches.increment();
        Dtype type = random.nextBoolean() ? Dtype.F32 : Dtype.BF16;
        try {
          from.gather(ids, 0, count, out, 0, type);
        } catch (EngramException e) {
          refused.increment();
          continue;
        }
        for (int i = 0; i < count; i++) {
          check(from, ids[i], out, (long) i * PATTERN.valueBytes(), type);
        }
      }
    } catch (RuntimeException | Error e) {
      astray(e);
    }
  }

  private boolean check(EngramTable from, long row, MemorySegment out, long first, Dtype type) {
    for (int v = 0; v < PATTERN.valueBytes(); v++) {
      float found =
          type == Dtype.F32
              ? out.getAtIndex(ValueLayout.JAVA_FLOAT, first + v)
              : Float.intBitsToFloat(out.getAtIndex(ValueLayout.JAVA_SHORT, first + v) << 16);
      float expected = Decoded.fp8Block32(PATTERN, row, v);
      if (!Decoded.equal(expected, found)) {
        wrong.increment();
        note(
            "%s gives %s for value %d of row %d, which is %s"
                .formatted(from.store(), found, v, row, expected));
        return false;
      }
    }
    right.increment();
    return true;
  }

  private void note(String what) {
    example.compareAndSet("", what);
  }

  private void astray(Throwable e) {
    astray.increment();
    note(e.toString());
    e.printStackTrace(System.out);
  }

  /** Ends gathering and reads rows one by one, now that it is known what became of the files. */
  private boolean finish(String what, int part) throws InterruptedException {
    // However slow the machine, some of the gathering happens after what was done to the files.
    long until = batches.sum() + 50;
    while (batches.sum() < until && astray.sum() == 0) {
      Thread.sleep(5);
    }
    stop = true;
    for (Thread reader : readers) {
      reader.join();
    }
    long gathered = right.sum();
    long refusedBatches = refused.sum();
    RandomGenerator random = Soak.generator(System.nanoTime());
    MemorySegment out = Arena.ofAuto().allocate(4L * PATTERN.valueBytes());
    long violations = 0;
    long refusedRows = 0;
    for (int t = 0; t < tables.size(); t++) {
      Serving serving = opened.get(t).serving();
      for (int i = 0; i < PROBES; i++) {
        long row = random.nextLong(table.rowCount());
        boolean hit = part >= 0 && row >= table.firstRow(part) && row < table.firstRow(part + 1);
        boolean cut = what.equals("cut") && hit && serving.is(Serving.Trait.IN_PLACE);
        boolean read;
        try {
          tables.get(t).gather(new long[] {row}, 0, 1, out, 0, Dtype.F32);
          check(tables.get(t), row, out, 0, Dtype.F32);
          read = true;
        } catch (EngramException e) {
          refusedRows++;
          read = false;
        } catch (RuntimeException | Error e) {
          astray(e);
          continue;
        }
        if (read ? cut && serving.is(Serving.Trait.REFUSES_CUT_PARTS) : !cut) {
          violations++;
          note(serving.name() + (read ? " reads row " : " refuses row ") + row + " after " + what);
        }
      }
    }
    opened.forEach(Serving.Opened::close);
    System.out.printf(
        "%s %d: %d rows gathered, %d batches refused; then %d rows refused; %d wrong, %d astray,"
            + " %d violations %s%n",
        what,
        part,
        gathered,
        refusedBatches,
        refusedRows,
        wrong.sum(),
        astray.sum(),
        violations,
        example);
    boolean seen = !what.equals("cut") || refusedRows > 0;
    return wrong.sum() + astray.sum() + violations == 0 && seen && gathered > 0;
  }

  private record Flipping(RowStore right) implements RowStore {
    @Override
    public String name() {
      return right.name();
    }

    @Override
    public long rowCount() {
      return right.rowCount();
    }

    @Override
    public int rowBytes() {
      return right.rowBytes();
    }

    @Override
    public void read(long[] rowIds, int from, int count, MemorySegment out, long outOffset) {
      right.read(rowIds, from, count, out, outOffset);
      for (int i = 0; i < count; i++) {
        if (rowIds[from + i] % 16 == 0) {
          long at = outOffset + (long) i * rowBytes();
          // A sign: what else is flipped may be lost to a scale that makes it zero.
          byte value = out.get(ValueLayout.JAVA_BYTE, at);
          out.set(ValueLayout.JAVA_BYTE, at, (byte) (value ^ 0x80));
        }
      }
    }

    @Override
    public void close() {
      right.close();
    }
  }
}
