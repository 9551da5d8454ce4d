// SPDX-License-Identifier: Apache-2.0
package io.engram.packed;

import io.engram.shard.ShardLayout;
import io.engram.table.RowFormat;
import io.engram.table.TableIdentity;
import java.io.File;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/** A conversion in a JVM of its own, which can be killed. */
final class ConvertProcess {
  static final RowFormat FORMAT = RowFormat.FP8_BLOCK32;
  static final int HEAD_DIM = 16;

  private ConvertProcess() {}

  /**
   * Converts in two shards, forcing every half megabyte to the disk.
   *
   * @param arguments source, number of rows, the files of both shards
   */
  public static void main(String[] arguments) throws IOException {
    long rows = Long.parseLong(arguments[1]);
    SyntheticTable table = table(Path.of(arguments[0]), rows);
    try (Arena arena = Arena.ofShared()) {
      Conversion done =
          table
              .converter(arena)
              .shards(shards(rows))
              .threads(2)
              .syncEvery(1 << 19, 0)
              .listener(
                  new ConversionListener() {
                    @Override
                    public void converted(long done, long of) {
                      System.out.println("converted " + done);
                    }

                    @Override
                    public void notice(String text) {
                      System.out.println("notice " + text);
                    }
                  })
              .convert(List.of(Path.of(arguments[2]), Path.of(arguments[3])));
      System.out.println("before " + done.rowsBefore() + " now " + done.rowsNow());
    }
  }

  static SyntheticTable table(Path source, long rows) {
    return new SyntheticTable(
        new TableIdentity(7, FORMAT, HEAD_DIM, rows, SyntheticTable.LAYOUT, Optional.empty()),
        source,
        0);
  }

  /** Both shards have rows from everywhere, in blocks that do not match those of the table. */
  static ShardLayout shards(long rows) {
    return ShardLayout.rowWise(rows, 2, 4096);
  }

  static Process start(Path source, long rows, List<Path> files, Path output) throws IOException {
    List<String> command = new ArrayList<>();
    command.add(Path.of(System.getProperty("java.home"), "bin", "java").toString());
    command.addAll(List.of("-Xmx128m", "-XX:TieredStopAtLevel=1", "-Xshare:auto"));
    command.addAll(List.of("--enable-native-access=ALL-UNNAMED", "-cp"));
    command.add(System.getProperty("surefire.test.class.path", classPath()));
    command.add(ConvertProcess.class.getName());
    command.addAll(List.of(source.toString(), Long.toString(rows)));
    files.forEach(f -> command.add(f.toString()));
    return new ProcessBuilder(command)
        .redirectErrorStream(true)
        .redirectOutput(output.toFile())
        .start();
  }

  private static String classPath() {
    return System.getProperty("java.class.path").replace(File.pathSeparator + " ", "");
  }
}
