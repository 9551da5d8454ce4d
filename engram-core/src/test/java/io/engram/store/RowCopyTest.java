// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.management.ThreadMXBean;
import io.engram.hash.kernel.KernelChoice;
import io.engram.stats.MeteredRowStore;
import io.engram.testkit.Seeds;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.management.ManagementFactory;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Test;

/** Rows read from memory with the kernels of this pass, and where they are in memory. */
class RowCopyTest {
  private static final int ROWS = 300;

  @Test
  void theKernelsThatTheBuildAskedForAreTested() {
    assertEquals(
        KernelChoice.get() == KernelChoice.VECTOR ? "VectorRowCopy" : "ScalarRowCopy",
        RowCopy.get().getClass().getSimpleName());
  }

  /** Every size up to several groups of vectors, and outputs of any alignment. */
  @Test
  void rowsOfEverySizeAreWhole() {
    RandomGenerator random = Seeds.random("RowCopyTest.rowsOfEverySizeAreWhole");
    for (int rowBytes = 1; rowBytes < 700; rowBytes += rowBytes < 300 ? 1 : 13) {
      byte[] stored = new byte[ROWS * rowBytes];
      random.nextBytes(stored);
      try (RamRowStore store = RamRowStore.create("t", ROWS, rowBytes, 32);
          Arena arena = Arena.ofConfined()) {
        store.write(0, ROWS, MemorySegment.ofArray(stored), 0);
        int count = 1 + random.nextInt(200);
        long[] ids = random.longs(count + 3, 0, ROWS).toArray();
        ids[1] = ROWS - 1;
        int at = random.nextInt(70);
        byte[] wanted = new byte[at + count * rowBytes + 40];
        MemorySegment expected = MemorySegment.ofArray(wanted).fill((byte) 0x55);
        for (int i = 0; i < count; i++) {
          System.arraycopy(
              stored, (int) ids[i + 1] * rowBytes, wanted, at + i * rowBytes, rowBytes);
        }
        MemorySegment out = arena.allocate(wanted.length, 64).fill((byte) 0x55);
        store.read(ids, 1, count, out, at);
        assertEquals(-1, expected.mismatch(out), rowBytes + " bytes, to " + at);
        MemorySegment heap = MemorySegment.ofArray(new byte[wanted.length]).fill((byte) 0x55);
        store.read(ids, 1, count, heap, at);
        assertEquals(-1, expected.mismatch(heap), rowBytes + " bytes, to the heap");
      }
    }
  }

  @Test
  void fetchingChecksAndCountsAndRowsAreWhereTheyAreSaidToBe() {
    RamRowStore ram = RamRowStore.create("t", 100, 24, 8);
    byte[] stored = new byte[2400];
    Seeds.random("RowCopyTest.fetchingChecks").nextBytes(stored);
    ram.write(0, 100, MemorySegment.ofArray(stored), 0);
    MeteredRowStore store = new MeteredRowStore(ram, "RAM");
    RowMemory memory = store.memory().orElseThrow();
    memory.fetch(new long[] {5, 99, 0, 99}, 1, 3);
    assertEquals(-1, memory.rows().mismatch(MemorySegment.ofArray(stored)));
    assertEquals(1, store.statistics().reads());
    assertEquals(3, store.statistics().rows());
    for (long id : new long[] {-1, 100, 1L << 32, Long.MAX_VALUE, Long.MIN_VALUE}) {
      String message =
          assertThrows(
                  IndexOutOfBoundsException.class, () -> memory.fetch(new long[] {1, id}, 0, 2))
              .getMessage();
      assertTrue(message.contains("t: row id " + id + " at position 1, expected 0 to 99"), message);
    }
    assertEquals(5, store.statistics().failures());
    assertThrows(IndexOutOfBoundsException.class, () -> memory.fetch(new long[2], 1, 2));
    store.close();
    MemorySegment rows = memory.rows();
    assertThrows(IllegalStateException.class, () -> rows.get(ValueLayout.JAVA_BYTE, 0));
    String message =
        assertThrows(IllegalStateException.class, () -> memory.fetch(new long[1], 0, 1))
            .getMessage();
    assertTrue(message.contains("t: the row store is closed"), message);
  }

  @Test
  void readingAllocatesNothing() {
    try (RamRowStore store = RamRowStore.create("t", ROWS, 264);
        Arena arena = Arena.ofShared()) {
      long[] ids = new long[200];
      MemorySegment out = arena.allocate(200 * 264);
      ThreadMXBean threads =
          assertInstanceOf(ThreadMXBean.class, ManagementFactory.getThreadMXBean());
      long least = Long.MAX_VALUE;
      for (int round = 0; round < 30 && least >= 1000; round++) {
        long before = threads.getCurrentThreadAllocatedBytes();
        for (int i = 0; i < 1000; i++) {
          ids[i % 200] = i % ROWS;
          store.read(ids, 0, 200, out, 0);
        }
        least = Math.min(least, threads.getCurrentThreadAllocatedBytes() - before);
      }
      assertTrue(least < 1000, least + " bytes for 1000 reads");
      long before = threads.getCurrentThreadAllocatedBytes();
      byte[][] kept = new byte[1000][16];
      long made = threads.getCurrentThreadAllocatedBytes() - before;
      assertTrue(made >= 1000 * 16 && kept.length == 1000, made + " bytes: nothing is counted");
    }
  }
}
