// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

@Tag("once")
class MappedFaultsTest {
  private static final int SIZE = 1 << 20;

  @TempDir Path directory;

  /** True if the copy failed in here, where it can be translated. */
  private static boolean failed(MemorySegment from, long at, MemorySegment to, long bytes) {
    try {
      MemorySegment.copy(from, at, to, 0, bytes);
      MappedFaults.raisePending();
      return false;
    } catch (InternalError e) {
      return true;
    }
  }

  /**
   * Without the call of {@code raisePending}, this fails for some sizes once the code is compiled:
   * the copy returns, and the error hits whoever polls next.
   */
  @ParameterizedTest
  @ValueSource(longs = {1, 8, 24, 264, 5000})
  void aFaultIsRaisedByTheCallThatCopied(long bytes) throws IOException {
    Path file = Files.write(directory.resolve("f"), new byte[SIZE]);
    try (Arena arena = Arena.ofShared();
        FileChannel channel =
            FileChannel.open(file, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
      MemorySegment from = channel.map(FileChannel.MapMode.READ_ONLY, 0, SIZE, arena);
      MemorySegment to = arena.allocate(bytes);
      for (int i = 0; i < 50_000; i++) {
        assertFalse(failed(from, i, to, bytes));
      }
      channel.truncate(4096);
      int raised = 0;
      for (int i = 0; i < 100; i++) {
        to.set(ValueLayout.JAVA_BYTE, 0, (byte) i);
        raised += failed(from, 500_000 + i, to, bytes) ? 1 : 0;
      }
      assertEquals(100, raised);
    }
  }

  @ParameterizedTest
  @ValueSource(longs = {0, 99, 100, 101})
  void sizesAreCompared(long end) throws IOException {
    Path file = Files.write(directory.resolve("f"), new byte[100]);
    assertEquals(end > 100, MappedFaults.isShorter(file, end));
    assertFalse(MappedFaults.isShorter(directory.resolve("absent"), end));
    assertTrue(
        MappedFaults.translate(file, "row 7", end, new InternalError())
            .getMessage()
            .contains("row 7 cannot be read from the mapping, which needs a file of " + end));
  }
}
