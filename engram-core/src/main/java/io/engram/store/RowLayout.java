// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;

/** Which row lies in which part, for every tier that reads a table from parts of files. */
final class RowLayout {
  private final String name;
  private final int valueBytes;
  private final int scaleBytes;
  private final int rowBytes;
  private final long rowCount;
  private final List<RowPart> parts;
  private final long[] firstRows;

  /** Rows of every part but the last, or 0 if they differ. */
  private final long rowsPerPart;

  /**
   * Checks that the parts fit together.
   *
   * @param name the table's name, for messages
   * @param valueBytes value bytes of a row, at least 1
   * @param scaleBytes scale bytes of a row that are stored apart, 0 if none are
   * @param parts the parts in the order of their rows; those without rows are left out
   * @throws IllegalArgumentException if a part does not hold whole rows, lacks scales or has some
   *     that the format has not, its scales are not of as many rows as its values, or there are no
   *     rows at all
   */
  RowLayout(String name, int valueBytes, int scaleBytes, List<RowPart> parts) {
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
    this.parts = List.copyOf(filled);
    firstRows = Arrays.copyOf(first, filled.size());
    long equal = first[1];
    for (int i = 1; i < firstRows.length; i++) {
      equal = firstRows[i] == i * equal ? equal : 0;
    }
    rowsPerPart = rowCount <= equal * firstRows.length ? equal : 0;
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

  String name() {
    return name;
  }

  int valueBytes() {
    return valueBytes;
  }

  int scaleBytes() {
    return scaleBytes;
  }

  int rowBytes() {
    return rowBytes;
  }

  long rowCount() {
    return rowCount;
  }

  /** The parts that have rows. */
  List<RowPart> parts() {
    return parts;
  }

  /** Index of the part of a row that is in range. */
  int partOf(long row) {
    if (rowsPerPart > 0) {
      return (int) (row / rowsPerPart);
    }
    int found = Arrays.binarySearch(firstRows, row);
    return found < 0 ? -found - 2 : found;
  }

  /** The first row of a part. */
  long firstRow(int part) {
    return firstRows[part];
  }

  /** One more than the last row of a part. */
  long endRow(int part) {
    return part + 1 < firstRows.length ? firstRows[part + 1] : rowCount;
  }
}
