// SPDX-License-Identifier: Apache-2.0
package io.engram.plan;

import io.engram.EngramConfig;
import io.engram.hash.HashLayout;
import io.engram.store.RowPart;
import io.engram.table.RowFormat;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.function.IntUnaryOperator;

/**
 * What a plan has to know of one layer's table.
 *
 * @param layer the layer, as the configuration numbers it
 * @param layersBefore layers of the backbone that are computed before its rows are needed
 * @param rows rows of the table, at least 1
 * @param columns rows that one token asks for, at least 1
 * @param values how values lie: whole rows, unless scales are apart
 * @param scales how scales lie, where they are stored apart: a row is then two reads
 */
public record TableShape(
    int layer, int layersBefore, long rows, int columns, RowRun values, Optional<RowRun> scales) {

  /** Checks the ranges. */
  public TableShape {
    Check.atLeast(layersBefore, 0, "layersBefore");
    Check.atLeast(rows, 1, "rows");
    Check.atLeast(columns, 1, "columns");
    Objects.requireNonNull(values, "values");
    Objects.requireNonNull(scales, "scales");
  }

  /**
   * The tables of a configuration as released checkpoints store them: scales apart, where the
   * format has any. Runs are taken to start on a page.
   *
   * @param config the configuration
   * @param layersBefore for a layer of the configuration, layers of the backbone before it
   * @return one shape for each layer, in the configuration's order
   */
  public static List<TableShape> inPlace(EngramConfig config, IntUnaryOperator layersBefore) {
    RowFormat format = config.rowFormat();
    int scaleBytes = format.scaleBytes(config.headDim());
    List<TableShape> shapes = new ArrayList<>();
    for (HashLayout layout : HashLayout.derive(config.hashing())) {
      shapes.add(
          new TableShape(
              layout.layerId(),
              layersBefore.applyAsInt(layout.layerId()),
              layout.rowCount(),
              layout.columns(),
              new RowRun(format.valueBytes(config.headDim()), 0),
              scaleBytes == 0 ? Optional.empty() : Optional.of(new RowRun(scaleBytes, 0))));
    }
    return shapes;
  }

  /**
   * The same table where the first part of a checkpoint's files has it.
   *
   * @param part where rows lie
   * @return the shape with the offsets of that part
   */
  public TableShape at(RowPart part) {
    return new TableShape(
        layer,
        layersBefore,
        rows,
        columns,
        new RowRun(values.bytesPerRow(), part.values().offset()),
        scales.flatMap(
            s -> part.scales().map(region -> new RowRun(s.bytesPerRow(), region.offset()))));
  }

  /**
   * The same table in a packed file: whole rows, one read each.
   *
   * @return the shape
   */
  public TableShape packed() {
    return new TableShape(
        layer, layersBefore, rows, columns, new RowRun(rowBytes(), 0), Optional.empty());
  }

  /**
   * Bytes of a row, scales included.
   *
   * @return at least 1
   */
  public int rowBytes() {
    return values.bytesPerRow() + scales.map(RowRun::bytesPerRow).orElse(0);
  }

  /**
   * Bytes of the table.
   *
   * @return rows * rowBytes
   */
  public long bytes() {
    return Math.multiplyExact(rows, (long) rowBytes());
  }

  /**
   * Reads that a row takes.
   *
   * @return 1, or 2 with scales apart
   */
  public int readsPerRow() {
    return scales.isPresent() ? 2 : 1;
  }

  /**
   * Pages that a row touches in the mean.
   *
   * @return at least {@link #readsPerRow}
   */
  public double meanPagesPerRow() {
    return values.meanPages() + scales.map(RowRun::meanPages).orElse(0.0);
  }
}
