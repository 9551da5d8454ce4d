// SPDX-License-Identifier: Apache-2.0
package io.engram.packed;

import io.engram.EngramException;
import io.engram.EngramFormatException;
import io.engram.checkpoint.Checkpoint;
import io.engram.shard.ShardLayout;
import io.engram.store.MappedRowStore;
import io.engram.store.RowPart;
import io.engram.store.RowStore;
import io.engram.table.EngramTable;
import io.engram.table.RowDigest;
import io.engram.table.RowFormat;
import io.engram.table.TableIdentity;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.FileStore;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.OptionalLong;
import java.util.Set;
import java.util.TreeMap;
import java.util.concurrent.TimeUnit;
import java.util.function.LongConsumer;
import java.util.stream.IntStream;
import java.util.zip.CRC32C;

/**
 * Writes a table to packed files: in one file, or divided among several.
 *
 * <p>The files appear under their names when everything has been written, forced to the disk, read
 * back and found equal; until then each is called {@code .partial}, and a journal beside the first
 * knows which blocks are on the disk. A conversion that was killed, or for which the disk was too
 * small, goes on from there when it is run again: with the same source, which is told by size, time
 * and identity of its files. With another one it starts over and says so. Two conversions cannot
 * write the same files at once: the second is refused.
 *
 * <p>A converter is configured by one thread and may be used again; it is not thread-safe.
 */
public final class PackedConverter {
  private static final int CHUNK_BYTES = 1 << 23;
  private static final int SAMPLES = 1000;

  private final TableIdentity identity;
  private final Optional<Float> tableScale;
  private final RowSource source;
  private final Sampler sampler;
  private final String description;
  private final List<SourceTensor> tensors;
  private Optional<ShardLayout> layout = Optional.empty();
  private ConversionListener listener = new ConversionListener() {};
  private int threads = Math.clamp(Runtime.getRuntime().availableProcessors(), 1, 4);
  private boolean replace;
  private long syncBytes = 1 << 28;
  private long syncNanos = TimeUnit.SECONDS.toNanos(5);
  private boolean spaceChecked = true;

  /** Compares rows of files that are there already. */
  @FunctionalInterface
  private interface Sampler {
    OptionalLong firstDifference(PackedTable table);
  }

  private PackedConverter(
      TableIdentity identity,
      Optional<Float> tableScale,
      RowSource source,
      Sampler sampler,
      String description,
      List<SourceTensor> tensors) {
    this.identity = Objects.requireNonNull(identity, "identity");
    this.tableScale = tableScale;
    this.source = source;
    this.sampler = sampler;
    this.description = Objects.requireNonNull(description, "description");
    this.tensors = tensors;
    if (tableScale.isPresent() != (identity.format() == RowFormat.FP8_TENSOR)) {
      throw new IllegalArgumentException(
          identity.format()
              + (tableScale.isPresent() ? " has no scale" : " needs the scale")
              + " of the whole table");
    }
    RowDigest.blocks(identity.rowCount());
  }

  /**
   * Converts a layer of a released checkpoint, of any layout.
   *
   * @param checkpoint the checkpoint, open during the conversion
   * @param layer a layer of its configuration
   * @return a converter
   * @throws IllegalArgumentException if the layer has no memory
   */
  public static PackedConverter of(Checkpoint checkpoint, int layer) {
    checkpoint.tensors().checkUnchanged();
    try (EngramTable table = checkpoint.table(layer)) {
      TableIdentity identity = TableIdentity.of(checkpoint.layout(layer), table);
      int valueBytes = identity.format().valueBytes(identity.headDim());
      List<SourceTensor> tensors = new ArrayList<>();
      List<RowPart> parts = checkpoint.rowParts(layer);
      List<List<String>> names = checkpoint.tableTensors(layer);
      for (int i = 0; i < parts.size(); i++) {
        List<String> name = names.get(i);
        tensors.add(
            new SourceTensor(
                parts.get(i).values().bytes().byteSize() / valueBytes,
                name.getFirst(),
                name.size() == 1 ? Optional.empty() : Optional.of(name.get(1))));
      }
      return of(
          identity,
          Optional.empty(),
          parts,
          checkpoint.directory().toAbsolutePath() + ": " + checkpoint.layoutDescription(),
          tensors);
    }
  }

  /** Converts rows in files. */
  static PackedConverter of(
      TableIdentity identity,
      Optional<Float> tableScale,
      List<RowPart> parts,
      String description,
      List<SourceTensor> tensors) {
    return new PackedConverter(
        identity,
        tableScale,
        new RowSource.OfFiles(identity, parts),
        packed -> {
          int scaleBytes = parts.getFirst().scales().isEmpty() ? 0 : scaleBytes(identity);
          try (RowStore store =
              MappedRowStore.of(description, identity.rowBytes() - scaleBytes, scaleBytes, parts)) {
            return packed.firstDifference(store, SAMPLES, System.nanoTime());
          }
        },
        description,
        tensors);
  }

  private static int scaleBytes(TableIdentity identity) {
    return identity.format().scaleBytes(identity.headDim());
  }

  /**
   * Converts rows that lie anywhere. They are read through the store, and an attempt that was
   * killed starts over: a store has no name by which its rows could be known again.
   *
   * @param identity the table, without a content digest
   * @param tableScale its scale, for {@link RowFormat#FP8_TENSOR} alone
   * @param store its rows, open during the conversion; not closed
   * @param description where the rows come from, for people
   * @return a converter
   * @throws IllegalArgumentException if store, scale and identity do not fit
   */
  public static PackedConverter of(
      TableIdentity identity, Optional<Float> tableScale, RowStore store, String description) {
    if (store.rowCount() != identity.rowCount() || store.rowBytes() != identity.rowBytes()) {
      throw new IllegalArgumentException(
          "%s: %d rows of %d bytes, expected %d of %d"
              .formatted(
                  store.name(),
                  store.rowCount(),
                  store.rowBytes(),
                  identity.rowCount(),
                  identity.rowBytes()));
    }
    return new PackedConverter(
        identity,
        tableScale,
        new RowSource.OfStore(store),
        packed -> packed.firstDifference(store, SAMPLES, System.nanoTime()),
        description,
        List.of());
  }

  /**
   * Divides the table: a file for each shard.
   *
   * @param shards which rows go where; one shard is a table that is not divided
   * @return this converter
   * @throws IllegalArgumentException if it is a layout of another number of rows
   */
  public PackedConverter shards(ShardLayout shards) {
    Division.checkRows(shards, identity.rowCount());
    layout = shards.shards() == 1 ? Optional.empty() : Optional.of(shards);
    return this;
  }

  /**
   * Who is told how it goes on.
   *
   * @param told called on the thread that converts
   * @return this converter
   */
  public PackedConverter listener(ConversionListener told) {
    listener = Objects.requireNonNull(told, "listener");
    return this;
  }

  /**
   * How many threads read and write.
   *
   * @param count at least 1; as many as there are processors, but at most 4, unless it is set
   * @return this converter
   */
  public PackedConverter threads(int count) {
    if (count < 1) {
      throw new IllegalArgumentException(count + " threads, expected at least 1");
    }
    threads = count;
    return this;
  }

  /**
   * Whether files that are there are replaced. Whoever has them mapped keeps the old ones.
   *
   * @param whether true to replace; otherwise files that are there are compared with the source by
   *     samples, and it is an error if they are of another table
   * @return this converter
   */
  public PackedConverter replace(boolean whether) {
    replace = whether;
    return this;
  }

  /** How much is written, at most, before it is forced to the disk and noted down. */
  PackedConverter syncEvery(long bytes, long nanos) {
    syncBytes = bytes;
    syncNanos = nanos;
    return this;
  }

  /** Lets the disk become full. */
  PackedConverter withoutCheckOfSpace() {
    spaceChecked = false;
    return this;
  }

  /**
   * Reads the source, and writes nothing.
   *
   * @param progress given the number of rows read so far, on the caller's thread
   * @return the content digest of the source, {@link RowDigest} of all its rows
   * @throws EngramFormatException if the source ends early
   * @throws EngramException if it cannot be read
   */
  public String contentDigest(LongConsumer progress) {
    Division whole = Division.whole(identity.rowCount());
    int[] checksums = new int[whole.blocks()];
    long[] rows = {0};
    try (RowSource.Opened opened = source.open()) {
      Workers.run(
          "engram-digest",
          threads,
          IntStream.range(0, checksums.length).toArray(),
          () -> new BlockWriter(opened.reader(), whole, (_, _, _) -> {}),
          (block, found) -> {
            checksums[block] = found[0];
            rows[0] += whole.block(block).count();
            progress.accept(rows[0]);
          });
    } catch (IOException e) {
      throw new EngramException(description + ": cannot be read: " + e, e);
    }
    return RowDigest.of(identity.rowCount(), identity.rowBytes(), checksums);
  }

  /**
   * Converts a table that is not divided.
   *
   * @param file the packed file
   * @return what came of it
   * @throws EngramException as {@link #convert(List)}
   */
  public Conversion convert(Path file) {
    return convert(List.of(file));
  }

  /**
   * Converts, or goes on converting.
   *
   * @param files the packed files, one for each shard, in directories that exist
   * @return what came of it
   * @throws IllegalArgumentException if there are not as many files as shards
   * @throws EngramFormatException if the source ends early, or files of another table are there
   * @throws EngramException if the disk is too small, another conversion holds a file, or something
   *     cannot be read or written; the next call goes on from where this one stopped
   */
  public Conversion convert(List<Path> files) {
    Division shards = new Division(identity.rowCount(), layout);
    Set<Path> distinct = new LinkedHashSet<>();
    files.forEach(f -> distinct.add(f.toAbsolutePath().normalize()));
    if (files.size() != shards.count() || distinct.size() != files.size()) {
      throw new IllegalArgumentException(
          distinct.size() + " files for " + shards.count() + " shards: " + files);
    }
    Path first = files.getFirst();
    try (Run run = new Run(shards, files)) {
      return run.convert();
    } catch (IOException e) {
      throw failed(first, e);
    }
  }

  private static EngramException failed(Path file, IOException cause) {
    String what = String.valueOf(cause.getMessage());
    return new EngramException(
        file
            + ": the conversion stopped: "
            + (what.contains("No space left") || what.contains("not enough space")
                ? "the disk is full (" + what + "); free some space"
                : cause + "; mend that")
            + " and run it again, it goes on where it stopped",
        cause);
  }

  private static Path beside(Path file, String suffix) {
    return file.resolveSibling(Objects.requireNonNull(file.getFileName(), "file name") + suffix);
  }

  private static Path directory(Path file) {
    return Objects.requireNonNullElse(file.getParent(), Path.of(""));
  }

  /** Takes rows of a shard. */
  @FunctionalInterface
  private interface Target {
    void write(int shard, long localRow, ByteBuffer rows) throws IOException;
  }

  /** Reads a block of the table, takes its checksums and writes its pieces. */
  private final class BlockWriter implements Workers.Worker<int[]> {
    private final RowSource.Reader reader;
    private final Division shards;
    private final Target target;
    private final Arena arena = Arena.ofShared();
    private final int chunkRows = Math.max(1, CHUNK_BYTES / identity.rowBytes());
    private final MemorySegment buffer =
        arena.allocate((long) chunkRows * identity.rowBytes(), PackedHeader.PAGE);

    BlockWriter(RowSource.Reader reader, Division shards, Target target) {
      this.reader = reader;
      this.shards = shards;
      this.target = target;
    }

    @Override
    public int[] run(int block) throws IOException {
      List<Division.Run> pieces = shards.pieces(block);
      CRC32C[] checksums = new CRC32C[pieces.size()];
      Arrays.setAll(checksums, _ -> new CRC32C());
      RowRange all = shards.block(block);
      long rowBytes = identity.rowBytes();
      int next = 0;
      for (long at = all.first(); at < all.end(); at += chunkRows) {
        int count = (int) Math.min(chunkRows, all.end() - at);
        MemorySegment rows = buffer.asSlice(0, count * rowBytes);
        reader.read(at, count, rows);
        while (next < pieces.size() && pieces.get(next).rows().first() < at + count) {
          Division.Run piece = pieces.get(next);
          long from = Math.max(at, piece.rows().first());
          long to = Math.min(at + count, piece.rows().end());
          ByteBuffer bytes =
              rows.asSlice((from - at) * rowBytes, (to - from) * rowBytes).asByteBuffer();
          checksums[next].update(bytes);
          long local = piece.localFirst() + from - piece.rows().first();
          target.write(piece.shard(), local, bytes.rewind());
          if (to < piece.rows().end()) {
            break;
          }
          next++;
        }
      }
      return Arrays.stream(checksums).mapToInt(c -> (int) c.getValue()).toArray();
    }

    @Override
    public void close() {
      reader.close();
      arena.close();
    }
  }

  /** One conversion. */
  private final class Run implements AutoCloseable {
    private final Division shards;
    private final List<Path> files;
    private final List<Path> partials;
    private final List<FileChannel> channels = new ArrayList<>();
    private final List<String> job = new ArrayList<>();
    private final List<String> signature = source.signature();
    private final Journal journal;
    private final int headerBytes;
    private boolean intact;
    private long rowsBefore;

    Run(Division shards, List<Path> files) throws IOException {
      this.shards = shards;
      this.files = files;
      this.partials = files.stream().map(f -> beside(f, ".partial")).toList();
      this.headerBytes = header(0, "0".repeat(64), "0".repeat(64)).size();
      job.add(Journal.describe(identity) + tableScale.map(s -> ", scale " + s).orElse(""));
      shards.layout().ifPresent(l -> job.add("divided as " + l.describe()));
      job.add("described as " + description + " " + tensors);
      signature.forEach(s -> job.add("from " + s));
      for (Path file : files) {
        if (!Files.isDirectory(directory(file.toAbsolutePath()))) {
          throw new EngramFormatException(directory(file), "is not a directory");
        }
      }
      this.journal = Journal.open(beside(files.getFirst(), ".journal"), job);
    }

    private PackedHeader header(int shard, String tableDigest, String fileDigest) {
      return new PackedHeader(
          identity.withContent(tableDigest),
          tableScale,
          shard,
          shards.layout(),
          fileDigest,
          description,
          tensors);
    }

    Conversion convert() throws IOException {
      boolean complete = journal.isResumed() && journal.done().size() == shards.blocks();
      if (!complete && !replace && files.stream().anyMatch(Files::exists)) {
        try {
          return compareWithWhatIsThere();
        } finally {
          // One that says nothing was left by a comparison like this that was killed.
          if (journal.done().isEmpty()) {
            journal.delete();
          }
        }
      }
      journal
          .difference()
          .ifPresent(d -> listener.notice("starts over, because the table is another one: " + d));
      try {
        prepare();
      } catch (RuntimeException | IOException e) {
        if (!intact) {
          journal.delete();
        }
        throw e;
      }
      writeBlocks();
      requireUnchanged();
      return finish();
    }

    private void requireUnchanged() {
      List<String> now = source.signature();
      for (int i = 0; i < now.size(); i++) {
        if (!now.get(i).equals(signature.get(i))) {
          throw new EngramException(
              "the source changed while it was converted: it was "
                  + signature.get(i)
                  + ", it is "
                  + now.get(i)
                  + "; run the conversion again, it will start over");
        }
      }
    }

    private Conversion compareWithWhatIsThere() {
      try (Arena arena = Arena.ofShared()) {
        PackedTable there = PackedTable.open(files, arena).require(identity);
        if (!there.layout().equals(shards.layout())) {
          throw new EngramFormatException(files.getFirst(), "is divided in another way");
        }
        OptionalLong differs = sampler.firstDifference(there);
        if (differs.isPresent()) {
          throw new EngramFormatException(
              files.getFirst(),
              "is of the right table, but row " + differs.getAsLong() + " differs from the source");
        }
        long bytes = there.files().stream().mapToLong(f -> f.size()).sum();
        return new Conversion(files, there.identity(), bytes, 0, 0, true, false);
      } catch (EngramFormatException e) {
        throw new EngramFormatException(
            e.file(),
            "is there already and is not what would be written; replace it (--replace) or move it"
                + " away: "
                + e.getMessage(),
            e);
      }
    }

    /** Opens and locks the unfinished files, or makes them, and finds out what is done. */
    private void prepare() throws IOException {
      Optional<List<PackedHeader>> finished =
          journal.isResumed() && journal.done().size() == shards.blocks()
              ? Optional.of(headers())
              : Optional.empty();
      intact = journal.isResumed();
      for (int s = 0; s < files.size() && intact; s++) {
        intact = isIntact(s, finished);
      }
      if (journal.isResumed() && !intact) {
        listener.notice(
            "starts over, because the unfinished files of the earlier attempt are gone or others");
      }
      if (!intact && journal.isResumed()) {
        journal.restart(job);
      }
      for (int s = 0; s < files.size(); s++) {
        if (intact && Files.notExists(partials.get(s))) {
          // Was finished and renamed before the earlier attempt was killed.
          continue;
        }
        FileChannel channel =
            FileChannel.open(
                partials.get(s),
                StandardOpenOption.CREATE,
                StandardOpenOption.READ,
                StandardOpenOption.WRITE);
        channels.add(channel);
        Journal.lock(partials.get(s), channel);
      }
      if (!intact) {
        // What an attempt that is not gone on with has left takes up the space that is needed.
        for (FileChannel channel : channels) {
          channel.truncate(0);
        }
      }
      try {
        checkSpace();
      } catch (EngramException e) {
        for (int s = 0; s < files.size() && !intact; s++) {
          Files.deleteIfExists(partials.get(s));
        }
        throw e;
      }
      if (!intact) {
        for (FileChannel channel : channels) {
          write(channel, PackedHeader.unfinished(journal.job()), 0);
          channel.force(true);
        }
      }
      for (int block : journal.done().keySet()) {
        rowsBefore += shards.block(block).count();
      }
    }

    private boolean isIntact(int shard, Optional<List<PackedHeader>> finished) throws IOException {
      Path partial = partials.get(shard);
      boolean there = Files.exists(partial);
      if (!there && finished.isEmpty()) {
        return false;
      }
      Path file = there ? partial : files.get(shard);
      if (Files.notExists(file)) {
        return false;
      }
      ByteBuffer start = ByteBuffer.allocate((int) Math.min(headerBytes, Files.size(file)));
      try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
        PackedHeader.readFully(channel, start, 0);
      }
      if (finished.isPresent() && finished.get().get(shard).isEncodedAs(start)) {
        return true;
      }
      ByteBuffer unfinished = PackedHeader.unfinished(journal.job());
      return there
          && start.remaining() >= unfinished.remaining()
          && start.limit(unfinished.limit()).equals(unfinished);
    }

    private long fileBytes(int shard) {
      long rows = shards.rows(shard);
      return headerBytes + rows * identity.rowBytes() + 4L * RowDigest.blocks(rows);
    }

    private void checkSpace() throws IOException {
      if (!spaceChecked) {
        return;
      }
      Map<FileStore, Long> needed = new LinkedHashMap<>();
      Map<FileStore, Path> where = new LinkedHashMap<>();
      for (int s = 0; s < files.size(); s++) {
        FileStore store = Files.getFileStore(directory(files.get(s).toAbsolutePath()));
        needed.merge(store, fileBytes(s), Long::sum);
        where.putIfAbsent(store, directory(files.get(s)));
      }
      if (intact) {
        for (int block : journal.done().keySet()) {
          for (Division.Run piece : shards.pieces(block)) {
            FileStore store =
                Files.getFileStore(directory(files.get(piece.shard()).toAbsolutePath()));
            needed.merge(store, -piece.rows().count() * identity.rowBytes(), Long::sum);
          }
        }
      }
      for (Map.Entry<FileStore, Long> each : needed.entrySet()) {
        long usable = each.getKey().getUsableSpace();
        if (usable < each.getValue()) {
          throw new EngramException(
              "%s: needs %,d bytes for the packed rows of layer %d, but %,d are free: free %,d more"
                      .formatted(
                          where.get(each.getKey()),
                          each.getValue(),
                          identity.layer(),
                          usable,
                          each.getValue() - usable)
                  + " or name another directory");
        }
      }
    }

    private void writeBlocks() throws IOException {
      int[] todo =
          IntStream.range(0, shards.blocks()).filter(b -> !journal.done().containsKey(b)).toArray();
      listener.converted(rowsBefore, shards.rowCount());
      if (todo.length == 0) {
        return;
      }
      Map<Integer, int[]> written = new TreeMap<>();
      long[] state = {rowsBefore, 0, System.nanoTime()};
      try (RowSource.Opened opened = source.open()) {
        Workers.run(
            "engram-convert",
            threads,
            todo,
            () ->
                new BlockWriter(
                    opened.reader(),
                    shards,
                    (shard, local, bytes) ->
                        write(
                            channels.get(shard), bytes, headerBytes + local * identity.rowBytes())),
            (block, checksums) -> {
              long rows = shards.block(block).count();
              written.put(block, checksums);
              state[0] += rows;
              state[1] += rows * identity.rowBytes();
              if (state[1] >= syncBytes || System.nanoTime() - state[2] >= syncNanos) {
                sync(written);
                state[1] = 0;
                state[2] = System.nanoTime();
              }
              listener.converted(state[0], shards.rowCount());
            });
      } catch (IOException | RuntimeException e) {
        try {
          sync(written);
        } catch (IOException | RuntimeException suppressed) {
          e.addSuppressed(suppressed);
        }
        throw e;
      }
      sync(written);
    }

    private void sync(Map<Integer, int[]> written) throws IOException {
      if (written.isEmpty()) {
        return;
      }
      for (FileChannel channel : channels) {
        channel.force(false);
      }
      journal.add(written);
      written.clear();
    }

    private static void write(FileChannel channel, ByteBuffer bytes, long at) throws IOException {
      while (bytes.hasRemaining()) {
        at += channel.write(bytes, at);
      }
    }

    private record Piece(long local, long rows, int checksum) {}

    /** Checksums of the blocks of a shard, put together from those of the pieces. */
    private int[] checksums(int shard) {
      List<Piece> own = new ArrayList<>();
      for (int block = 0; block < shards.blocks(); block++) {
        List<Division.Run> pieces = shards.pieces(block);
        for (int i = 0; i < pieces.size(); i++) {
          Division.Run piece = pieces.get(i);
          if (piece.shard() == shard) {
            own.add(
                new Piece(piece.localFirst(), piece.rows().count(), journal.done().get(block)[i]));
          }
        }
      }
      own.sort(Comparator.comparingLong(Piece::local));
      int[] checksums = new int[RowDigest.blocks(shards.rows(shard))];
      for (Piece piece : own) {
        int block = (int) (piece.local() / RowDigest.BLOCK_ROWS);
        checksums[block] =
            piece.local() % RowDigest.BLOCK_ROWS == 0
                ? piece.checksum()
                : Crc32c.combine(
                    checksums[block], piece.checksum(), piece.rows() * identity.rowBytes());
      }
      return checksums;
    }

    private List<PackedHeader> headers() {
      int[] all = new int[shards.blocks()];
      for (int block = 0; block < all.length; block++) {
        List<Division.Run> pieces = shards.pieces(block);
        int[] checksums = journal.done().get(block);
        if (checksums.length != pieces.size()) {
          throw new EngramException(
              "the journal has "
                  + checksums.length
                  + " checksums of block "
                  + block
                  + ", expected "
                  + pieces.size()
                  + ": remove "
                  + beside(files.getFirst(), ".journal")
                  + " to start over");
        }
        for (int i = 0; i < checksums.length; i++) {
          all[block] =
              i == 0
                  ? checksums[0]
                  : Crc32c.combine(
                      all[block], checksums[i], pieces.get(i).rows().count() * identity.rowBytes());
        }
      }
      String tableDigest = RowDigest.of(shards.rowCount(), identity.rowBytes(), all);
      List<PackedHeader> headers = new ArrayList<>();
      for (int s = 0; s < shards.count(); s++) {
        String digest = RowDigest.of(shards.rows(s), identity.rowBytes(), checksums(s));
        headers.add(header(s, tableDigest, digest));
      }
      return headers;
    }

    private Conversion finish() throws IOException {
      List<PackedHeader> headers = headers();
      List<BlockChecks.Subject> subjects = new ArrayList<>();
      List<Path> current = new ArrayList<>();
      int open = 0;
      for (int s = 0; s < files.size(); s++) {
        boolean renamed = Files.notExists(partials.get(s));
        current.add(renamed ? files.get(s) : partials.get(s));
        int[] checksums = checksums(s);
        if (!renamed) {
          ByteBuffer trailer =
              ByteBuffer.allocate(Math.multiplyExact(checksums.length, Integer.BYTES))
                  .order(ByteOrder.LITTLE_ENDIAN);
          trailer.asIntBuffer().put(checksums);
          FileChannel channel = channels.get(open++);
          long at = headerBytes + headers.get(s).rowsBytes();
          write(channel, trailer, at);
          channel.truncate(at + trailer.capacity());
          channel.force(true);
        }
        subjects.add(new BlockChecks.Subject(current.get(s), headers.get(s), checksums));
      }
      Verification read =
          BlockChecks.run(subjects, threads, rows -> listener.verified(rows, shards.rowCount()));
      if (!read.holds()) {
        takeBack(read.damage());
      }
      open = 0;
      long bytes = 0;
      for (int s = 0; s < files.size(); s++) {
        if (current.get(s).equals(partials.get(s))) {
          FileChannel channel = channels.get(open++);
          write(channel, headers.get(s).encode(), 0);
          channel.force(true);
        }
        bytes += fileBytes(s);
      }
      Set<Path> directories = new LinkedHashSet<>();
      for (int s = 0; s < files.size(); s++) {
        if (current.get(s).equals(partials.get(s))) {
          Files.move(
              partials.get(s),
              files.get(s),
              StandardCopyOption.ATOMIC_MOVE,
              StandardCopyOption.REPLACE_EXISTING);
        }
        directories.add(directory(files.get(s).toAbsolutePath()));
      }
      directories.forEach(Run::forceDirectory);
      journal.delete();
      return new Conversion(
          files,
          headers.getFirst().identity(),
          bytes,
          rowsBefore,
          shards.rowCount() - rowsBefore,
          false,
          read.fromDisk());
    }

    /** Notes down that blocks must be written again, and gives up. */
    private void takeBack(List<Verification.Damage> damage) throws IOException {
      for (Verification.Damage each : damage) {
        for (RowRange rows : each.tableRows()) {
          int last = (int) ((rows.end() - 1) / RowDigest.BLOCK_ROWS);
          for (int b = (int) (rows.first() / RowDigest.BLOCK_ROWS); b <= last; b++) {
            journal.remove(b);
          }
        }
      }
      throw new EngramException(
          damage.getFirst()
              + (damage.size() == 1 ? "" : ", and " + (damage.size() - 1) + " more blocks are")
              + ": what was read back is not what was written. Run the conversion again, which"
              + " writes these blocks anew; if this repeats, do not trust the disk");
    }

    /** A rename is on the disk when its directory is; not every system lets one ask for that. */
    private static void forceDirectory(Path directory) {
      try (FileChannel channel = FileChannel.open(directory, StandardOpenOption.READ)) {
        channel.force(true);
      } catch (IOException _) {
        // The files are complete under either name.
      }
    }

    @Override
    public void close() throws IOException {
      for (FileChannel channel : channels) {
        channel.close();
      }
      journal.close();
    }
  }
}
