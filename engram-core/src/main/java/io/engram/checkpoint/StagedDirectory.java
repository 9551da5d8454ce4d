// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import io.engram.EngramException;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.channels.OverlappingFileLockException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.Objects;
import java.util.stream.Stream;

/**
 * A directory of files that appears whole or not at all: its files are written under another name
 * beside it, forced to the disk, and take the name in one step.
 *
 * <p>A process that ends in between, however it ends, leaves a directory whose name ends in {@link
 * #PARTIAL}; the next one that writes to the same place removes it. A lock, which the system gives
 * back when its process ends, keeps two of them apart.
 *
 * <p>Not thread-safe.
 */
public final class StagedDirectory implements AutoCloseable {
  /** What the name of an unfinished directory ends in. */
  public static final String PARTIAL = ".partial";

  private final Path target;
  private final Path partial;
  private final FileChannel lock;
  private boolean committed;

  private StagedDirectory(Path target, Path partial, FileChannel lock) {
    this.target = target;
    this.partial = partial;
    this.lock = lock;
  }

  /**
   * Begins a directory. Unfinished ones of the same parent that {@code stale} names are removed.
   *
   * @param target the directory that shall appear; its parent is made if it is not there
   * @param lock the file to lock meanwhile, in the same parent; it is made if it is not there, and
   *     left
   * @param stale unfinished directories that nobody writes who does not hold the lock
   * @return the directory under its other name, empty
   * @throws EngramException if the target is there, another process or thread holds the lock, or
   *     the file system refuses
   */
  public static StagedDirectory begin(Path target, Path lock, List<Path> stale) {
    Path absolute = target.toAbsolutePath();
    Path parent = Objects.requireNonNull(absolute.getParent(), "a parent of the target");
    FileChannel channel = null;
    boolean begun = false;
    try {
      makeDirectories(parent);
      channel = FileChannel.open(lock, StandardOpenOption.CREATE, StandardOpenOption.WRITE);
      if (!locked(channel)) {
        throw new EngramException(
            target + ": another process or thread writes here now: it holds the lock of " + lock);
      }
      if (Files.exists(target)) {
        throw new EngramException(target + ": is there already; name another one, or move it away");
      }
      for (Path each : stale) {
        remove(each);
      }
      Path partial = absolute.resolveSibling(absolute.getFileName() + PARTIAL);
      remove(partial);
      Files.createDirectory(partial);
      begun = true;
      return new StagedDirectory(absolute, partial, channel);
    } catch (IOException e) {
      throw new EngramException(target + ": cannot be begun: " + e, e);
    } finally {
      if (!begun && channel != null) {
        closeQuietly(channel);
      }
    }
  }

  private static void makeDirectories(Path directory) throws IOException {
    if (!Files.isDirectory(directory)) {
      Files.createDirectories(directory);
      Path parent = directory.getParent();
      if (parent != null) {
        force(parent);
      }
    }
  }

  private static boolean locked(FileChannel channel) throws IOException {
    try {
      // Closing the channel gives the lock back.
      FileLock lock = channel.tryLock();
      return lock != null;
    } catch (OverlappingFileLockException _) {
      return false;
    }
  }

  /**
   * Where to write the files.
   *
   * @return the directory under its other name
   */
  public Path path() {
    return partial;
  }

  /**
   * Notices a disk that is full already before anything is written.
   *
   * @param bytes what is going to be written
   * @throws EngramException if the file system has fewer bytes free
   */
  public void requireSpace(long bytes) {
    try {
      long free = Files.getFileStore(partial).getUsableSpace();
      if (free < bytes) {
        throw new EngramException(
            "%s needs %,d bytes, but %,d bytes are free; make room, or write to another disk"
                .formatted(target, bytes, free));
      }
    } catch (IOException e) {
      throw new EngramException(target + ": its file system cannot be asked for space: " + e, e);
    }
  }

  /**
   * Forces all files and the directory to the disk and gives it its name. From here on it is there,
   * whatever happens.
   *
   * @return the directory under its own name
   * @throws EngramException if the file system refuses; the target is not there then
   */
  public Path commit() {
    try {
      try (Stream<Path> files = Files.list(partial)) {
        for (Path file : files.toList()) {
          try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE)) {
            channel.force(true);
          }
        }
      }
      force(partial);
      Files.move(partial, target, StandardCopyOption.ATOMIC_MOVE);
      committed = true;
      force(target.getParent());
      return target;
    } catch (IOException e) {
      throw new EngramException(target + ": cannot be completed: " + e, e);
    }
  }

  /**
   * Takes a directory of files away, so that it is never there in part: first its name, then what
   * is in it.
   *
   * @param directory the directory
   * @throws IOException if the file system refuses
   */
  static void retire(Path directory) throws IOException {
    Path partial = directory.resolveSibling(directory.getFileName() + PARTIAL);
    remove(partial);
    Files.move(directory, partial, StandardCopyOption.ATOMIC_MOVE);
    force(directory.toAbsolutePath().getParent());
    remove(partial);
  }

  /** Only what was written here can be removed: files, and no directory below. */
  private static void remove(Path directory) throws IOException {
    if (!Files.isDirectory(directory)) {
      return;
    }
    try (Stream<Path> files = Files.list(directory)) {
      for (Path file : files.toList()) {
        Files.delete(file);
      }
    }
    Files.delete(directory);
  }

  /** A rename is on the disk when its directory is; not every system lets one ask for that. */
  private static void force(Path directory) {
    try (FileChannel channel = FileChannel.open(directory, StandardOpenOption.READ)) {
      channel.force(true);
    } catch (IOException _) {
      // The files are complete under either name.
    }
  }

  private static void closeQuietly(FileChannel channel) {
    try {
      channel.close();
    } catch (IOException _) {
      // The lock is the process's: it ends with it at the latest.
    }
  }

  /** Removes what is not committed, and gives the lock back. */
  @Override
  public void close() {
    try {
      if (!committed) {
        remove(partial);
      }
    } catch (IOException _) {
      // The next one that writes here removes it.
    } finally {
      closeQuietly(lock);
    }
  }
}
