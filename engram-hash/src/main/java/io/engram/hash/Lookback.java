// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.function.IntUnaryOperator;
import java.util.zip.CRC32;

/**
 * The few ids before a position: what carries n-grams over from one chunk of a sequence to the
 * next.
 *
 * <p>The ids are those that the caller hashes: compressed ids where the variant compresses, raw ids
 * elsewhere, and {@link #DEAD} for a position without a token. However a sequence is cut into
 * chunks, hashing each chunk with the look-back that the chunks before it led to gives the row ids
 * of the whole.
 *
 * <p>A value: {@link #advance(int)} and {@link #rollBack} return a new look-back and leave this one
 * as it is. To fork a sequence, keep the reference. To undo drafted tokens, keep the reference from
 * before them, or roll back. A look-back keeps at least as many ids as its capacity, where so many
 * have passed and none were rolled back; by default 71: enough for n-gram orders up to 8 after
 * rolling back up to 64 drafted tokens. Where more is rolled back, the ids that are missing are
 * known to be missing, and hashing that needs them fails.
 *
 * <p>Immutable, safe to share.
 */
public final class Lookback {
  /** The id of a position without a token, such as an image cell or padding. */
  public static final int DEAD = -1;

  /** What {@link #ago} answers for a position before the start of the sequence. */
  public static final int BEFORE_START = -2;

  /** Orders up to 8 look back at most 7 ids; a draft is rarely longer than 64. */
  private static final int DEFAULT_CAPACITY = 7 + 64;

  /** "ELB1" in a little-endian file. */
  private static final int MAGIC = 0x31424C45;

  private static final int HEADER_BYTES = 4 * Integer.BYTES + Long.BYTES;
  private static final int FORMAT = 1;

  private final int capacity;
  private final long position;

  /** What is kept, the latest id last; never more than the capacity or the position. */
  private final int[] ids;

  private Lookback(int capacity, long position, int[] ids) {
    this.capacity = capacity;
    this.position = position;
    this.ids = ids;
  }

  /**
   * The start of a sequence, with the default capacity of 71 ids.
   *
   * @return a look-back at position 0
   */
  public static Lookback start() {
    return start(DEFAULT_CAPACITY);
  }

  /**
   * The start of a sequence.
   *
   * @param capacity how many ids to keep, at least 1: the highest n-gram order less one, plus the
   *     longest roll-back
   * @return a look-back at position 0
   * @throws IllegalArgumentException if the capacity is below 1
   */
  public static Lookback start(int capacity) {
    if (capacity < 1) {
      throw new IllegalArgumentException("capacity is " + capacity + ", expected at least 1");
    }
    return new Lookback(capacity, 0, new int[0]);
  }

  /**
   * The absolute position of the next id: how many ids have passed.
   *
   * @return the position, 0 at the start of the sequence
   */
  public long position() {
    return position;
  }

  /**
   * How many of the ids before the position are still known.
   *
   * @return a number up to the capacity
   */
  public int kept() {
    return ids.length;
  }

  /**
   * The most ids that are kept.
   *
   * @return the capacity
   */
  public int capacity() {
    return capacity;
  }

  /**
   * The id some positions back.
   *
   * @param k how many positions back, at least 1
   * @return the id, {@link #DEAD}, or {@link #BEFORE_START} if the sequence starts later than that
   * @throws IllegalArgumentException if {@code k} is below 1
   * @throws IllegalStateException if that id lies within the sequence and is no longer kept
   */
  public int ago(int k) {
    if (k < 1) {
      throw new IllegalArgumentException("k is " + k + ", expected at least 1");
    }
    if (k <= ids.length) {
      return ids[ids.length - k];
    }
    if (k > position) {
      return BEFORE_START;
    }
    throw new IllegalStateException(
        "the id %d back from position %d is no longer known, only %d are"
            .formatted(k, position, ids.length));
  }

  /**
   * The look-back after one more id.
   *
   * @param id the id, not negative, or {@link #DEAD}
   * @return the look-back at the next position
   * @throws IllegalArgumentException if the id is negative and not {@link #DEAD}
   */
  public Lookback advance(int id) {
    check(id, position);
    int keep = Math.min(ids.length, capacity - 1);
    int[] next = Arrays.copyOfRange(ids, ids.length - keep, ids.length + 1);
    next[keep] = id;
    return new Lookback(capacity, Math.addExact(position, 1), next);
  }

  /**
   * The look-back after more ids.
   *
   * @param more the ids, not negative, or {@link #DEAD}
   * @return the look-back after them
   * @throws IllegalArgumentException if an id is negative and not {@link #DEAD}
   */
  public Lookback advance(int[] more) {
    return advance(more, 0, more.length);
  }

  /**
   * The look-back after more ids.
   *
   * @param more an array that holds the ids, not negative, or {@link #DEAD}
   * @param from index of the first
   * @param count how many, at least 0
   * @return the look-back after them
   * @throws IllegalArgumentException if an id is negative and not {@link #DEAD}, or if the range is
   *     not within the array
   */
  public Lookback advance(int[] more, int from, int count) {
    Checks.range("ids", more.length, from, count);
    for (int i = 0; i < count; i++) {
      check(more[from + i], position + i);
    }
    int fresh = Math.min(count, capacity);
    int keep = Math.min(ids.length, capacity - fresh);
    int[] next = Arrays.copyOfRange(ids, ids.length - keep, ids.length + fresh);
    System.arraycopy(more, from + count - fresh, next, keep, fresh);
    return new Lookback(capacity, Math.addExact(position, count), next);
  }

  private static void check(int id, long position) {
    if (id < DEAD) {
      throw new IllegalArgumentException(
          "id " + id + " at position " + position + " is neither an id nor DEAD");
    }
  }

  /**
   * The look-back before its latest ids, such as drafted tokens that were rejected.
   *
   * @param n how many ids to forget, at least 0
   * @return the look-back {@code n} positions earlier; it keeps {@code n} ids fewer
   * @throws IllegalArgumentException if {@code n} is negative
   * @throws IllegalStateException if {@code n} is more than is kept, or reaches before the start
   */
  public Lookback rollBack(int n) {
    if (n < 0) {
      throw new IllegalArgumentException("n is " + n + ", expected at least 0");
    }
    if (n > position) {
      throw new IllegalStateException(
          "cannot roll back " + n + " ids from position " + position + ": before the start");
    }
    if (n > ids.length) {
      throw new IllegalStateException(
          "cannot roll back %d ids from position %d: only %d are kept"
              .formatted(n, position, ids.length));
    }
    return new Lookback(capacity, position - n, Arrays.copyOf(ids, ids.length - n));
  }

  /**
   * The same positions with other ids, such as compressed ids for raw ones.
   *
   * @param translation the new id for an id; may answer {@link #DEAD}. It is not asked about
   *     positions that are {@link #DEAD}, they stay so
   * @return the translated look-back
   * @throws IllegalArgumentException if a new id is negative and not {@link #DEAD}
   */
  public Lookback map(IntUnaryOperator translation) {
    int[] mapped = new int[ids.length];
    for (int i = 0; i < mapped.length; i++) {
      mapped[i] = ids[i] == DEAD ? DEAD : translation.applyAsInt(ids[i]);
      check(mapped[i], position - ids.length + i);
    }
    return new Lookback(capacity, position, mapped);
  }

  /**
   * Writes this look-back down.
   *
   * <p>Little-endian: the ASCII letters {@code ELB1}, format version 1, capacity, number of ids
   * kept (32 bits each), position (64 bits), the ids kept, the latest last (32 bits each), and the
   * CRC-32 of all that.
   *
   * @return the bytes
   */
  public byte[] toBytes() {
    int length = HEADER_BYTES + (ids.length + 1) * Integer.BYTES;
    ByteBuffer buffer = ByteBuffer.allocate(length).order(ByteOrder.LITTLE_ENDIAN);
    buffer.putInt(MAGIC).putInt(FORMAT).putInt(capacity).putInt(ids.length).putLong(position);
    for (int id : ids) {
      buffer.putInt(id);
    }
    buffer.putInt(crc(buffer.array(), buffer.position()));
    return buffer.array();
  }

  /**
   * Reads what {@link #toBytes} wrote.
   *
   * @param bytes the bytes, no more and no less
   * @return an equal look-back
   * @throws IllegalArgumentException if the bytes are not those of a look-back, of another version,
   *     too short or too long, or damaged
   */
  public static Lookback fromBytes(byte[] bytes) {
    if (bytes.length < HEADER_BYTES + Integer.BYTES) {
      throw damaged(
          "found %d bytes, expected at least %d".formatted(bytes.length, HEADER_BYTES + 4));
    }
    ByteBuffer buffer = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
    int magic = buffer.getInt();
    if (magic != MAGIC) {
      throw damaged("found magic 0x%08x, expected 0x%08x".formatted(magic, MAGIC));
    }
    int format = buffer.getInt();
    if (format != FORMAT) {
      throw damaged("found version %d, expected %d".formatted(format, FORMAT));
    }
    int capacity = buffer.getInt();
    int kept = buffer.getInt();
    long position = buffer.getLong();
    long expected = HEADER_BYTES + (kept + 1L) * Integer.BYTES;
    if (kept < 0 || bytes.length != expected) {
      throw damaged(
          "found %d bytes with %d ids, expected %d".formatted(bytes.length, kept, expected));
    }
    int end = bytes.length - Integer.BYTES;
    if (buffer.getInt(end) != crc(bytes, end)) {
      throw damaged(
          "found CRC-32 0x%08x, expected 0x%08x".formatted(buffer.getInt(end), crc(bytes, end)));
    }
    if (capacity < 1 || kept > capacity || kept > position) {
      throw damaged(
          "%d ids do not fit capacity %d and position %d".formatted(kept, capacity, position));
    }
    int[] ids = new int[kept];
    for (int i = 0; i < kept; i++) {
      ids[i] = buffer.getInt();
      if (ids[i] < DEAD) {
        throw damaged("found id %d, expected an id or DEAD".formatted(ids[i]));
      }
    }
    return new Lookback(capacity, position, ids);
  }

  private static IllegalArgumentException damaged(String how) {
    return new IllegalArgumentException("not a look-back: " + how);
  }

  private static int crc(byte[] bytes, int length) {
    CRC32 crc = new CRC32();
    crc.update(bytes, 0, length);
    return (int) crc.getValue();
  }

  /** Equal are look-backs with the same capacity, the same position and the same ids kept. */
  @Override
  public boolean equals(Object other) {
    return other instanceof Lookback lookback
        && capacity == lookback.capacity
        && position == lookback.position
        && Arrays.equals(ids, lookback.ids);
  }

  @Override
  public int hashCode() {
    return 31 * (31 * Arrays.hashCode(ids) + Long.hashCode(position)) + capacity;
  }

  @Override
  public String toString() {
    int shown = Math.min(ids.length, 8);
    return "Lookback[position %d, %d of at most %d ids kept, the latest %s]"
        .formatted(
            position,
            ids.length,
            capacity,
            Arrays.toString(Arrays.copyOfRange(ids, ids.length - shown, ids.length)));
  }
}
