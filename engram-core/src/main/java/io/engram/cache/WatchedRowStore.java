// SPDX-License-Identifier: Apache-2.0
package io.engram.cache;

import io.engram.store.RowStore;
import java.lang.foreign.MemorySegment;

/** A store whose row ids a shadow sees. Owns the store below. */
final class WatchedRowStore implements RowStore {
  private final RowStore below;
  private final ShadowCache shadow;

  WatchedRowStore(RowStore below, ShadowCache shadow) {
    this.below = below;
    this.shadow = shadow;
  }

  @Override
  public String name() {
    return below.name();
  }

  @Override
  public long rowCount() {
    return below.rowCount();
  }

  @Override
  public int rowBytes() {
    return below.rowBytes();
  }

  @Override
  public int preferredBatch() {
    return below.preferredBatch();
  }

  /** The store below checks the ids: what it refuses is not counted. */
  @Override
  public void read(long[] rowIds, int from, int count, MemorySegment out, long outOffset) {
    below.read(rowIds, from, count, out, outOffset);
    shadow.observe(rowIds, from, count);
  }

  @Override
  public void close() {
    below.close();
  }

  @Override
  public String toString() {
    return below + ", with the shadow of a cache";
  }
}
