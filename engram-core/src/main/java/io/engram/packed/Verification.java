// SPDX-License-Identifier: Apache-2.0
package io.engram.packed;

import java.nio.file.Path;
import java.util.List;
import java.util.stream.Collectors;

/**
 * What came of reading all rows and comparing their checksums.
 *
 * @param rows rows that were read
 * @param damage the blocks that differ, by file and place, empty if none does
 * @param fromDisk whether the bytes were read around the page cache, so that the disk itself has
 *     been asked; false where the file system cannot do that
 */
public record Verification(long rows, List<Damage> damage, boolean fromDisk) {
  /** Copies the list. */
  public Verification {
    damage = List.copyOf(damage);
  }

  /**
   * A block of rows whose checksum is not what the file says.
   *
   * @param file the file
   * @param block the number of the block in it, from 0
   * @param tableRows the rows of the table that lie in the block
   * @param expected the checksum in the file
   * @param found the checksum of the bytes
   */
  public record Damage(Path file, int block, List<RowRange> tableRows, int expected, int found) {
    /** Copies the list. */
    public Damage {
      tableRows = List.copyOf(tableRows);
    }

    @Override
    public String toString() {
      return file
          + ": block "
          + block
          + " ("
          + tableRows.stream().map(RowRange::toString).collect(Collectors.joining(", "))
          + ") is damaged: checksum %08x, expected %08x".formatted(found, expected);
    }
  }

  /**
   * Whether every block is as it was written.
   *
   * @return true if there is no damage
   */
  public boolean holds() {
    return damage.isEmpty();
  }
}
