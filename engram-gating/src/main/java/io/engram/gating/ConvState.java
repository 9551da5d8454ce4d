// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.ConvConfig;
import io.engram.GateConfig;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.zip.CRC32;

/**
 * What decoding carries from call to call for the convolution of one layer and one sequence: the
 * normalised memories of the last (kernelSize - 1) * dilation positions, and those of some more
 * positions, so that rejected draft tokens can be taken back.
 *
 * <p>A sequence cut into chunks of any sizes, with its state passed to each, gives the same bits as
 * the whole sequence at once. Positions before the start of the sequence count as zeros.
 *
 * <p>Mutable and owned by one sequence: each forward advances it, and only after all inputs were
 * found good. Not for two threads at once, nor for two sequences of one call; both are refused as
 * far as they are noticed. Its memory is (history + rollBack) * streams * width floats on the heap.
 */
public final class ConvState {
  private static final int MAGIC = 0x31534345; // "ECS1", little-endian
  private static final int HEADER = 5 * Integer.BYTES + 2 * Long.BYTES;

  private final ConvConfig conv;
  private final int channels;
  private final int rollBack;

  /** Positions it keeps; position p lies in vector p modulo this. */
  private final int capacity;

  private final float[] ring;
  private final AtomicBoolean claimed = new AtomicBoolean();
  private long position;

  /** The lowest position that is still kept; negative ones are zeros before the start. */
  private long oldest;

  private ConvState(ConvConfig conv, int channels, int rollBack) {
    if (channels < 1 || rollBack < 0) {
      throw new IllegalArgumentException(
          "channels is " + channels + " and rollBack " + rollBack + ", expected 1 and 0 or more");
    }
    this.conv = conv;
    this.channels = channels;
    this.rollBack = rollBack;
    long vectors = (long) conv.history() + rollBack;
    if (vectors * channels > Integer.MAX_VALUE - 8) {
      throw new IllegalArgumentException(
          vectors + " vectors of " + channels + " floats are more than an array holds");
    }
    this.capacity = (int) vectors;
    this.ring = new float[capacity * channels];
    this.oldest = -(long) capacity;
  }

  /**
   * The state before the first position of a sequence.
   *
   * @param gate the layer's gate, for streams * width
   * @param conv the layer's convolution
   * @param rollBack how many of the last positions {@link #rollBack} can take back, at least 0: the
   *     most draft tokens that one step tries
   * @return a new state at position 0
   * @throws IllegalArgumentException if rollBack is negative
   */
  public static ConvState start(GateConfig gate, ConvConfig conv, int rollBack) {
    return new ConvState(conv, channels(gate), rollBack);
  }

  static int channels(GateConfig gate) {
    return Math.multiplyExact(gate.streams(), gate.width());
  }

  /**
   * Positions seen so far.
   *
   * @return the position that comes next, 0 at the start
   */
  public long position() {
    return position;
  }

  /**
   * A copy that goes its own way, for a beam or a tree of drafts.
   *
   * @return an independent state at the same position
   */
  public ConvState fork() {
    ConvState copy = new ConvState(conv, channels, rollBack);
    copy.become(this);
    return copy;
  }

  /**
   * Takes back the last positions, as if they had never been seen.
   *
   * @param positions how many, at least 0
   * @throws IllegalArgumentException if that is more than were seen, or more than are kept: after
   *     positions were taken back, only what is left of {@code rollBack} can be
   */
  public void rollBack(int positions) {
    long to = position - positions;
    if (positions < 0 || to < 0) {
      throw new IllegalArgumentException(
          "cannot take back " + positions + " of " + position + " positions");
    }
    if (to - conv.history() < oldest) {
      throw new IllegalArgumentException(
          "cannot take back "
              + positions
              + " positions: only "
              + (position - conv.history() - oldest)
              + " of the "
              + rollBack
              + " that this state has room for are left");
    }
    position = to;
  }

  /**
   * The state as bytes, which {@link #fromBytes} reads: to move a sequence to another process.
   *
   * @return little-endian: sizes, position, the kept vectors from the oldest on, CRC-32
   */
  public byte[] toBytes() {
    long first = Math.max(oldest, 0);
    int vectors = Math.toIntExact(position - first);
    int size = Math.addExact(HEADER, Math.multiplyExact(vectors, channels * Float.BYTES));
    ByteBuffer bytes =
        ByteBuffer.allocate(Math.addExact(size, Integer.BYTES)).order(ByteOrder.LITTLE_ENDIAN);
    bytes
        .putInt(MAGIC)
        .putInt(conv.kernelSize())
        .putInt(conv.dilation())
        .putInt(channels)
        .putInt(rollBack)
        .putLong(position)
        .putLong(oldest);
    for (long p = first; p < position; p++) {
      bytes.asFloatBuffer().put(ring, offset(p), channels);
      bytes.position(bytes.position() + channels * Float.BYTES);
    }
    return bytes.putInt(crc(bytes.array(), size)).array();
  }

  /**
   * Reads a state.
   *
   * @param gate the layer's gate
   * @param conv the layer's convolution
   * @param bytes what {@link #toBytes} gave
   * @return an equal state
   * @throws IllegalArgumentException if the bytes are damaged, or are those of a layer with other
   *     sizes
   */
  public static ConvState fromBytes(GateConfig gate, ConvConfig conv, byte[] bytes) {
    ByteBuffer in = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
    int end = bytes.length - Integer.BYTES;
    if (end < HEADER || in.getInt() != MAGIC) {
      throw new IllegalArgumentException(
          bytes.length + " bytes that are not a convolution state: they do not start with ECS1");
    }
    if (in.getInt(end) != crc(bytes, end)) {
      throw new IllegalArgumentException(
          "convolution state of " + bytes.length + " bytes: bad CRC");
    }
    int kernelSize = in.getInt();
    int dilation = in.getInt();
    int channels = in.getInt();
    if (kernelSize != conv.kernelSize()
        || dilation != conv.dilation()
        || channels != channels(gate)) {
      throw new IllegalArgumentException(
          "convolution state of "
              + describe(kernelSize, dilation, channels)
              + ", expected "
              + describe(conv.kernelSize(), conv.dilation(), channels(gate)));
    }
    ConvState state = new ConvState(conv, channels, in.getInt());
    state.position = in.getLong();
    state.oldest = in.getLong();
    long first = Math.max(state.oldest, 0);
    if (state.oldest < -(long) state.capacity
        || state.position - conv.history() < state.oldest
        || state.position - first > state.capacity
        || (state.position - first) * channels * Float.BYTES != end - HEADER) {
      throw new IllegalArgumentException(
          "convolution state of "
              + bytes.length
              + " bytes holds positions "
              + first
              + " to "
              + state.position
              + ", which is no valid range");
    }
    for (long p = first; p < state.position; p++) {
      in.asFloatBuffer().get(state.ring, state.offset(p), channels);
      in.position(in.position() + channels * Float.BYTES);
    }
    return state;
  }

  private static int crc(byte[] bytes, int count) {
    CRC32 crc = new CRC32();
    crc.update(bytes, 0, count);
    return (int) crc.getValue();
  }

  private static String describe(int kernelSize, int dilation, int channels) {
    return "kernelSize " + kernelSize + ", dilation " + dilation + ", channels " + channels;
  }

  /** Refuses a state of another layer shape. */
  void check(ConvConfig expected, int expectedChannels) {
    if (conv.kernelSize() != expected.kernelSize()
        || conv.dilation() != expected.dilation()
        || channels != expectedChannels) {
      throw new IllegalArgumentException(
          "convolution state of "
              + describe(conv.kernelSize(), conv.dilation(), channels)
              + ", expected "
              + describe(expected.kernelSize(), expected.dilation(), expectedChannels));
    }
  }

  /** Takes the state for one call. */
  void claim() {
    if (!claimed.compareAndSet(false, true)) {
      throw new IllegalStateException(
          "this convolution state is in use: one state belongs to one sequence of one call");
    }
  }

  void release() {
    claimed.set(false);
  }

  /** The kept vectors; {@link #offset} says where one begins. */
  float[] ring() {
    return ring;
  }

  /** Where the vector of a position begins. */
  int offset(long position) {
    return (int) Math.floorMod(position, (long) capacity) * channels;
  }

  /** Takes over everything from a state of the same sizes. */
  void become(ConvState other) {
    System.arraycopy(other.ring, 0, ring, 0, ring.length);
    position = other.position;
    oldest = other.oldest;
  }

  /** Back to the start. */
  void reset() {
    position = 0;
    oldest = -(long) capacity;
  }

  /** The most vectors that it keeps. */
  int capacity() {
    return capacity;
  }

  /** Puts the vector of one of the new positions into place. */
  @FunctionalInterface
  interface Source {
    /**
     * Writes a vector.
     *
     * @param index which: the first of the given ones is 0
     * @param out where to
     * @param from index of its first element
     */
    void write(int index, float[] out, int from);
  }

  /**
   * Moves on by some positions.
   *
   * @param count number of positions
   * @param source has their vectors; asked only for those that are kept
   */
  void append(int count, Source source) {
    long end = position + count;
    for (int index = Math.max(0, count - capacity); index < count; index++) {
      source.write(index, ring, offset(position + index));
    }
    position = end;
    oldest = Math.max(oldest, end - capacity);
  }

  @Override
  public String toString() {
    return "ConvState[position=" + position + ", kept from " + oldest + "]";
  }
}
