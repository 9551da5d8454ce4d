// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import io.engram.EngramException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.Optional;

/**
 * Rows in place, in mapped files: the concatenation of one or more parts, each a run of values and,
 * where the format has them, a run of scales that lies elsewhere.
 *
 * <p>The rows belong to the arena of the mapping and not to this store: closing the store ends
 * reading, closing the arena unmaps. The system is asked not to read ahead (a row is a few hundred
 * bytes, read-ahead hundreds of times that), where it can be asked.
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
  private final String name;
  private final long rowCount;
  private final int valueBytes;
  private final int scaleBytes;
  private final int rowBytes;
  private final long[] firstRows;

  /** Rows of every part but the last, or 0 if they differ. */
  private final long rowsPerPart;

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
    this.name = Objects.requireNonNull(name, "name");
    if (valueBytes < 1 || scaleBytes < 0) {
      throw new IllegalArgumentException(
          name + ": rows of " + valueBytes + " value bytes and " + scaleBytes + " scale bytes");
    }
    this.valueBytes = valueBytes;
    this.scaleBytes = scaleBytes;
    rowBytes = Math.addExact(valueBytes, scaleBytes);
    long rows = 0;
    List<RowPart> filled = new ArrayList<>();
    long[] first = new long[parts.size() + 1];
    for (RowPart part : parts) {
      long partRows = rowsOf(part);
      if (partRows > 0) {
        rows = Math.addExact(rows, partRows);
        filled.add(part);
        first[filled.size()] = rows;
      }
    }
    rowCount = rows;
    ReadChecks.shape(name, rowCount, rowBytes);
    firstRows = Arrays.copyOf(first, filled.size());
    long equal = first[1];
    for (int i = 1; i < firstRows.length; i++) {
      equal = firstRows[i] == i * equal ? equal : 0;
    }
    rowsPerPart = rowCount <= equal * firstRows.length ? equal : 0;
    int page = os.map(NativeMemory::pageSize).orElse(NativeMemory.LARGEST_PAGE);
    this.parts = filled.stream().map(part -> mapped(part, page)).toArray(MappedPart[]::new);
    os.ifPresent(this::adviseRandom);
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

  private long rowsOf(RowPart part) {
    long rows = rowsOf(part.values(), valueBytes, "values");
    if (part.scales().isPresent() != scaleBytes > 0) {
      throw new IllegalArgumentException(
          name
              + ": the part in "
              + part.values().file()
              + (scaleBytes > 0 ? " has no scales" : " has scales, but the format has none"));
    }
    part.scales()
        .ifPresent(scales -> {
          long scaleRows = rowsOf(scales, scaleBytes, "scales");
          if (scaleRows != rows) {
            throw new IllegalArgumentException(
                name
                    + ": values of "
                    + rows
                    + " rows in "
                    + part.values().file()
                    + ", scales of "
                    + scaleRows
                    + " rows in "
                    + scales.file());
          }
        });
    return rows;
  }

  private long rowsOf(FileRegion region, int bytesPerRow, String what) {
    long bytes = region.bytes().byteSize();
    if (bytes % bytesPerRow != 0) {
      throw new IllegalArgumentException(
          name
              + ": "
              + bytes
              + " bytes of "
              + what
              + " in "
              + region.file()
              + " are no whole rows of "
              + bytesPerRow
              + " bytes");
    }
    return bytes / bytesPerRow;
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

  private void adviseRandom(NativeMemory os) {
    for (MappedPart part : parts) {
      for (MemorySegment region : new MemorySegment[] {part.values(), part.scales()}) {
        if (region.isMapped()) {
          os.adviseRandom(region);
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
  public void read(long[] rowIds, int from, int count, MemorySegment out, long outOffset) {
    checkOpen();
    ReadChecks.arguments(this, rowIds, from, count, out, outOffset);
    if (count == 0) {
      return;
    }
    try {
      try {
        copyRows(rowIds, from, count, out, outOffset);
      } finally {
        MappedFaults.raisePending();
      }
    } catch (InternalError e) {
      throw damaged(rowIds, from, count, e);
    } catch (IllegalStateException e) {
      if (closed || !isMapped()) {
        throw ReadChecks.closed(this);
      }
      throw e;
    }
  }

  private void copyRows(long[] rowIds, int from, int count, MemorySegment out, long outOffset) {
    boolean few = count < parts.length;
    MappedPart part = null;
    long first = 0;
    long end = 0;
    long at = outOffset;
    for (int i = from; i < from + count; i++) {
      long row = rowIds[i];
      if (row < first || row >= end) {
        if (row < 0 || row >= rowCount) {
          throw ReadChecks.rowId(this, row, i);
        }
        if (few && part != null) {
          touchLast(part);
        }
        int index = partOf(row);
        part = parts[index];
        first = firstRows[index];
        end = index + 1 < firstRows.length ? firstRows[index + 1] : rowCount;
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

  private int partOf(long row) {
    if (rowsPerPart > 0) {
      return (int) (row / rowsPerPart);
    }
    int found = Arrays.binarySearch(firstRows, row);
    return found < 0 ? -found - 2 : found;
  }

  private EngramException damaged(long[] rowIds, int from, int count, InternalError cause) {
    for (int i = from; i < from + count; i++) {
      if (rowIds[i] < 0 || rowIds[i] >= rowCount) {
        break;
      }
      int part = partOf(rowIds[i]);
      long local = rowIds[i] - firstRows[part];
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
      RowPart source = parts[partOf(rowIds[i])].source;
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
