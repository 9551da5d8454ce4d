// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import io.engram.plan.DiskSpeed;
import io.engram.plan.Origin;
import io.engram.plan.RowRun;
import java.io.EOFException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.OpenOption;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicLong;
import java.util.random.RandomGenerator;
import java.util.random.RandomGeneratorFactory;

/**
 * A short measurement of a disk: random page reads one at a time and many at a time, and reads in
 * order, all past the page cache, of a file that holds data everywhere.
 *
 * @param speed the medians
 * @param file what was read
 * @param bytes size of that file
 * @param rounds the single rounds, in the order in which they ran
 */
record DiskProbe(DiskSpeed speed, Path file, long bytes, List<Round> rounds) {
  /** What fewer bytes would show is the cache of the drive, or of the host of a virtual machine. */
  static final long LEAST_BYTES = 64L << 20;

  static final long DEFAULT_BYTES = 1L << 30;
  static final int ROUNDS = 3;

  private static final int SEQUENTIAL_READ = 1 << 20;
  private static final int SEQUENTIAL_DEPTH = 4;
  private static final int SAMPLED_PAGES = 256;
  private static final double MOST_ZEROS = 0.02;

  /**
   * One round.
   *
   * @param latencySeconds mean time of a read, one at a time
   * @param readsPerSecond reads a second, many at a time
   * @param sequentialBytesPerSecond bytes a second in order
   */
  record Round(double latencySeconds, double readsPerSecond, double sequentialBytesPerSecond) {}

  @FunctionalInterface
  private interface Places {
    long next(RandomGenerator random);
  }

  /**
   * Measures the disk that a file or directory is on.
   *
   * @param path a file with data of at least {@link #LEAST_BYTES}, which is only read; or a
   *     directory, in which a file of {@code temporaryBytes} is written and deleted afterwards
   * @param depth reads outstanding
   * @param seconds time for all of it, without the writing
   * @throws IOException if the path cannot be read past the page cache, or holds no data in many
   *     places
   */
  static DiskProbe measure(Path path, long temporaryBytes, int depth, double seconds)
      throws IOException {
    if (!Files.isDirectory(path)) {
      return ofFile(path, depth, seconds);
    }
    long usable = Files.getFileStore(path).getUsableSpace();
    if (temporaryBytes > usable / 2) {
      throw new IOException(
          path
              + ": a file of "
              + Sizes.bytes(temporaryBytes)
              + " would take more than half of the "
              + Sizes.bytes(usable)
              + " that are free; name an existing file, or a smaller --probe-size");
    }
    Path file = Files.createTempFile(path, "engram-probe-", ".tmp");
    try {
      file.toFile().deleteOnExit();
      fill(file, temporaryBytes);
      return ofFile(file, depth, seconds);
    } finally {
      Files.deleteIfExists(file);
    }
  }

  /** Random bytes everywhere: a hole or a compressible block would be read faster than a table. */
  static void fill(Path file, long bytes) throws IOException {
    RandomGenerator random = random(bytes);
    byte[] block = new byte[SEQUENTIAL_READ];
    try (Progress progress = Progress.start("Writing " + file.getFileName(), bytes, "bytes");
        FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE)) {
      for (long at = 0; at < bytes; at += block.length) {
        random.nextBytes(block);
        ByteBuffer buffer = ByteBuffer.wrap(block, 0, (int) Math.min(block.length, bytes - at));
        while (buffer.hasRemaining()) {
          channel.write(buffer);
        }
        progress.advance(block.length);
      }
      channel.force(true);
    }
  }

  private static DiskProbe ofFile(Path file, int depth, double seconds) throws IOException {
    long bytes = Files.size(file);
    if (bytes < LEAST_BYTES) {
      throw new IOException(
          file
              + ": has "
              + Sizes.bytes(bytes)
              + ", expected at least "
              + Sizes.bytes(LEAST_BYTES)
              + ": fewer bytes show the caches on the way and not the disk");
    }
    try (FileChannel channel = openDirect(file);
        ExecutorService threads =
            Executors.newFixedThreadPool(
                Math.max(depth, SEQUENTIAL_DEPTH),
                Thread.ofPlatform().daemon().name("engram-probe-", 0).factory());
        Progress progress = Progress.start("Reading " + file.getFileName(), 3L * ROUNDS, "runs")) {
      Reader reader = new Reader(channel, file, threads);
      reader.refuseHoles(bytes / RowRun.PAGE);
      long pages = bytes / RowRun.PAGE;
      Places anywhere = random -> random.nextLong(pages) * RowRun.PAGE;
      double slice = seconds / (3 * ROUNDS);
      // The first reads of each thread load classes.
      reader.run(depth, slice / 4, RowRun.PAGE, anywhere);
      List<Round> rounds = new ArrayList<>();
      for (int i = 0; i < ROUNDS; i++) {
        double alone = reader.run(1, slice, RowRun.PAGE, anywhere);
        progress.advance(1);
        double together = reader.run(depth, slice, RowRun.PAGE, anywhere);
        progress.advance(1);
        AtomicLong next = new AtomicLong();
        long blocks = bytes / SEQUENTIAL_READ;
        double inOrder =
            reader.run(
                SEQUENTIAL_DEPTH,
                slice,
                SEQUENTIAL_READ,
                _ -> next.getAndIncrement() % blocks * SEQUENTIAL_READ);
        progress.advance(1);
        rounds.add(new Round(1 / alone, together, inOrder * SEQUENTIAL_READ));
      }
      double latency = median(rounds.stream().mapToDouble(Round::latencySeconds).toArray());
      double rate = median(rounds.stream().mapToDouble(Round::readsPerSecond).toArray());
      double inOrder =
          median(rounds.stream().mapToDouble(Round::sequentialBytesPerSecond).toArray());
      // A drive with a single head may be no faster with many reads outstanding.
      return new DiskProbe(
          new DiskSpeed(latency, depth, Math.max(rate, 1 / latency), inOrder, Origin.MEASURED),
          file,
          bytes,
          rounds);
    }
  }

  private static FileChannel openDirect(Path file) throws IOException {
    try {
      return FileChannel.open(file, StandardOpenOption.READ, directOption());
    } catch (UnsupportedOperationException e) {
      throw new IOException(cannot(file), e);
    } catch (NoSuchFileException e) {
      throw e;
    } catch (IOException e) {
      throw new IOException(cannot(file) + " (" + e.getMessage() + ")", e);
    }
  }

  /** Named by a string because the compiler warns of the class and cannot be told not to. */
  private static OpenOption directOption() {
    try {
      for (Object option :
          Class.forName("com.sun.nio.file.ExtendedOpenOption").getEnumConstants()) {
        if (option instanceof OpenOption open && option.toString().equals("DIRECT")) {
          return open;
        }
      }
    } catch (ClassNotFoundException e) {
      throw new UnsupportedOperationException("this JDK has no reads past the page cache", e);
    }
    throw new UnsupportedOperationException("this JDK has no reads past the page cache");
  }

  private static String cannot(Path file) {
    return file
        + ": cannot be read past the page cache, so its disk cannot be measured; state it with"
        + " --iops and --latency-us";
  }

  private static double median(double[] values) {
    Arrays.sort(values);
    return values[values.length / 2];
  }

  private static RandomGenerator random(long seed) {
    return RandomGeneratorFactory.of("L64X128MixRandom").create(seed);
  }

  private record Reader(FileChannel channel, Path file, ExecutorService threads) {
    /** Reads a second, of so many threads with one read outstanding each. */
    double run(int depth, double seconds, int bytes, Places places) throws IOException {
      long start = System.nanoTime();
      long end = start + (long) (seconds * 1e9);
      List<Callable<Long>> tasks = new ArrayList<>();
      for (int i = 0; i < depth; i++) {
        RandomGenerator random = DiskProbe.random(start + i);
        tasks.add(() -> {
          ByteBuffer buffer = aligned(bytes);
          long reads = 0;
          do {
            read(buffer, places.next(random));
            reads++;
          } while (System.nanoTime() < end);
          return reads;
        });
      }
      long reads = 0;
      try {
        for (Future<Long> each : threads.invokeAll(tasks)) {
          reads += each.get();
        }
      } catch (ExecutionException e) {
        if (e.getCause() instanceof IOException io) {
          throw new IOException(file + ": " + io.getMessage(), io);
        }
        throw new IllegalStateException(e.getCause());
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
        throw new IOException(file + ": interrupted while it was measured", e);
      }
      return reads * 1e9 / (System.nanoTime() - start);
    }

    /**
     * A hole is answered without the disk. It reads as zeros, and a table hardly holds a page of
     * them.
     */
    void refuseHoles(long pages) throws IOException {
      RandomGenerator random = DiskProbe.random(pages);
      ByteBuffer buffer = aligned(RowRun.PAGE);
      ByteBuffer zeros = ByteBuffer.allocate(RowRun.PAGE);
      int empty = 0;
      for (int i = 0; i < SAMPLED_PAGES; i++) {
        read(buffer, random.nextLong(pages) * RowRun.PAGE);
        empty += buffer.flip().equals(zeros) ? 1 : 0;
      }
      if (empty > MOST_ZEROS * SAMPLED_PAGES) {
        throw new IOException(
            file
                + ": "
                + empty
                + " of "
                + SAMPLED_PAGES
                + " pages hold nothing but zeros, as in a file with holes: reading it does not"
                + " show the disk");
      }
    }

    private static ByteBuffer aligned(int bytes) {
      return ByteBuffer.allocateDirect(bytes + RowRun.PAGE).alignedSlice(RowRun.PAGE).limit(bytes);
    }

    private void read(ByteBuffer buffer, long position) throws IOException {
      buffer.position(0);
      int read = channel.read(buffer, position);
      if (read != buffer.limit()) {
        throw new EOFException(read + " bytes at " + position + ", expected " + buffer.limit());
      }
    }
  }
}
