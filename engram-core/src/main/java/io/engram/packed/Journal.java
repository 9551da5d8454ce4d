// SPDX-License-Identifier: Apache-2.0
package io.engram.packed;

import io.engram.EngramException;
import io.engram.table.TableIdentity;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.channels.OverlappingFileLockException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.TreeMap;
import java.util.UUID;
import java.util.zip.CRC32C;

/**
 * Which blocks of a conversion are on the disk, with their checksums, in a file beside the first
 * target: what a conversion that was killed goes on from. The lock on it is what keeps two
 * conversions apart.
 *
 * <p>A record is written after the rows that it speaks of have been forced to the disk, and is
 * believed if its own checksum is right: the file may end in the middle of one.
 */
final class Journal implements AutoCloseable {
  private static final long MAGIC = Long.reverseBytes(0x89454E47524A0D0AL);
  private static final int VERSION = 1;
  private static final int JOB_BYTES = 16;
  private static final int MOST_TEXT = 1 << 24;

  /** Set in the number of a block that has turned out not to be on the disk. */
  private static final int VOID = 1 << 31;

  private final Path path;
  private final FileChannel channel;
  private final Map<Integer, int[]> done = new TreeMap<>();
  private final byte[] job = new byte[JOB_BYTES];
  private Optional<String> difference = Optional.empty();
  private boolean resumed;

  private Journal(Path path, FileChannel channel) {
    this.path = path;
    this.channel = channel;
  }

  /**
   * Opens and locks a journal.
   *
   * @param lines what the job is; a journal of another one is not gone on with
   * @throws EngramException if another process or thread holds it
   */
  static Journal open(Path path, List<String> lines) throws IOException {
    while (true) {
      FileChannel channel =
          FileChannel.open(
              path, StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE);
      try {
        lock(path, channel);
        if (isStill(path, channel)) {
          Journal journal = new Journal(path, channel);
          journal.read(String.join("\n", lines));
          return journal;
        }
        channel.close();
      } catch (IOException | RuntimeException e) {
        channel.close();
        throw e;
      }
    }
  }

  /**
   * Locks a file until its channel is closed.
   *
   * @throws EngramException if it is locked already
   */
  static void lock(Path path, FileChannel channel) throws IOException {
    FileLock lock;
    try {
      lock = channel.tryLock();
    } catch (OverlappingFileLockException e) {
      lock = null;
    }
    if (lock == null) {
      throw new EngramException(
          path + ": another conversion is writing this table at this moment; let it finish");
    }
  }

  /** Whoever held the lock may have finished, and removed the file that has now been locked. */
  private static boolean isStill(Path path, FileChannel channel) throws IOException {
    try {
      Object before = Files.readAttributes(path, BasicFileAttributes.class).fileKey();
      if (before == null) {
        return true;
      }
      // A channel has no key of its own: what is written through it must arrive under the name.
      long size = channel.size();
      channel.write(ByteBuffer.allocate(1), size);
      boolean same = Files.size(path) == size + 1;
      channel.truncate(size);
      return same;
    } catch (NoSuchFileException e) {
      return false;
    }
  }

  private void read(String text) throws IOException {
    ByteBuffer in =
        ByteBuffer.allocate(Math.toIntExact(channel.size())).order(ByteOrder.LITTLE_ENDIAN);
    PackedHeader.readFully(channel, in, 0);
    Optional<String> found = readHeader(in);
    if (found.isPresent() && found.get().equals(text)) {
      resumed = true;
      channel.truncate(readRecords(in));
      return;
    }
    difference = found.map(f -> difference(f, text));
    restart(text);
  }

  private static String difference(String before, String now) {
    List<String> old = before.lines().toList();
    List<String> lines = now.lines().toList();
    for (int i = 0; i < Math.min(old.size(), lines.size()); i++) {
      if (!old.get(i).equals(lines.get(i))) {
        return "then " + old.get(i) + "; now " + lines.get(i);
      }
    }
    return "then " + old.size() + " facts, now " + lines.size();
  }

  private Optional<String> readHeader(ByteBuffer in) {
    int fixed = Long.BYTES + Integer.BYTES + JOB_BYTES + Integer.BYTES;
    if (in.remaining() < fixed || in.getLong() != MAGIC || in.getInt() != VERSION) {
      return Optional.empty();
    }
    in.get(job);
    int length = in.getInt();
    if (length < 0 || length > in.remaining() - Integer.BYTES) {
      return Optional.empty();
    }
    byte[] text = new byte[length];
    in.get(text);
    int end = in.position();
    return in.getInt() == checksum(in, 0, end)
        ? Optional.of(new String(text, StandardCharsets.UTF_8))
        : Optional.empty();
  }

  /** Position after the last record that is whole. */
  private int readRecords(ByteBuffer in) {
    while (in.remaining() >= 3 * Integer.BYTES) {
      int start = in.position();
      int block = in.getInt();
      int count = in.getInt();
      if (count < 0 || count > in.remaining() / Integer.BYTES - 1) {
        return start;
      }
      int[] checksums = new int[count];
      for (int i = 0; i < count; i++) {
        checksums[i] = in.getInt();
      }
      int end = in.position();
      if (in.getInt() != checksum(in, start, end)) {
        return start;
      }
      if ((block & VOID) != 0) {
        done.remove(block & ~VOID);
      } else {
        done.put(block, checksums);
      }
    }
    return in.position();
  }

  private static int checksum(ByteBuffer bytes, int from, int to) {
    CRC32C crc = new CRC32C();
    crc.update(bytes.slice(from, to - from));
    return (int) crc.getValue();
  }

  private void restart(String text) throws IOException {
    done.clear();
    resumed = false;
    UUID id = UUID.randomUUID();
    ByteBuffer.wrap(job).putLong(id.getMostSignificantBits()).putLong(id.getLeastSignificantBits());
    byte[] utf8 = text.getBytes(StandardCharsets.UTF_8);
    if (utf8.length > MOST_TEXT) {
      throw new IllegalArgumentException("a job of " + utf8.length + " bytes cannot be noted down");
    }
    ByteBuffer out = ByteBuffer.allocate(64 + utf8.length).order(ByteOrder.LITTLE_ENDIAN);
    out.putLong(MAGIC).putInt(VERSION).put(job).putInt(utf8.length).put(utf8);
    out.putInt(checksum(out, 0, out.position()));
    channel.truncate(0);
    append(out.flip());
  }

  /** Begins anew: nothing is on the disk. */
  void restart(List<String> lines) throws IOException {
    restart(String.join("\n", lines));
  }

  private void append(ByteBuffer out) throws IOException {
    long at = channel.size();
    while (out.hasRemaining()) {
      at += channel.write(out, at);
    }
    channel.force(true);
  }

  /** Notes down blocks, whose rows have been forced to the disk. */
  void add(Map<Integer, int[]> blocks) throws IOException {
    write(blocks, 0);
    done.putAll(blocks);
  }

  /** Takes back what was noted down of a block. */
  void remove(int block) throws IOException {
    write(Map.of(block, new int[0]), VOID);
    done.remove(block);
  }

  private void write(Map<Integer, int[]> blocks, int flag) throws IOException {
    int ints = blocks.values().stream().mapToInt(c -> c.length + 3).sum();
    ByteBuffer out =
        ByteBuffer.allocate(Math.multiplyExact(ints, Integer.BYTES)).order(ByteOrder.LITTLE_ENDIAN);
    for (Map.Entry<Integer, int[]> block : blocks.entrySet()) {
      int start = out.position();
      out.putInt(block.getKey() | flag).putInt(block.getValue().length);
      Arrays.stream(block.getValue()).forEach(out::putInt);
      out.putInt(checksum(out, start, out.position()));
    }
    append(out.flip());
  }

  /** What tells the files of this job from those of another. */
  byte[] job() {
    return job.clone();
  }

  /** Checksums of the pieces of the blocks that are on the disk. */
  Map<Integer, int[]> done() {
    return done;
  }

  /** Whether this goes on with an earlier attempt. */
  boolean isResumed() {
    return resumed;
  }

  /** Why an earlier attempt is not gone on with, if there was one. */
  Optional<String> difference() {
    return difference;
  }

  /** Removes the file. The lock holds until {@link #close}. */
  void delete() throws IOException {
    Files.deleteIfExists(path);
  }

  @Override
  public void close() throws IOException {
    channel.close();
  }

  static String describe(TableIdentity identity) {
    return "layer %d, %s, %d values a row, %d rows, layout %s"
        .formatted(
            identity.layer(),
            identity.format(),
            identity.headDim(),
            identity.rowCount(),
            Objects.requireNonNull(identity.layoutDigest()));
  }
}
