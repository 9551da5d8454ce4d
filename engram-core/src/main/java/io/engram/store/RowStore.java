// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import java.lang.foreign.MemorySegment;
import java.util.Optional;

/**
 * A table's rows as they are stored: a fixed number of rows of a fixed number of bytes, fetched by
 * row id. What the bytes mean is the business of {@link io.engram.table.EngramTable}.
 *
 * <p>The contract of every tier, whether memory, a mapped file, direct reads, a cache or a remote
 * machine:
 *
 * <ul>
 *   <li>A row is read whole: its value bytes, then its scale bytes where its format has them, also
 *       where they are stored apart. Row ids, offsets and counts are 64 bits wide.
 *   <li>A read that returns has delivered the bytes of exactly the rows that were asked for, in
 *       that order, repeated where an id is repeated. It never clamps an id, never puts zeros in
 *       place of what it could not read, and never leaves bytes of an earlier read. After any
 *       exception the contents of the output are unspecified.
 *   <li>Reads may run in any number of threads at once, with outputs that do not overlap.
 *   <li>A store may be closed while others read it. Each such read either delivers its rows or
 *       throws {@link IllegalStateException}; the JVM survives. Closing again does nothing.
 *   <li>An interrupt of the caller does not disturb a read, and is kept. A remote tier, whose reads
 *       may take seconds, may end them with an {@link io.engram.EngramException} and says so; the
 *       interrupt is kept then as well.
 *   <li>In the steady state a read allocates nothing on the heap. A remote tier may allocate the
 *       few objects that its client needs for each request, and says so.
 *   <li>A store has at least one row of at least one byte: it is refused when it is made otherwise.
 * </ul>
 *
 * <p>Each implementation's test extends {@code RowStoreContract}, which checks all of this.
 */
public interface RowStore extends AutoCloseable {
  /**
   * The table's name, for messages.
   *
   * @return a name, such as that of the tensor
   */
  String name();

  /**
   * Number of rows.
   *
   * @return at least 1; row ids run from 0 to one less
   */
  long rowCount();

  /**
   * Size of a stored row.
   *
   * @return bytes of its values and scales, at least 1
   */
  int rowBytes();

  /**
   * How many rows a caller that has so many should ask for in one read. A hint: any count is
   * served.
   *
   * @return 1 where a row costs the same alone, as in memory; more where the rows of a read are
   *     waited for together, as from a disk or another machine
   */
  default int preferredBatch() {
    return 1;
  }

  /**
   * Copies stored rows, packed, in the order of their ids.
   *
   * @param rowIds row ids
   * @param from index of the first id to read
   * @param count number of ids to read; 0 reads nothing
   * @param out receives count * {@link #rowBytes} bytes; of any kind and alignment
   * @param outOffset where in it the first row goes, in bytes
   * @throws IndexOutOfBoundsException if a row id is not one of this table, naming id, table and
   *     range; or if from and count do not lie in rowIds
   * @throws IllegalArgumentException if the rows do not fit the output, or it is read-only
   * @throws IllegalStateException if the store is closed, or the output's memory is
   * @throws io.engram.EngramException if the rows cannot be had from where they are stored, naming
   *     the place and the row
   */
  void read(long[] rowIds, int from, int count, MemorySegment out, long outOffset);

  /**
   * The rows where they are, for callers that can do without a copy.
   *
   * @return the memory, for as long as the store is open, if the rows lie in anonymous memory;
   *     empty otherwise, and for a store that must see every read
   */
  default Optional<RowMemory> memory() {
    return Optional.empty();
  }

  /**
   * Releases what the store owns. A second call does nothing.
   *
   * @throws IllegalStateException if memory of the store is in use by a system call at this moment,
   *     such as a write of it to a channel; the store then stays open
   */
  @Override
  void close();
}
