// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import io.engram.cache.CachedRowStore;
import io.engram.cache.ShadowCache;
import io.engram.hash.HashLayout;
import io.engram.hash.HashScheme;
import java.lang.foreign.MemorySegment;
import java.util.List;
import org.junit.jupiter.api.Nested;
import org.junit.jupiter.api.Tag;

/** A cache, large or small, and its shadow keep the contract of the store below. */
@Tag("once")
class CachedRowStoreContractTest {
  private static RowStore ram(String name, byte[][] rows, int rowBytes) {
    RamRowStore store = RamRowStore.create(name, rows.length, rowBytes);
    for (int i = 0; i < rows.length; i++) {
      store.write(i, 1, MemorySegment.ofArray(rows[i]), 0);
    }
    return store;
  }

  private static HashLayout layout(int rows) {
    HashScheme scheme =
        new HashScheme(
            10,
            List.of(2),
            1,
            List.of(2L),
            List.of(1),
            0,
            HashScheme.Generator.NUMPY_PCG64,
            HashScheme.PrimeSearch.RESTART_PER_ORDER,
            1);
    return HashLayout.stored(scheme, 1, new long[] {1, 1}, new long[] {rows}, new long[1]);
  }

  @Nested
  class AllRowsFit extends RowStoreContract {
    @Override
    RowStore create(String name, byte[][] rows, int rowBytes, int scaleBytes) {
      RowStore below = ram(name, rows, rowBytes);
      return CachedRowStore.of(below, layout(rows.length), 1_000_000 + 1000L * rowBytes);
    }
  }

  /** One set: rows come and go all the time. */
  @Nested
  class TwelveRowsFit extends RowStoreContract {
    @Override
    RowStore create(String name, byte[][] rows, int rowBytes, int scaleBytes) {
      RowStore below = ram(name, rows, rowBytes);
      return CachedRowStore.of(below, layout(rows.length), CachedRowStore.minimumBytes(rowBytes));
    }
  }

  @Nested
  class Watched extends RowStoreContract {
    @Override
    RowStore create(String name, byte[][] rows, int rowBytes, int scaleBytes) {
      RowStore below = ram(name, rows, rowBytes);
      return ShadowCache.of(layout(rows.length), rowBytes).watch(below);
    }
  }
}
