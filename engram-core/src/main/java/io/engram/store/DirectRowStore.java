// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import io.engram.EngramException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;

/**
 * Rows in files, fetched by positional reads with many of them outstanding: the tier for tables
 * that are larger than memory.
 *
 * <p>Rows of a batch that lie in one page, or in pages that touch, cost one read. A caller whose
 * rows are in the page cache reads them itself; as soon as a read has waited for the disk, threads
 * of the store (daemons, started when first needed, ended by {@link #close}) take the rest, so that
 * up to {@link DirectReads#depth} reads are outstanding, whatever the number of callers. An
 * interrupt of a caller disturbs nothing and is kept.
 *
 * <p>The store opens the files itself and owns what it opened; the mappings of the parts are used
 * while it is being made only. On Linux it makes system calls. Where native access is denied or the
 * platform is another, it reads by file channels, through the page cache only and in threads of its
 * own only, since a channel closes when a thread that reads it is interrupted.
 *
 * <p>What a change of a file under the store does:
 *
 * <ul>
 *   <li>It becomes shorter: reads of rows that are gone throw {@link EngramException}, naming file,
 *       offset and row; the other rows stay readable.
 *   <li>It is replaced by another file of the same name: nothing, the old bytes stay readable. If
 *       that happens between mapping the parts and making the store, the store is refused: the
 *       first and last bytes of each part are compared.
 *   <li>It is overwritten in place, which includes becoming shorter and then longer again: reads
 *       return the new bytes. No store can see that. Tables must be replaced, never overwritten;
 *       {@code Safetensors.checkUnchanged} can be asked.
 * </ul>
 *
 * <p>After a failed read the store stays usable. Closing waits for the positional reads that have
 * begun.
 */
public final class DirectRowStore implements RowStore {
  /** Keeps files apart, so that no read is planned across the end of one. */
  private static final long FILE_GAP = 1L << 20;

  private static final int LARGEST_CHUNK_BYTES = 4 << 20;
  private static final int POOLED_BATCHES = 64;

  /** Enough that the last reads of a batch, which have less beside them, do not count. */
  private static final int PREFERRED_BATCH = 4096;

  /** A thread that owns no memory: what it can reach, all threads can. */
  private static final Thread NOBODY = new Thread(() -> {}, "nobody");

  private final RowLayout layout;
  private final DirectReads options;
  private final Path[] paths;
  private final PositionalFile[] files;

  /** Where the files begin when they are laid end to end. */
  private final long[] fileStarts;

  /** Where the parts begin in the files laid end to end. */
  private final long[] valueStarts;

  private final long[] scaleStarts;

  /** What each row is put together from. */
  private final int[] pieceBytes;

  private final int chunkRows;
  private final ReadCrew crew;
  private final Batch[] pool = new Batch[POOLED_BATCHES];
  private int pooled;

  private DirectRowStore(RowLayout layout, DirectReads options, PositionalFile.Opener opener) {
    this.layout = layout;
    this.options = options;
    int parts = layout.parts().size();
    valueStarts = new long[parts];
    scaleStarts = new long[parts];
    List<Path> names = new ArrayList<>();
    List<Long> ends = new ArrayList<>();
    for (RowPart part : layout.parts()) {
      for (FileRegion region : part.regions()) {
        int known = names.indexOf(region.file());
        if (known < 0) {
          names.add(region.file());
          ends.add(region.end());
        } else {
          ends.set(known, Math.max(ends.get(known), region.end()));
        }
      }
    }
    paths = names.toArray(Path[]::new);
    fileStarts = new long[paths.length];
    long start = 0;
    for (int i = 0; i < paths.length; i++) {
      fileStarts[i] = start;
      start = Math.addExact(start, Math.addExact(ends.get(i), 2 * FILE_GAP)) & -FILE_GAP;
    }
    if (start > ReadPlan.MAX_POSITION) {
      throw new IllegalArgumentException(layout.name() + ": files of " + start + " bytes in all");
    }
    for (int i = 0; i < parts; i++) {
      RowPart part = layout.parts().get(i);
      valueStarts[i] = startOf(part.values(), names);
      scaleStarts[i] = part.scales().map(scales -> startOf(scales, names)).orElse(0L);
    }
    int scaleBytes = layout.scaleBytes();
    pieceBytes =
        scaleBytes == 0
            ? new int[] {layout.valueBytes()}
            : new int[] {layout.valueBytes(), scaleBytes};
    chunkRows =
        Math.clamp(
            LARGEST_CHUNK_BYTES / layout.rowBytes(), 1, ReadPlan.MAX_PIECES / pieceBytes.length);
    files = new PositionalFile[paths.length];
    try {
      for (int i = 0; i < paths.length; i++) {
        files[i] = opener.open(paths[i], options.pageCache());
      }
      compareWithMappings();
    } catch (RuntimeException | Error e) {
      closeFiles();
      throw e;
    }
    boolean callersRead = true;
    for (PositionalFile file : files) {
      callersRead &= file.readableByCallers();
    }
    crew = new ReadCrew(layout.name(), options.depth(), callersRead, !options.pageCache());
  }

  /**
   * A table over parts of files.
   *
   * @param name the table's name, for messages
   * @param valueBytes value bytes of a row, at least 1; the whole row where scales are not apart
   * @param scaleBytes scale bytes of a row that are stored apart, 0 if none are
   * @param parts the parts in the order of their rows, at least one of them with rows; mapped still
   * @param options how to read
   * @return the store, which owns the files that it opened and its threads
   * @throws IllegalArgumentException if a part does not hold whole rows, lacks scales or has some
   *     that the format has not, its scales are not of as many rows as its values, or there are no
   *     rows at all
   * @throws IllegalStateException if a mapping is closed
   * @throws EngramException if a file cannot be opened in that way, which bypassing the page cache
   *     cannot on every file system; is shorter than its part says; or has been replaced since it
   *     was mapped
   */
  public static DirectRowStore of(
      String name, int valueBytes, int scaleBytes, List<RowPart> parts, DirectReads options) {
    return of(name, valueBytes, scaleBytes, parts, options, PositionalFile.Opener::system);
  }

  static DirectRowStore of(
      String name,
      int valueBytes,
      int scaleBytes,
      List<RowPart> parts,
      DirectReads options,
      PositionalFile.Opener opener) {
    Objects.requireNonNull(options, "options");
    RowLayout layout = new RowLayout(name, valueBytes, scaleBytes, parts);
    return new DirectRowStore(layout, options, opener);
  }

  private long startOf(FileRegion region, List<Path> names) {
    return fileStarts[names.indexOf(region.file())] + region.offset();
  }

  /** A file that was replaced after it was mapped has other bytes, or ends too soon. */
  private void compareWithMappings() {
    try (Arena arena = Arena.ofConfined()) {
      ReadSeat seat = new ReadSeat(arena, ReadSeat.BYTES);
      for (RowPart part : layout.parts()) {
        for (FileRegion region : part.regions()) {
          int file = Arrays.asList(paths).indexOf(region.file());
          FileReads.compare(files[file], seat, region, layout.name());
        }
      }
    }
  }

  private int fill(ReadSeat seat, int file, long position, int bytes, long row) {
    return FileReads.fill(files[file], paths[file], seat, position, bytes, layout.name(), row);
  }

  @Override
  public String name() {
    return layout.name();
  }

  @Override
  public long rowCount() {
    return layout.rowCount();
  }

  @Override
  public int rowBytes() {
    return layout.rowBytes();
  }

  /**
   * How the store reads.
   *
   * @return the options it was made with
   */
  public DirectReads options() {
    return options;
  }

  @Override
  public int preferredBatch() {
    return PREFERRED_BATCH;
  }

  @Override
  public void read(long[] rowIds, int from, int count, MemorySegment out, long outOffset) {
    checkOpen();
    ReadChecks.arguments(this, rowIds, from, count, out, outOffset);
    if (count == 0) {
      return;
    }
    if (!out.scope().isAlive()) {
      throw new IllegalStateException("the output's memory is closed");
    }
    Batch batch = takeBatch();
    try {
      int done = 0;
      while (done < count) {
        int rows = Math.min(count - done, chunkRows);
        long at = outOffset + (long) done * layout.rowBytes();
        int reads = batch.plan(rowIds, from + done, rows, out, at);
        if (!crew.run(batch, reads)) {
          throw ReadChecks.closed(this);
        }
        batch.deliver(rows, out, at);
        done += rows;
      }
    } finally {
      giveBatch(batch);
    }
  }

  private Batch takeBatch() {
    synchronized (pool) {
      if (pooled > 0) {
        return pool[--pooled];
      }
    }
    return new Batch();
  }

  private void giveBatch(Batch batch) {
    batch.forget();
    synchronized (pool) {
      if (pooled < pool.length) {
        pool[pooled++] = batch;
      }
    }
  }

  /** Some rows, and the reads that fetch them. */
  private final class Batch extends ReadTask {
    private final ReadPlan plan = new ReadPlan();
    private long[] rowIds;
    private int from;
    private MemorySegment target;
    private long targetOffset;
    private boolean staged;

    /** Rows for an output that only the caller's thread can reach. */
    private MemorySegment staging = MemorySegment.ofArray(new long[0]);

    int plan(long[] ids, int first, int count, MemorySegment out, long outOffset) {
      rowIds = ids;
      from = first;
      plan.clear();
      int part = -1;
      long begin = 0;
      long end = 0;
      for (int i = first; i < first + count; i++) {
        long row = ids[i];
        if (row < begin || row >= end) {
          if (row < 0 || row >= layout.rowCount()) {
            throw ReadChecks.rowId(DirectRowStore.this, row, i);
          }
          part = layout.partOf(row);
          begin = layout.firstRow(part);
          end = layout.endRow(part);
        }
        plan.add(valueStarts[part] + (row - begin) * pieceBytes[0]);
        if (pieceBytes.length > 1) {
          plan.add(scaleStarts[part] + (row - begin) * pieceBytes[1]);
        }
      }
      target = out;
      targetOffset = outOffset;
      staged = !out.isAccessibleBy(NOBODY);
      if (staged) {
        long bytes = (long) count * layout.rowBytes();
        if (staging.byteSize() < bytes) {
          staging = MemorySegment.ofArray(new long[(int) (bytes / Long.BYTES + 1)]);
        }
        target = staging;
        targetOffset = 0;
      }
      return plan.finish(pieceBytes, ReadSeat.BYTES);
    }

    void deliver(int count, MemorySegment out, long outOffset) {
      if (staged) {
        MemorySegment.copy(target, 0, out, outOffset, (long) count * layout.rowBytes());
      }
    }

    void forget() {
      rowIds = null;
      target = null;
    }

    @Override
    void read(ReadSeat seat, int number) {
      int first = plan.first(number);
      int last = plan.end(number);
      int firstPiece = plan.piece(first);
      long begin = plan.position(firstPiece);
      if (last - first == 1) {
        readPiece(seat, firstPiece, begin);
        return;
      }
      long end = begin;
      for (int i = first; i < last; i++) {
        int piece = plan.piece(i);
        long position = plan.position(piece);
        begin = Math.min(begin, position);
        end = Math.max(end, position + pieceBytes[piece % pieceBytes.length]);
      }
      int file = fileOf(begin);
      int skipped =
          fill(seat, file, begin - fileStarts[file], (int) (end - begin), rowOf(firstPiece));
      for (int i = first; i < last; i++) {
        int piece = plan.piece(i);
        copy(
            seat,
            skipped + plan.position(piece) - begin,
            piece,
            0,
            pieceBytes[piece % pieceBytes.length]);
      }
    }

    /** A piece may be larger than the buffer. */
    private void readPiece(ReadSeat seat, int piece, long position) {
      int file = fileOf(position);
      int bytes = pieceBytes[piece % pieceBytes.length];
      int most = ReadSeat.BYTES - 2 * ReadSeat.ALIGNMENT;
      for (int done = 0; done < bytes; done += most) {
        int some = Math.min(most, bytes - done);
        int skipped = fill(seat, file, position + done - fileStarts[file], some, rowOf(piece));
        copy(seat, skipped, piece, done, some);
      }
    }

    private void copy(ReadSeat seat, long at, int piece, int offset, int bytes) {
      int row = piece / pieceBytes.length;
      int inRow = piece % pieceBytes.length == 0 ? 0 : pieceBytes[0];
      MemorySegment.copy(
          seat.buffer(),
          at,
          target,
          targetOffset + (long) row * layout.rowBytes() + inRow + offset,
          bytes);
    }

    private long rowOf(int piece) {
      return rowIds[from + piece / pieceBytes.length];
    }
  }

  private int fileOf(long position) {
    int found = Arrays.binarySearch(fileStarts, position);
    return found < 0 ? -found - 2 : found;
  }

  /** Threads of the store that run at this moment. */
  int liveThreads() {
    return crew.liveThreads();
  }

  private void checkOpen() {
    if (crew.isClosed()) {
      throw ReadChecks.closed(this);
    }
  }

  private void closeFiles() {
    for (int i = 0; i < files.length; i++) {
      if (files[i] != null) {
        files[i].close();
        files[i] = null;
      }
    }
  }

  /** Ends reading, waits for the positional reads that have begun, and closes the files. */
  @Override
  public synchronized void close() {
    // A number of a closed file may be another file's at once: no read may be left.
    crew.close();
    closeFiles();
  }

  @Override
  public String toString() {
    return layout.name()
        + ": "
        + layout.rowCount()
        + " rows of "
        + layout.rowBytes()
        + " bytes in "
        + paths.length
        + " files, read "
        + (options.pageCache() ? "through the page cache, " : "past the page cache, ")
        + options.depth()
        + " at once";
  }
}
