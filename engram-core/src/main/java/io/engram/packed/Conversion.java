// SPDX-License-Identifier: Apache-2.0
package io.engram.packed;

import io.engram.table.TableIdentity;
import java.nio.file.Path;
import java.util.List;

/**
 * What came of a conversion.
 *
 * @param files the packed files, by number of shard
 * @param identity the table, with the digest of its contents
 * @param bytes bytes of all files
 * @param rowsBefore rows that an earlier attempt had converted already
 * @param rowsNow rows converted now
 * @param alreadyThere whether the files were there from the start, and nothing was done but to
 *     compare samples of their rows with the source
 * @param fromDisk whether rows were read back around the page cache, so that the disk itself has
 *     been asked; false where the file system cannot do that, and for files that were there
 */
public record Conversion(
    List<Path> files,
    TableIdentity identity,
    long bytes,
    long rowsBefore,
    long rowsNow,
    boolean alreadyThere,
    boolean fromDisk) {
  /** Copies the list. */
  public Conversion {
    files = List.copyOf(files);
  }
}
