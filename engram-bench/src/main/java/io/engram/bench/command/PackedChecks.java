// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import io.engram.EngramException;
import io.engram.checkpoint.Check;
import io.engram.checkpoint.Checkpoint;
import io.engram.packed.PackedTable;
import io.engram.table.EngramTable;
import io.engram.table.TableIdentity;
import java.lang.foreign.Arena;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.OptionalLong;

/** What can be known, without reading rows, of the packed files that lie beside a checkpoint. */
final class PackedChecks {
  private PackedChecks() {}

  static TableIdentity identity(Checkpoint checkpoint, int layer) {
    try (EngramTable table = checkpoint.table(layer)) {
      return TableIdentity.of(checkpoint.layout(layer), table);
    }
  }

  /** Other weights differ in nearly all rows. */
  private static final int COMPARED_ROWS = 64;

  static List<Check> beside(Checkpoint checkpoint) {
    Path directory = checkpoint.directory().resolve(PackedTable.DIRECTORY);
    List<Check> checks = new ArrayList<>();
    if (!Files.isDirectory(directory)) {
      return checks;
    }
    for (int layer : checkpoint.config().layerIds()) {
      String subject = "layer " + layer + " packed rows";
      String expected = "a packed file of this table";
      try (Arena arena = Arena.ofShared()) {
        List<Path> files = PackedTable.find(directory, layer);
        if (files.isEmpty()) {
          continue;
        }
        PackedTable packed = PackedTable.open(files, arena);
        Optional<String> difference =
            identity(checkpoint, layer).firstDifference(packed.identity());
        if (difference.isEmpty()) {
          OptionalLong row =
              packed.firstDifference(checkpoint.table(layer).store(), COMPARED_ROWS, layer);
          if (row.isPresent()) {
            difference =
                Optional.of(
                    "row "
                        + row.getAsLong()
                        + " differs: packed from other weights; engram convert --replace");
          }
        }
        checks.add(
            new Check(
                subject,
                expected,
                difference.orElse(files.getFirst().getFileName() + ", of this table"),
                difference.isEmpty()));
      } catch (EngramException e) {
        checks.add(new Check(subject, expected, e.getMessage(), false));
      }
    }
    return checks;
  }
}
