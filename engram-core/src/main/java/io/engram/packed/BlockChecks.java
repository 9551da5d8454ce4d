// SPDX-License-Identifier: Apache-2.0
package io.engram.packed;

import io.engram.EngramFormatException;
import io.engram.table.RowDigest;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.OpenOption;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Optional;
import java.util.function.LongConsumer;
import java.util.stream.IntStream;
import java.util.stream.Stream;
import java.util.zip.CRC32C;

/** Reads files block by block and compares checksums, around the page cache where that can be. */
final class BlockChecks {
  private static final int CHUNK = 1 << 23;

  /**
   * Reading around the page cache. By its name, because the compiler warns of the class that has
   * it, which not every runtime has.
   */
  private static final Optional<OpenOption> DIRECT = direct();

  private BlockChecks() {}

  private static Optional<OpenOption> direct() {
    try {
      return Stream.of(Class.forName("com.sun.nio.file.ExtendedOpenOption").getEnumConstants())
          .filter(option -> option.toString().equals("DIRECT"))
          .map(OpenOption.class::cast)
          .findFirst();
    } catch (ClassNotFoundException _) {
      return Optional.empty();
    }
  }

  /** A file whose rows are to be read, and the checksums that they should have. */
  static final class Subject {
    private final Path file;
    private final long rowsAt;
    private final int rowBytes;
    private final PackedHeader header;
    private final long rows;
    private final int[] checksums;

    Subject(Path file, PackedHeader header, int[] checksums) {
      this.file = file;
      this.rowsAt = header.size();
      this.rowBytes = header.rowBytes();
      this.header = header;
      this.rows = header.rows();
      this.checksums = checksums;
    }

    private RowRange local(int block) {
      long first = (long) block * RowDigest.BLOCK_ROWS;
      return new RowRange(first, Math.min(RowDigest.BLOCK_ROWS, rows - first));
    }
  }

  /**
   * Compares all blocks.
   *
   * @param progress given the number of rows read so far, on the caller's thread
   */
  static Verification run(List<Subject> subjects, int threads, LongConsumer progress)
      throws IOException {
    List<Verification.Damage> damage = new ArrayList<>();
    List<FileChannel> channels = new ArrayList<>();
    boolean[] direct = new boolean[subjects.size()];
    long[] rows = {0};
    int total = subjects.stream().mapToInt(s -> s.checksums.length).reduce(0, Math::addExact);
    int[] subjectOf = new int[total];
    int[] blockOf = new int[total];
    int next = 0;
    try {
      for (int s = 0; s < subjects.size(); s++) {
        direct[s] = openDirect(subjects.get(s).file, channels);
        for (int b = 0; b < subjects.get(s).checksums.length; b++) {
          subjectOf[next] = s;
          blockOf[next++] = b;
        }
      }
      Workers.run(
          "engram-verify",
          threads,
          IntStream.range(0, total).toArray(),
          () ->
              new Checker() {
                @Override
                int checksum(int task, ByteBuffer buffer) throws IOException {
                  Subject subject = subjects.get(subjectOf[task]);
                  return of(subject, blockOf[task], channels.get(subjectOf[task]), buffer);
                }
              },
          (task, found) -> {
            Subject subject = subjects.get(subjectOf[task]);
            int block = blockOf[task];
            RowRange local = subject.local(block);
            if (found != subject.checksums[block]) {
              damage.add(
                  new Verification.Damage(
                      subject.file,
                      block,
                      Division.tableRows(subject.header.ranges(), local),
                      subject.checksums[block],
                      found));
            }
            rows[0] += local.count();
            progress.accept(rows[0]);
          });
    } finally {
      for (FileChannel channel : channels) {
        channel.close();
      }
    }
    damage.sort(
        Comparator.comparing((Verification.Damage d) -> d.file())
            .thenComparingInt(Verification.Damage::block));
    boolean all = IntStream.range(0, direct.length).allMatch(i -> direct[i]);
    return new Verification(rows[0], damage, all);
  }

  private abstract static class Checker implements Workers.Worker<Integer> {
    private final Arena arena = Arena.ofShared();
    private final ByteBuffer buffer = arena.allocate(CHUNK, PackedHeader.PAGE).asByteBuffer();

    abstract int checksum(int task, ByteBuffer buffer) throws IOException;

    @Override
    public Integer run(int task) throws IOException {
      return checksum(task, buffer);
    }

    @Override
    public void close() {
      arena.close();
    }
  }

  private static boolean openDirect(Path file, List<FileChannel> channels) throws IOException {
    try {
      if (DIRECT.isPresent() && PackedHeader.PAGE % Files.getFileStore(file).getBlockSize() == 0) {
        FileChannel channel = FileChannel.open(file, StandardOpenOption.READ, DIRECT.get());
        channels.add(channel);
        try (Arena arena = Arena.ofConfined()) {
          // Some file systems take the option and refuse the read.
          channel.read(arena.allocate(PackedHeader.PAGE, PackedHeader.PAGE).asByteBuffer(), 0);
          return true;
        } catch (IOException e) {
          channels.removeLast().close();
        }
      }
    } catch (UnsupportedOperationException | IOException _) {
      // What is wrong with the file, if anything, is said by the way around.
    }
    channels.add(FileChannel.open(file, StandardOpenOption.READ));
    return false;
  }

  private static int of(Subject subject, int block, FileChannel channel, ByteBuffer buffer)
      throws IOException {
    CRC32C crc = new CRC32C();
    RowRange rows = subject.local(block);
    // Blocks and chunks start at multiples of a page, which reading around the cache demands.
    long at = subject.rowsAt + rows.first() * subject.rowBytes;
    long left = rows.count() * subject.rowBytes;
    while (left > 0) {
      int wanted = (int) Math.min(left, CHUNK);
      buffer.clear().limit(Math.ceilDiv(wanted, PackedHeader.PAGE) * PackedHeader.PAGE);
      while (buffer.position() < wanted) {
        int read = channel.read(buffer, at + buffer.position());
        boolean ended = at + buffer.position() >= channel.size();
        if (read <= 0 || (ended && buffer.position() < wanted)) {
          throw new EngramFormatException(
              subject.file,
              "ends at byte "
                  + (at + buffer.position())
                  + ", in the middle of block "
                  + block
                  + " of its rows");
        }
      }
      crc.update(buffer.flip().limit(wanted));
      at += wanted;
      left -= wanted;
    }
    return (int) crc.getValue();
  }
}
