// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import com.google.gson.JsonObject;
import io.engram.Dtype;
import io.engram.EngramConfig;
import io.engram.LayerWeights;
import io.engram.Tensor;
import io.engram.hash.HashLayout;
import io.engram.table.EngramTable;
import io.engram.table.RowFormat;
import java.lang.foreign.Arena;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/** How a memory is written in one layout: what its {@link Dialect} reads. */
interface ExportLayout {
  /** A tensor to be written. */
  record Out(String name, Dtype dtype, List<Long> shape, SafetensorsWriter.Bytes bytes) {
    long byteSize() {
      return Tensor.byteSize(dtype, sizes());
    }

    long[] sizes() {
      return shape.stream().mapToLong(Long::longValue).toArray();
    }
  }

  /** Every field that the layout cannot say. */
  List<String> obstacles(EngramConfig config);

  /** The format that rows have in it. */
  RowFormat rowFormat(EngramConfig config);

  /**
   * The configuration file.
   *
   * @param tokenMap the file of the token map; empty where a tokenizer lies beside
   */
  JsonObject config(EngramConfig config, List<HashLayout> layouts, Optional<String> tokenMap);

  /** The tensors of a layer; what they need beside the table and the weights is in the arena. */
  List<Out> tensors(
      EngramConfig config, HashLayout layout, EngramTable table, LayerWeights weights, Arena arena);

  /** Collects what differs from what a layout can say. */
  final class Obstacles {
    private final List<String> found = new ArrayList<>();

    Obstacles expect(String field, Object value, Object expected) {
      if (!value.equals(expected)) {
        found.add(field + " is " + value + ", expected " + expected);
      }
      return this;
    }

    List<String> found() {
      return found;
    }
  }
}
