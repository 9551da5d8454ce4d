// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import io.engram.EngramException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.List;
import java.util.Optional;
import java.util.function.LongConsumer;

/**
 * Rows in place, in mapped files: the concatenation of one or more parts, each a run of values and,
 * where the format has them, a run of scales that lies elsewhere.
 *
 * <p>The rows belong to the arena of the mapping and not to this store: closing the store ends
 * reading, closing the arena unmaps. The system is asked not to read ahead (a row is a few hundred
 * bytes, read-ahead hundreds of times that), where it can be asked.
 *
 * <p>A row that is not in the page cache costs a page fault, which waits for the disk, one after
 * the other. As soon as some rows of a batch took that long, the system is asked for the pages of
 * the rest in advance (MADV_WILLNEED), and for those of the following batches before they are
 * touched, until a sample of a batch is found in memory. While all rows are in memory nothing is
 * asked. {@link #warmUp} reads the table into memory beforehand.
 *
 * <p>What a change of a file under the mapping does:
 *
 * <ul>
 *   <li>It becomes shorter: if the end of a part is gone, every read of rows of that part throws
 *       {@link EngramException}, in the very call and in compiled code too. Without that, the page
 *       in which the file now ends would show zeros without complaint.
 *   <li>It is replaced by another file of the same name: nothing, the old bytes stay readable.
 *   <li>It is overwritten in place: reads return the new bytes. No store can see that. Tables must
 *       be replaced, never overwritten; {@code Safetensors.checkUnchanged} can be asked.
 * </ul>
 */
public final class MappedRowStore implements RowStore {
  /** Deep enough for a disk, and small enough that warm rows are decoded from a near cache. */
  private static final int PREFERRED_BATCH = 256;

  /** Rows of a batch from which on it is watched whether it waits for the disk. */
  private static final int LEAST_WATCHED = 8;

  /** Rows whose copying is timed together. */
  private static final int GROUP = 8;

  /** A group that took longer has waited for the disk: in memory it takes a few microseconds. */
  private static final long SLOW_GROUP_NANOS = 50_000;

  /** Rows that are asked for before they are copied. */
  private static final int WINDOW = 1024;

  /** Rows of a batch that are looked at to see whether it is worth while to ask. */
  private static final int SAMPLE = 8;

  private static final long WARM_UP_BYTES = 8L << 20;
  private static final int SMALLEST_PAGE = 4096;

  /** Present where the system can be asked for pages of this table. */
  private final Optional<NativeMemory> os;

  /** Threads may overwrite each other's answer, which at worst is a wrong guess. */
  private final MemorySegment residencyFlags = Arena.ofAuto().allocate(Long.BYTES);

  /** Whether one of the latest batches has waited for the disk; a guess. */
  private volatile boolean onDisk;

  private final RowLayout layout;
  private final String name;
  private final long rowCount;
  private final int valueBytes;
  private final int scaleBytes;
  private final int rowBytes;
  private final MappedPart[] parts;
  private volatile boolean closed;

  /**
   * A part, with what is needed to notice that its file has lost bytes.
   *
   * @param tailRow first row that lies, wholly or partly, in the last page of values or scales
   * @param tail the rows from there on, values and scales together, in anonymous memory: if the
   *     file ends in that page, nothing but these copies can tell
   * @param lastValue the last byte of the values
   * @param lastScale the last byte of the scales, 0 if there are none
   */
  private record MappedPart(
      RowPart source,
      MemorySegment values,
      MemorySegment scales,
      long tailRow,
      MemorySegment tail,
      byte lastValue,
      byte lastScale) {}

  private MappedRowStore(
      String name, int valueBytes, int scaleBytes, List<RowPart> parts, Optional<NativeMemory> os) {
    layout = new RowLayout(name, valueBytes, scaleBytes, parts);
    this.name = name;
    this.valueBytes = valueBytes;
    this.scaleBytes = scaleBytes;
    rowBytes = layout.rowBytes();
    rowCount = layout.rowCount();
    // Before the first byte is touched: reading ahead may bring many megabytes.
    os.ifPresent(this::adviseRandom);
    int page = os.map(NativeMemory::pageSize).orElse(NativeMemory.LARGEST_PAGE);
    this.parts = layout.parts().stream().map(part -> mapped(part, page)).toArray(MappedPart[]::new);
    this.os = os.filter(system -> allMapped());
  }

  /**
   * A table over parts of mapped files.
   *
   * @param name the table's name, for messages
   * @param valueBytes value bytes of a row, at least 1
   * @param scaleBytes scale bytes of a row, 0 if the format has none
   * @param parts the parts in the order of their rows, at least one of them with rows
   * @return the store
   * @throws IllegalArgumentException if a part does not hold whole rows, lacks scales or has some
   *     that the format has not, its scales are not of as many rows as its values, or there are no
   *     rows at all
   * @throws IllegalStateException if a mapping is closed
   * @throws EngramException if a file is shorter than its part says
   */
  public static MappedRowStore of(
      String name, int valueBytes, int scaleBytes, List<RowPart> parts) {
    return of(name, valueBytes, scaleBytes, parts, NativeMemory.get());
  }

  static MappedRowStore of(
      String name, int valueBytes, int scaleBytes, List<RowPart> parts, Optional<NativeMemory> os) {
    return new MappedRowStore(name, valueBytes, scaleBytes, parts, os);
  }

  private MappedPart mapped(RowPart part, int page) {
    MemorySegment values = part.values().bytes();
    MemorySegment scales = part.scales().map(FileRegion::bytes).orElse(MemorySegment.NULL);
    long rows = values.byteSize() / valueBytes;
    long tailRow = wholeRows(values, valueBytes, page);
    if (scaleBytes > 0) {
      tailRow = Math.min(tailRow, wholeRows(scales, scaleBytes, page));
    }
    MemorySegment tail = Arena.ofAuto().allocate((rows - tailRow) * rowBytes);
    try {
      for (long row = tailRow; row < rows; row++) {
        long at = (row - tailRow) * rowBytes;
        MemorySegment.copy(values, row * valueBytes, tail, at, valueBytes);
        MemorySegment.copy(scales, row * scaleBytes, tail, at + valueBytes, scaleBytes);
      }
      MappedFaults.raisePending();
    } catch (InternalError e) {
      throw damaged(part.values(), e);
    }
    part.regions().forEach(this::checkSize);
    byte lastValue = tail.get(ValueLayout.JAVA_BYTE, tail.byteSize() - 1 - scaleBytes);
    byte lastScale = scaleBytes == 0 ? 0 : tail.get(ValueLayout.JAVA_BYTE, tail.byteSize() - 1);
    return new MappedPart(part, values, scales, tailRow, tail, lastValue, lastScale);
  }

  /** Number of rows, from the first on, that end before the last page of their region begins. */
  private static long wholeRows(MemorySegment region, int bytesPerRow, int page) {
    long lastPage = (region.address() + region.byteSize() - 1) / page * page;
    return Math.max(0, lastPage - region.address()) / bytesPerRow;
  }

  private void checkSize(FileRegion region) {
    MappedFaults.checkSize(region.file(), name, region.end());
  }

  private boolean allMapped() {
    return layout.parts().stream()
        .flatMap(part -> part.regions().stream())
        .allMatch(region -> region.bytes().isMapped());
  }

  private void adviseRandom(NativeMemory system) {
    for (RowPart part : layout.parts()) {
      for (FileRegion region : part.regions()) {
        if (region.bytes().isMapped() && region.bytes().scope().isAlive()) {
          system.adviseRandom(region.bytes());
        }
      }
    }
  }

  @Override
  public String name() {
    return name;
  }

  @Override
  public long rowCount() {
    return rowCount;
  }

  @Override
  public int rowBytes() {
    return rowBytes;
  }

  @Override
  public int preferredBatch() {
    return PREFERRED_BATCH;
  }

  @Override
  public void read(long[] rowIds, int from, int count, MemorySegment out, long outOffset) {
    checkOpen();
    ReadChecks.arguments(this, rowIds, from, count, out, outOffset);
    if (count == 0) {
      return;
    }
    boolean interrupted = Thread.currentThread().isInterrupted();
    try {
      try {
        copyRows(rowIds, from, count, out, outOffset);
      } finally {
        MappedFaults.raisePending();
      }
    } catch (InternalError e) {
      throw damaged(rowIds, from, count, e);
    } catch (IllegalStateException e) {
      ReadChecks.forgetInterrupt(interrupted);
      if (closed || !isMapped()) {
        throw ReadChecks.closed(this);
      }
      throw e;
    }
  }

  private void copyRows(long[] rowIds, int from, int count, MemorySegment out, long outOffset) {
    boolean few = count < parts.length;
    boolean watched = os.isPresent() && count >= LEAST_WATCHED;
    boolean asks = watched && expectsDisk(rowIds, from, count);
    int asked = from;
    long before = watched ? System.nanoTime() : 0;
    MappedPart part = null;
    long first = 0;
    long end = 0;
    long at = outOffset;
    for (int i = from; i < from + count; i++) {
      if (watched && (i - from) % GROUP == 0) {
        if (!asks) {
          long now = System.nanoTime();
          asks = now - before > SLOW_GROUP_NANOS;
          before = now;
          if (asks) {
            asked = i;
            onDisk = true;
          }
        }
        if (asks && asked - i < WINDOW / 2) {
          int to = Math.min(from + count, i + WINDOW);
          askFor(rowIds, asked, to);
          asked = to;
        }
      }
      long row = rowIds[i];
      if (row < first || row >= end) {
        if (row < 0 || row >= rowCount) {
          throw ReadChecks.rowId(this, row, i);
        }
        if (few && part != null) {
          touchLast(part);
        }
        int index = layout.partOf(row);
        part = parts[index];
        first = layout.firstRow(index);
        end = layout.endRow(index);
      }
      long local = row - first;
      if (local >= part.tailRow) {
        MemorySegment.copy(part.tail, (local - part.tailRow) * rowBytes, out, at, rowBytes);
      } else {
        MemorySegment.copy(part.values, local * valueBytes, out, at, valueBytes);
        if (scaleBytes > 0) {
          MemorySegment.copy(part.scales, local * scaleBytes, out, at + valueBytes, scaleBytes);
        }
      }
      at += rowBytes;
    }
    if (few) {
      touchLast(part);
    } else {
      for (MappedPart each : parts) {
        touchLast(each);
      }
    }
  }

  /**
   * Whether to ask for the pages of a batch before the first is touched: if one of the latest
   * batches has waited for the disk, and a sample of this one is not wholly in memory.
   */
  private boolean expectsDisk(long[] rowIds, int from, int count) {
    if (!onDisk) {
      return false;
    }
    NativeMemory system = os.orElseThrow();
    MemorySegment flags = residencyFlags;
    for (int i = 0; i < SAMPLE; i++) {
      long row = rowIds[from + (int) ((long) i * count / SAMPLE)];
      if (row >= 0 && row < rowCount) {
        int index = layout.partOf(row);
        long local = row - layout.firstRow(index);
        long value = parts[index].values.address() + local * valueBytes;
        long scale = parts[index].scales.address() + local * scaleBytes;
        if (system.residentPages(value, value + 1, flags) == 0
            || (scaleBytes > 0 && system.residentPages(scale, scale + 1, flags) == 0)) {
          return true;
        }
      }
    }
    onDisk = false;
    return false;
  }

  /** Lets the system begin to read the pages of some rows. */
  private void askFor(long[] rowIds, int from, int to) {
    NativeMemory system = os.orElseThrow();
    for (int i = from; i < to; i++) {
      long row = rowIds[i];
      if (row >= 0 && row < rowCount) {
        int index = layout.partOf(row);
        long local = row - layout.firstRow(index);
        long value = parts[index].values.address() + local * valueBytes;
        system.adviseWillNeed(value, value + valueBytes);
        if (scaleBytes > 0) {
          long scale = parts[index].scales.address() + local * scaleBytes;
          system.adviseWillNeed(scale, scale + scaleBytes);
        }
      }
    }
  }

  /**
   * Reads the table into the page cache and maps its pages, from the first row on, so that reads of
   * it need not wait for the disk. The system may drop the pages again when memory is short.
   *
   * <p>Without native access or on another platform the pages are read one after the other, as
   * single rows would be.
   *
   * @param budget bytes to read at most, at least 0
   * @param progress told the number of bytes that have been read so far
   * @return the number of bytes that have been read, of values and scales together
   * @throws IllegalArgumentException if the budget is negative
   * @throws IllegalStateException if the store or its mapping is closed, before or meanwhile
   * @throws EngramException if a file has become shorter
   */
  public long warmUp(long budget, LongConsumer progress) {
    if (budget < 0) {
      throw new IllegalArgumentException(name + ": a warm-up of " + budget + " bytes");
    }
    long done = 0;
    for (MappedPart part : parts) {
      // Values and scales of the same rows, if the budget ends within the part.
      long rows = part.values.byteSize() / valueBytes;
      long wanted = Math.min(rows, (budget - done) / rowBytes);
      long rowsPerStep = Math.max(1, WARM_UP_BYTES / rowBytes);
      for (long row = 0; row < wanted; row += rowsPerStep) {
        long to = Math.min(wanted, row + rowsPerStep);
        warm(part.source.values(), row * valueBytes, to * valueBytes);
        if (scaleBytes > 0) {
          warm(part.source.scales().orElseThrow(), row * scaleBytes, to * scaleBytes);
        }
        done += (to - row) * rowBytes;
        progress.accept(done);
      }
    }
    checkOpen();
    return done;
  }

  private void warm(FileRegion region, long from, long to) {
    checkOpen();
    MemorySegment bytes = region.bytes();
    long begin = bytes.address() + from;
    long end = bytes.address() + to;
    boolean populated = false;
    if (os.isPresent() && bytes.isMapped() && bytes.scope().isAlive()) {
      // Populating alone would read page by page, because of the advice to read at random.
      os.get().adviseWillNeed(begin, end);
      populated = os.get().populateRead(begin, end);
    }
    if (!populated) {
      touch(region, from, to);
    }
    checkSize(region);
  }

  private void touch(FileRegion region, long from, long to) {
    byte[] sink = new byte[1];
    try {
      for (long at = from; at < to; at += SMALLEST_PAGE) {
        MemorySegment.copy(region.bytes(), ValueLayout.JAVA_BYTE, at, sink, 0, 1);
      }
      MappedFaults.raisePending();
    } catch (InternalError e) {
      throw damaged(region, e);
    } catch (IllegalStateException e) {
      if (!region.bytes().scope().isAlive()) {
        throw ReadChecks.closed(this);
      }
      throw e;
    }
  }

  /**
   * Meets a fault if the file now ends before the last page of the part. Its rows may have been
   * zeros in the page of the new end, which is no fault. To be called after they were copied.
   */
  private void touchLast(MappedPart part) {
    // The comparisons also keep the compiler from dropping the loads.
    MemorySegment values = part.values;
    boolean same = values.get(ValueLayout.JAVA_BYTE, values.byteSize() - 1) == part.lastValue;
    if (scaleBytes > 0) {
      MemorySegment scales = part.scales;
      same &= scales.get(ValueLayout.JAVA_BYTE, scales.byteSize() - 1) == part.lastScale;
    }
    if (!same) {
      throw new EngramException(
          name
              + ": the last row in "
              + part.source.values().file()
              + " is not what it was when the table was opened: the file has changed");
    }
  }

  private EngramException damaged(long[] rowIds, int from, int count, InternalError cause) {
    for (int i = from; i < from + count; i++) {
      if (rowIds[i] < 0 || rowIds[i] >= rowCount) {
        break;
      }
      int part = layout.partOf(rowIds[i]);
      long local = rowIds[i] - layout.firstRow(part);
      RowPart source = parts[part].source;
      FileRegion values = source.values();
      long end = values.offset() + (local + 1) * valueBytes;
      if (MappedFaults.isShorter(values.file(), end)) {
        return MappedFaults.translate(values.file(), what(rowIds[i]), end, cause);
      }
      if (source.scales().isPresent()) {
        FileRegion scales = source.scales().get();
        long scaleEnd = scales.offset() + (local + 1) * scaleBytes;
        if (MappedFaults.isShorter(scales.file(), scaleEnd)) {
          return MappedFaults.translate(scales.file(), what(rowIds[i]), scaleEnd, cause);
        }
      }
    }
    for (int i = from; i < from + count && rowIds[i] >= 0 && rowIds[i] < rowCount; i++) {
      RowPart source = parts[layout.partOf(rowIds[i])].source;
      for (FileRegion region : source.regions()) {
        if (MappedFaults.isShorter(region.file(), region.end())) {
          return MappedFaults.translate(
              region.file(), name + " with row " + rowIds[i], region.end(), cause);
        }
      }
    }
    // The file that is mapped is no longer the one of that name, or has grown again meanwhile.
    return new EngramException(
        name
            + ": row "
            + rowIds[from]
            + " or one of the "
            + (count - 1)
            + " rows read with it cannot be read from its mapped file, which was shorter for a time"
            + " or has been replaced",
        cause);
  }

  private String what(long row) {
    return "row " + row + " of " + name;
  }

  private EngramException damaged(FileRegion region, InternalError cause) {
    return MappedFaults.translate(region.file(), name, region.end(), cause);
  }

  private void checkOpen() {
    if (closed) {
      throw ReadChecks.closed(this);
    }
  }

  private boolean isMapped() {
    for (MappedPart part : parts) {
      for (FileRegion region : part.source.regions()) {
        if (!region.bytes().scope().isAlive()) {
          return false;
        }
      }
    }
    return true;
  }

  @Override
  public void close() {
    closed = true;
  }

  @Override
  public String toString() {
    return name
        + ": "
        + rowCount
        + " rows of "
        + rowBytes
        + " bytes in "
        + parts.length
        + " mapped parts";
  }
}
