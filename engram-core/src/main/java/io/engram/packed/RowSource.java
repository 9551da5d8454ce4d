// SPDX-License-Identifier: Apache-2.0
package io.engram.packed;

import io.engram.EngramException;
import io.engram.EngramFormatException;
import io.engram.store.FileRegion;
import io.engram.store.RowPart;
import io.engram.store.RowStore;
import io.engram.table.TableIdentity;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.UUID;

/** Rows of a table in order, for reading all of them once. */
interface RowSource {
  /**
   * What would be another if the rows were: a line for each file. A conversion goes on only where
   * the source is the one that it was begun with.
   */
  List<String> signature();

  /** Opens the files for all readers. */
  Opened open() throws IOException;

  /** Open files. */
  interface Opened extends AutoCloseable {
    /** Reads for one thread. */
    Reader reader();

    @Override
    void close() throws IOException;
  }

  /** Reads rows, whole, in order, packed. */
  interface Reader extends AutoCloseable {
    void read(long firstRow, int count, MemorySegment out) throws IOException;

    @Override
    void close();
  }

  /** Rows in a store, such as one in memory: they have no name by which they could be known. */
  record OfStore(RowStore store, String nonce) implements RowSource {
    OfStore(RowStore store) {
      this(store, UUID.randomUUID().toString());
    }

    @Override
    public List<String> signature() {
      return List.of("rows in memory, " + store.name() + ", " + nonce);
    }

    @Override
    public Opened open() {
      return new Opened() {
        @Override
        public Reader reader() {
          return new StoreReader(store);
        }

        @Override
        public void close() {}
      };
    }
  }

  /** Reads a store by running ids. */
  record StoreReader(RowStore store) implements Reader {
    @Override
    public void read(long firstRow, int count, MemorySegment out) {
      long[] ids = new long[count];
      for (int i = 0; i < count; i++) {
        ids[i] = firstRow + i;
      }
      store.read(ids, 0, count, out, 0);
    }

    @Override
    public void close() {}
  }

  /**
   * Rows in files, by reading these and not their mappings: those are told not to read ahead.
   *
   * @param table the table
   * @param parts where the rows lie
   */
  record OfFiles(TableIdentity table, List<RowPart> parts) implements RowSource {
    @Override
    public List<String> signature() {
      return paths().stream().map(OfFiles::signature).toList();
    }

    private Set<Path> paths() {
      Set<Path> paths = new TreeSet<>();
      parts.forEach(p -> p.regions().forEach(r -> paths.add(r.file())));
      return paths;
    }

    private static String signature(Path path) {
      try {
        BasicFileAttributes now = Files.readAttributes(path, BasicFileAttributes.class);
        return "%s, %d bytes of %s, %s"
            .formatted(path.toAbsolutePath(), now.size(), now.lastModifiedTime(), now.fileKey());
      } catch (IOException e) {
        throw new EngramException(path + ": cannot be inspected: " + e, e);
      }
    }

    @Override
    public Opened open() throws IOException {
      Map<Path, FileChannel> channels = new LinkedHashMap<>();
      Opened opened =
          new Opened() {
            @Override
            public Reader reader() {
              return new FileReader(OfFiles.this, channels);
            }

            @Override
            public void close() throws IOException {
              for (FileChannel channel : channels.values()) {
                channel.close();
              }
            }
          };
      try {
        for (Path path : paths()) {
          channels.put(path, FileChannel.open(path, StandardOpenOption.READ));
        }
        return opened;
      } catch (IOException | RuntimeException e) {
        opened.close();
        throw e;
      }
    }
  }

  /** Reads values and scales in large pieces and puts them together in memory. */
  final class FileReader implements Reader {
    private final List<RowPart> parts;
    private final Map<Path, FileChannel> channels;
    private final int valueBytes;
    private final int scaleBytes;
    private final Arena arena = Arena.ofShared();
    private MemorySegment values = MemorySegment.NULL;
    private MemorySegment scales = MemorySegment.NULL;

    FileReader(OfFiles source, Map<Path, FileChannel> channels) {
      this.parts = source.parts();
      this.channels = channels;
      int scaled = source.table().format().scaleBytes(source.table().headDim());
      boolean apart = parts.getFirst().scales().isPresent();
      this.scaleBytes = apart ? scaled : 0;
      this.valueBytes = source.table().rowBytes() - scaleBytes;
    }

    @Override
    public void read(long firstRow, int count, MemorySegment out) throws IOException {
      long partFirst = 0;
      long row = firstRow;
      long end = firstRow + count;
      long rowBytes = (long) valueBytes + scaleBytes;
      for (RowPart part : parts) {
        long partEnd = partFirst + part.values().bytes().byteSize() / valueBytes;
        if (row < end && row < partEnd) {
          int rows = (int) (Math.min(end, partEnd) - row);
          MemorySegment target =
              out.asSlice((row - firstRow) * rowBytes, Math.multiplyExact(rows, rowBytes));
          if (scaleBytes == 0) {
            fill(part.values(), (row - partFirst) * valueBytes, target);
          } else {
            interleave(part, row - partFirst, rows, target);
          }
          row += rows;
        }
        partFirst = partEnd;
      }
      if (row < end) {
        throw new IndexOutOfBoundsException("row " + row + " of " + partFirst);
      }
    }

    private void interleave(RowPart part, long first, int rows, MemorySegment target)
        throws IOException {
      if (values.byteSize() < (long) rows * valueBytes) {
        values = arena.allocate((long) rows * valueBytes);
        scales = arena.allocate((long) rows * scaleBytes);
      }
      MemorySegment from = values.asSlice(0, (long) rows * valueBytes);
      MemorySegment with = scales.asSlice(0, (long) rows * scaleBytes);
      fill(part.values(), first * valueBytes, from);
      fill(part.scales().orElseThrow(), first * scaleBytes, with);
      long at = 0;
      for (long i = 0; i < rows; i++) {
        MemorySegment.copy(from, i * valueBytes, target, at, valueBytes);
        at += valueBytes;
        MemorySegment.copy(with, i * scaleBytes, target, at, scaleBytes);
        at += scaleBytes;
      }
    }

    private void fill(FileRegion region, long offset, MemorySegment out) throws IOException {
      ByteBuffer buffer = out.asByteBuffer();
      FileChannel channel = channels.get(region.file());
      long at = region.offset() + offset;
      while (buffer.hasRemaining()) {
        int read = channel.read(buffer, at);
        if (read < 0) {
          throw new EngramFormatException(
              region.file(),
              "ends at byte " + at + ", expected at least " + region.end() + ": it was cut off");
        }
        at += read;
      }
    }

    @Override
    public void close() {
      arena.close();
    }
  }
}
