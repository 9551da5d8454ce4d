// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import io.engram.EngramException;
import java.io.IOException;
import java.nio.channels.FileChannel;
import java.nio.file.FileSystems;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/**
 * An open file that is read at positions, by several threads at once.
 *
 * <p>Whoever closes it must know that no read is under way: the system gives the number of a closed
 * file to the next one that is opened, and the read would return bytes of that.
 */
interface PositionalFile {
  /**
   * Reads once; may return fewer bytes than asked for.
   *
   * @param seat receives the bytes
   * @param at where in its buffer
   * @param bytes how many bytes at most, at least 1
   * @param position the first byte's position in the file
   * @return the number of bytes, 0 at or behind the end of the file, or minus the error number
   * @throws IOException where there are no error numbers
   */
  long read(ReadSeat seat, int at, int bytes, long position) throws IOException;

  /**
   * What positions and lengths of reads must be multiples of.
   *
   * @return a power of two, at most {@link ReadSeat#ALIGNMENT}
   */
  int alignment();

  /** Whether a caller's own thread may read: not where an interrupt would close the file. */
  boolean readableByCallers();

  /** Closes the file; failures do not matter any more. */
  void close();

  /** How files are opened. */
  interface Opener {
    /**
     * Opens a file.
     *
     * @throws EngramException if it cannot be opened that way
     */
    PositionalFile open(Path file, boolean pageCache);

    /** Reads by system calls where this JVM can make them, by channels elsewhere. */
    static PositionalFile system(Path file, boolean pageCache) {
      boolean named = file.getFileSystem().equals(FileSystems.getDefault());
      return named && NativeFiles.get().isPresent()
          ? NativeFiles.get().orElseThrow().open(file, pageCache)
          : channel(file, pageCache);
    }

    /** Reads by a channel, which can do no O_DIRECT of ours and no advice. */
    static PositionalFile channel(Path file, boolean pageCache) {
      if (!pageCache) {
        throw new EngramException(
            file
                + ": reads that bypass the page cache need Linux and native access"
                + " (--enable-native-access); use DirectReads.buffered()");
      }
      try {
        return new ByChannel(FileChannel.open(file, StandardOpenOption.READ));
      } catch (IOException e) {
        throw new EngramException(file + ": cannot be opened: " + e, e);
      }
    }
  }

  /** A channel, which closes itself when a thread that reads it is interrupted. */
  record ByChannel(FileChannel channel) implements PositionalFile {
    @Override
    public long read(ReadSeat seat, int at, int bytes, long position) throws IOException {
      return Math.max(0, channel.read(seat.view(at, bytes), position));
    }

    @Override
    public int alignment() {
      return 1;
    }

    @Override
    public boolean readableByCallers() {
      return false;
    }

    @Override
    public void close() {
      try {
        channel.close();
      } catch (IOException e) {
        // Nothing was written.
        return;
      }
    }
  }
}
