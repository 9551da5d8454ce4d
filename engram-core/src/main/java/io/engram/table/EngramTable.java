// SPDX-License-Identifier: Apache-2.0
package io.engram.table;

import io.engram.Dtype;
import io.engram.EngramException;
import io.engram.store.ReadChecks;
import io.engram.store.RowMemory;
import io.engram.store.RowStore;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.util.Objects;
import java.util.Optional;

/**
 * The table of one layer: stored rows, and what their bytes mean.
 *
 * <p>Rows that lie in anonymous memory are decoded from there to the output. Others are first
 * copied into such memory, some dozens at a time: whatever becomes of a mapped file, no vector
 * instruction meets it. Widening to float32 is exact. bfloat16 is rounded to nearest even; for
 * {@link RowFormat#FP8_BLOCK32} both outputs are rounded to bfloat16, as the released code does it,
 * which changes nothing unless a scale is below 2^-124. NaN in a table comes out as NaN; a NaN
 * scale is an error.
 *
 * <p>Gathering obeys the contract of {@link RowStore}: any number of threads at once, nothing
 * allocated in the steady state, no output to be trusted after an exception. All floats in memory
 * segments are little-endian.
 */
public final class EngramTable implements AutoCloseable {
  /** Decoded rows of one round: with the stored ones they stay in the first level cache. */
  private static final int STAGING_BYTES = 1 << 14;

  /** Stored rows of one read, where the store would rather be asked for many. */
  private static final int READ_BYTES = 1 << 20;

  private final RowStore store;
  private final RowFormat format;
  private final int headDim;
  private final float scale;
  private final int rowsPerRound;
  private final int rowsPerRead;
  private final int rowsPerFetch;
  private final StagingPool<MemorySegment> staging;
  private final StagingPool<RowKernels.Fp8Scratch> scratches;
  private final RowKernels kernels;
  private final Optional<RowMemory> memory;

  /**
   * A table in a format without a scale for the whole table.
   *
   * @param store its rows; closed with the table
   * @param format any format but {@link RowFormat#FP8_TENSOR}
   * @param headDim values of a row, at least 1
   * @throws IllegalArgumentException if the store's rows do not have the size that the format says
   */
  public EngramTable(RowStore store, RowFormat format, int headDim) {
    this(store, format, headDim, 1, false, RowKernels.get());
  }

  /**
   * A table of FP8 values with one scale: {@link RowFormat#FP8_TENSOR}.
   *
   * @param store its rows; closed with the table
   * @param headDim values of a row, at least 1
   * @param scale the factor of every value, positive and finite
   * @return the table
   * @throws IllegalArgumentException if the store's rows do not have headDim bytes, or the scale is
   *     not positive and finite
   */
  public static EngramTable ofScaledFp8(RowStore store, int headDim, float scale) {
    return new EngramTable(store, RowFormat.FP8_TENSOR, headDim, scale, true, RowKernels.get());
  }

  EngramTable(
      RowStore store,
      RowFormat format,
      int headDim,
      float scale,
      boolean hasScale,
      RowKernels kernels) {
    this.store = Objects.requireNonNull(store, "store");
    this.format = Objects.requireNonNull(format, "format");
    this.headDim = headDim;
    this.scale = scale;
    this.kernels = kernels;
    if (headDim < 1) {
      throw new IllegalArgumentException(
          name() + ": headDim is " + headDim + ", expected at least 1");
    }
    if (store.rowBytes() != format.rowBytes(headDim)) {
      throw new IllegalArgumentException(
          name()
              + ": rows of "
              + store.rowBytes()
              + " bytes, but "
              + headDim
              + " values in "
              + format
              + " take "
              + format.rowBytes(headDim));
    }
    if (hasScale != (format == RowFormat.FP8_TENSOR)) {
      throw new IllegalArgumentException(name() + ": " + format + " needs the scale of the table");
    }
    if (!(scale > 0) || Float.isInfinite(scale)) {
      throw new IllegalArgumentException(
          name() + ": scale is " + scale + ", expected a positive number");
    }
    int decodedBytes = Math.multiplyExact(headDim, Float.BYTES);
    rowsPerRound = Math.max(1, STAGING_BYTES / decodedBytes);
    rowsPerRead =
        Math.max(rowsPerRound, Math.min(store.preferredBatch(), READ_BYTES / store.rowBytes()));
    memory = store.memory();
    rowsPerFetch = RowMemory.batch(store.rowBytes());
    long stagingBytes = (long) rowsPerRead * store.rowBytes() + (long) rowsPerRound * decodedBytes;
    staging = new StagingPool<>(() -> Arena.ofAuto().allocate(stagingBytes, 64));
    scratches = new StagingPool<>(() -> new RowKernels.Fp8Scratch(headDim));
  }

  /**
   * The same table with its rows elsewhere: in a packed file, behind a cache, staged.
   *
   * @param other a store of rows of the same size; closed with the table that is returned
   * @return a table of the same format, values of a row and scale
   * @throws IllegalArgumentException if the store's rows have another size
   */
  public EngramTable over(RowStore other) {
    return new EngramTable(other, format, headDim, scale, format == RowFormat.FP8_TENSOR, kernels);
  }

  /**
   * The table's name, for messages.
   *
   * @return the name of its store
   */
  public String name() {
    return store.name();
  }

  /**
   * Where the rows are.
   *
   * @return the store
   */
  public RowStore store() {
    return store;
  }

  /**
   * What the bytes of a row mean.
   *
   * @return the format
   */
  public RowFormat format() {
    return format;
  }

  /**
   * Number of rows.
   *
   * @return at least 1
   */
  public long rowCount() {
    return store.rowCount();
  }

  /**
   * Values of a row.
   *
   * @return at least 1
   */
  public int headDim() {
    return headDim;
  }

  /**
   * Reads rows and decodes them, in the order of their ids, packed: [count, {@link #headDim}].
   *
   * @param rowIds row ids
   * @param from index of the first id
   * @param count number of ids; 0 reads nothing
   * @param out receives the values; of any kind and alignment
   * @param outOffset where in it the first value goes, in bytes
   * @param outType {@link Dtype#F32} or {@link Dtype#BF16}
   * @throws IndexOutOfBoundsException if a row id is not one of this table, or from and count do
   *     not lie in rowIds
   * @throws IllegalArgumentException if the values do not fit the output, it is read-only, or the
   *     type is another one
   * @throws IllegalStateException if the table is closed, or the output's memory is
   * @throws EngramException if a row cannot be had from the store, or has a NaN scale
   */
  public void gather(
      long[] rowIds, int from, int count, MemorySegment out, long outOffset, Dtype outType) {
    int outRowBytes = checkOutput(rowIds, from, count, out, outOffset, outType);
    if (format.name().equals(outType.name())) {
      store.read(rowIds, from, count, out, outOffset);
      return;
    }
    boolean anonymous = out.isNative() && !out.isMapped();
    if (memory.isPresent() && anonymous) {
      gatherInPlace(memory.get(), rowIds, from, count, out, outOffset, outType);
      return;
    }
    MemorySegment buffer = staging.take();
    try {
      for (int done = 0; done < count; done += rowsPerRead) {
        int rows = Math.min(rowsPerRead, count - done);
        store.read(rowIds, from + done, rows, buffer, 0);
        long at = outOffset + (long) done * outRowBytes;
        if (anonymous) {
          convert(rowIds, from + done, rows, buffer, 0, out, at, outType);
        } else {
          convertInRounds(rowIds, from + done, rows, buffer, 0, buffer, out, at, outType);
        }
      }
    } finally {
      staging.give(buffer);
    }
  }

  /**
   * Decodes stored rows that were read before, packed: [count, {@link #headDim}].
   *
   * @param rowIds their ids, for messages
   * @param from index of the first id
   * @param count number of rows; 0 decodes nothing
   * @param stored the stored rows, packed as {@link RowStore#read} delivers them; native, and not
   *     that of a mapped file
   * @param storedOffset where in it the first row starts, in bytes
   * @param out receives the values; of any kind and alignment
   * @param outOffset where in it the first value goes, in bytes
   * @param outType {@link Dtype#F32} or {@link Dtype#BF16}
   * @throws IndexOutOfBoundsException if from and count do not lie in rowIds, or the rows not in
   *     the stored memory
   * @throws IllegalArgumentException if the stored memory is of another kind, the values do not fit
   *     the output, it is read-only, or the type is another one
   * @throws IllegalStateException if memory is closed
   * @throws EngramException if a row has a NaN scale
   */
  public void decode(
      long[] rowIds,
      int from,
      int count,
      MemorySegment stored,
      long storedOffset,
      MemorySegment out,
      long outOffset,
      Dtype outType) {
    checkOutput(rowIds, from, count, out, outOffset, outType);
    if (!stored.isNative() || stored.isMapped()) {
      throw new IllegalArgumentException(
          name() + ": stored rows to be decoded lie on the heap or in a mapped file");
    }
    int rowBytes = store.rowBytes();
    Objects.checkFromIndexSize(storedOffset, (long) count * rowBytes, stored.byteSize());
    if (format.name().equals(outType.name())) {
      MemorySegment.copy(stored, storedOffset, out, outOffset, (long) count * rowBytes);
      return;
    }
    if (out.isNative() && !out.isMapped()) {
      convert(rowIds, from, count, stored, storedOffset, out, outOffset, outType);
      return;
    }
    MemorySegment buffer = staging.take();
    try {
      convertInRounds(rowIds, from, count, stored, storedOffset, buffer, out, outOffset, outType);
    } finally {
      staging.give(buffer);
    }
  }

  /**
   * What gathering and decoding refuse.
   *
   * @return bytes of a decoded row
   */
  private int checkOutput(
      long[] rowIds, int from, int count, MemorySegment out, long outOffset, Dtype outType) {
    Objects.checkFromIndexSize(from, count, rowIds.length);
    if (outType != Dtype.F32 && outType != Dtype.BF16) {
      throw new IllegalArgumentException(
          name() + ": output type " + outType + ", expected F32 or BF16");
    }
    int outRowBytes = headDim * outType.bytes();
    if (outOffset < 0 || (long) count * outRowBytes > out.byteSize() - outOffset) {
      throw new IllegalArgumentException(
          name()
              + ": "
              + count
              + " rows of "
              + headDim
              + " "
              + outType
              + " do not fit an output of "
              + out.byteSize()
              + " bytes at "
              + outOffset);
    }
    if (out.isReadOnly()) {
      throw new IllegalArgumentException(name() + ": the output is read-only");
    }
    return outRowBytes;
  }

  /**
   * Reads rows and decodes them into an array, in the order of their ids, packed.
   *
   * @param rowIds row ids
   * @param from index of the first id
   * @param count number of ids; 0 reads nothing
   * @param out receives count * {@link #headDim} values
   * @param outIndex where in it the first value goes
   * @throws IndexOutOfBoundsException if a row id is not one of this table, or from and count do
   *     not lie in rowIds
   * @throws IllegalArgumentException if the values do not fit the output
   * @throws IllegalStateException if the table is closed
   * @throws EngramException if a row cannot be had from the store, or has a NaN scale
   */
  public void gather(long[] rowIds, int from, int count, float[] out, int outIndex) {
    Objects.checkFromIndexSize(from, count, rowIds.length);
    if (outIndex < 0 || (long) count * headDim > out.length - outIndex) {
      throw new IllegalArgumentException(
          name()
              + ": "
              + count
              + " rows of "
              + headDim
              + " values do not fit an array of "
              + out.length
              + " at "
              + outIndex);
    }
    MemorySegment buffer = staging.take();
    try {
      long decoded = (long) rowsPerRead * store.rowBytes();
      for (int done = 0; done < count; done += rowsPerRead) {
        int read = Math.min(rowsPerRead, count - done);
        store.read(rowIds, from + done, read, buffer, 0);
        for (int i = 0; i < read; i += rowsPerRound) {
          int rows = Math.min(rowsPerRound, read - i);
          long at = (long) i * store.rowBytes();
          if (format != RowFormat.F32) {
            convert(rowIds, from + done + i, rows, buffer, at, buffer, decoded, Dtype.F32);
            at = decoded;
          }
          MemorySegment.copy(
              buffer,
              ScalarRowKernels.FLOAT,
              at,
              out,
              outIndex + (done + i) * headDim,
              rows * headDim);
        }
      }
    } finally {
      staging.give(buffer);
    }
  }

  /**
   * Reads rows and decodes them into a new array.
   *
   * @param rowIds row ids
   * @return [rowIds.length, {@link #headDim}] values, in the order of the ids
   * @throws IndexOutOfBoundsException if a row id is not one of this table
   * @throws IllegalArgumentException if they are more values than an array holds
   * @throws IllegalStateException if the table is closed
   * @throws EngramException if a row cannot be had from the store, or has a NaN scale
   */
  public float[] gather(long... rowIds) {
    long values = (long) rowIds.length * headDim;
    if (values > Integer.MAX_VALUE - 8) {
      throw new IllegalArgumentException(
          name() + ": " + rowIds.length + " rows of " + headDim + " values do not fit an array");
    }
    float[] out = new float[(int) values];
    gather(rowIds, 0, rowIds.length, out, 0);
    return out;
  }

  /** Decodes rows where they are. */
  private void gatherInPlace(
      RowMemory source,
      long[] rowIds,
      int from,
      int count,
      MemorySegment out,
      long outAt,
      Dtype outType) {
    MemorySegment rows = source.rows();
    int rowBytes = store.rowBytes();
    int outRowBytes = headDim * outType.bytes();
    boolean wide = outType == Dtype.F32;
    boolean blocks = format == RowFormat.FP8_BLOCK32;
    boolean interrupted = Thread.currentThread().isInterrupted();
    RowKernels.Fp8Scratch scratch = scratches.take();
    try {
      long at = outAt;
      for (int done = 0; done < count; done += rowsPerFetch) {
        int begin = from + done;
        int end = begin + Math.min(rowsPerFetch, count - done);
        source.fetch(rowIds, begin, end - begin);
        for (int i = begin; i < end; i++) {
          if (blocks) {
            convertBlocks(rowIds[i], rows, rowIds[i] * rowBytes, out, at, wide, scratch);
          } else {
            convert(rowIds, i, 1, rows, rowIds[i] * rowBytes, out, at, outType);
          }
          at += outRowBytes;
        }
      }
    } catch (IllegalStateException e) {
      ReadChecks.forgetInterrupt(interrupted);
      // If it was the store that was closed, it says so, by its name.
      source.fetch(rowIds, from, 0);
      throw e;
    } finally {
      scratches.give(scratch);
    }
  }

  /** Decodes into memory that no vector kernel may write, by way of the end of a buffer. */
  private void convertInRounds(
      long[] rowIds,
      int from,
      int count,
      MemorySegment stored,
      long storedAt,
      MemorySegment buffer,
      MemorySegment out,
      long outAt,
      Dtype outType) {
    int outRowBytes = headDim * outType.bytes();
    long decoded = (long) rowsPerRead * store.rowBytes();
    for (int i = 0; i < count; i += rowsPerRound) {
      int rows = Math.min(rowsPerRound, count - i);
      long in = storedAt + (long) i * store.rowBytes();
      convert(rowIds, from + i, rows, stored, in, buffer, decoded, outType);
      MemorySegment.copy(
          buffer, decoded, out, outAt + (long) i * outRowBytes, (long) rows * outRowBytes);
    }
  }

  private void convert(
      long[] rowIds,
      int from,
      int rows,
      MemorySegment stored,
      long storedAt,
      MemorySegment out,
      long outAt,
      Dtype outType) {
    boolean wide = outType == Dtype.F32;
    long values = (long) rows * headDim;
    switch (format) {
      case F32 -> kernels.f32ToBf16(stored, storedAt, out, outAt, values);
      case BF16 -> kernels.bf16ToF32(stored, storedAt, out, outAt, values);
      case F16 -> {
        if (wide) {
          kernels.f16ToF32(stored, storedAt, out, outAt, values);
        } else {
          kernels.f16ToBf16(stored, storedAt, out, outAt, values);
        }
      }
      case FP8_TENSOR -> {
        if (wide) {
          kernels.fp8ToF32(stored, storedAt, scale, out, outAt, values);
        } else {
          kernels.fp8ToBf16(stored, storedAt, scale, out, outAt, values);
        }
      }
      case FP8_BLOCK32 -> {
        RowKernels.Fp8Scratch scratch = scratches.take();
        try {
          for (int i = 0; i < rows; i++) {
            long in = storedAt + (long) i * store.rowBytes();
            long at = outAt + (long) i * headDim * outType.bytes();
            convertBlocks(rowIds[from + i], stored, in, out, at, wide, scratch);
          }
        } finally {
          scratches.give(scratch);
        }
      }
    }
  }

  /** One row of FP8 with block scales. */
  private void convertBlocks(
      long rowId,
      MemorySegment stored,
      long storedAt,
      MemorySegment out,
      long outAt,
      boolean wide,
      RowKernels.Fp8Scratch scratch) {
    int bad =
        wide
            ? kernels.fp8RowToF32(stored, storedAt, out, outAt, headDim, scratch)
            : kernels.fp8RowToBf16(stored, storedAt, out, outAt, headDim);
    if (bad >= 0) {
      throw new EngramException(
          name() + ": row " + rowId + ", block " + bad + ": the scale byte is 255, which is NaN");
    }
  }

  /** Closes the store. */
  @Override
  public void close() {
    store.close();
  }

  @Override
  public String toString() {
    return name() + ": " + rowCount() + " rows of " + headDim + " " + format;
  }
}
