// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import io.engram.EngramException;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.file.Path;

/** Reads bytes of a file whole, however little the system returns at a time, or says why not. */
final class FileReads {
  /** How many times in a row a read may return less than one aligned block and not be at an end. */
  private static final int PATIENCE = 8;

  /** How much of the ends of a region is compared with its mapping. */
  private static final int COMPARED_BYTES = 4096;

  private FileReads() {}

  /**
   * Refuses a file that was replaced after it was mapped: it has other bytes, or ends too soon. The
   * first and last bytes of the region are compared.
   *
   * @param table what is read, for messages
   * @throws EngramException if the file is another one, or cannot be read
   */
  static void compare(PositionalFile source, ReadSeat seat, FileRegion region, String table) {
    long size = region.bytes().byteSize();
    if (region.bytes().isMapped() && region.bytes().scope().isAlive()) {
      // Comparing would read ahead, which may bring many megabytes.
      NativeMemory.get().ifPresent(os -> os.adviseRandom(region.bytes()));
    }
    int some = (int) Math.min(size, COMPARED_BYTES);
    for (long from : new long[] {size - some, 0}) {
      long position = region.offset() + from;
      if (some == 0) {
        return;
      }
      int skipped = fill(source, region.file(), seat, position, some, table, -1);
      byte[] mapped = new byte[some];
      try {
        // Copied first: comparing may load vectors, which must not meet a truncated mapping.
        MemorySegment.copy(region.bytes(), ValueLayout.JAVA_BYTE, from, mapped, 0, some);
        MappedFaults.raisePending();
      } catch (InternalError e) {
        throw MappedFaults.translate(region.file(), table, region.end(), e);
      }
      long differs =
          MemorySegment.mismatch(
              seat.buffer(),
              skipped,
              skipped + (long) some,
              MemorySegment.ofArray(mapped),
              0,
              some);
      if (differs >= 0) {
        throw new EngramException(
            region.file()
                + ": byte "
                + (position + differs)
                + " is not what it was when "
                + table
                + " was mapped: the file has been replaced; open the checkpoint anew");
      }
    }
  }

  /**
   * Reads bytes of a file into the buffer of a seat.
   *
   * @param source the file
   * @param path its name, for messages
   * @param table what is read, for messages
   * @param row the row that is read, for messages; -1 if it is none in particular
   * @return where in the buffer the bytes start: there may be others before them
   * @throws EngramException if the file ends before the bytes do, or cannot be read
   */
  static int fill(
      PositionalFile source,
      Path path,
      ReadSeat seat,
      long position,
      int bytes,
      String table,
      long row) {
    int alignment = source.alignment();
    long begin = position & -alignment;
    int skipped = (int) (position - begin);
    int needed = skipped + bytes;
    int whole = (needed + alignment - 1) & -alignment;
    int have = 0;
    int idle = 0;
    while (true) {
      long count;
      try {
        count = source.read(seat, have, whole - have, begin + have);
      } catch (IOException e) {
        throw new EngramException(at(path, begin + have, table, row) + ": " + e, e);
      }
      if (count == -NativeFiles.EINTR) {
        continue;
      }
      if (count < 0) {
        throw new EngramException(
            at(path, begin + have, table, row) + ": " + NativeFiles.describe((int) -count));
      }
      if (have + count >= needed) {
        return skipped;
      }
      // What follows must be aligned again.
      int gained = (int) ((have + count) & -alignment) - have;
      have += gained;
      idle = gained > 0 ? 0 : idle + 1;
      if (count == 0 || idle == PATIENCE) {
        throw new EngramException(
            at(path, position, table, row)
                + " are not there: "
                + bytes
                + " bytes are needed, and the file "
                + (count == 0
                    ? "ends at or before byte " + (begin + have) + "; it was longer when opened"
                    : "yields no more than " + Math.max(0, have + count - skipped)));
      }
    }
  }

  private static String at(Path path, long position, String table, long row) {
    return path + ": bytes at " + position + (row < 0 ? "" : ", with row " + row) + " of " + table;
  }
}
