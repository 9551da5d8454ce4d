// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.testkit.Seeds;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.Arrays;
import java.util.random.RandomGenerator;
import java.util.zip.CRC32;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

@Tag("once")
class LookbackTest {
  @Test
  void theStartHasNothingBefore() {
    Lookback start = Lookback.start();
    assertEquals(0, start.position());
    assertEquals(0, start.kept());
    assertEquals(71, start.capacity());
    assertEquals(Lookback.BEFORE_START, start.ago(1));
    assertEquals(Lookback.BEFORE_START, start.ago(Integer.MAX_VALUE));
    assertThrows(IllegalArgumentException.class, () -> start.ago(0));
    assertThrows(IllegalArgumentException.class, () -> Lookback.start(0));
  }

  @Test
  void advancingLeavesTheOldOneAsItWas() {
    Lookback one = Lookback.start().advance(7);
    Lookback two = one.advance(8);
    Lookback fork = one.advance(Lookback.DEAD);
    assertEquals(1, one.position());
    assertEquals(7, one.ago(1));
    assertEquals(8, two.ago(1));
    assertEquals(7, two.ago(2));
    assertEquals(Lookback.DEAD, fork.ago(1));
    assertEquals(7, fork.ago(2));
    assertEquals(Lookback.BEFORE_START, fork.ago(3));
  }

  @ParameterizedTest
  @ValueSource(ints = {1, 2, 3, 10, 71, 1000})
  void everyWayOfAdvancingGivesTheSameValue(int capacity) {
    RandomGenerator random = Seeds.random("everyWayOfAdvancingGivesTheSameValue");
    for (int round = 0; round < 50; round++) {
      int[] ids = random.ints(random.nextInt(200), -1, 100_000).toArray();
      Lookback singly = Lookback.start(capacity);
      for (int id : ids) {
        singly = singly.advance(id);
      }
      Lookback atOnce = Lookback.start(capacity).advance(ids);
      Lookback inParts = Lookback.start(capacity);
      for (int from = 0; from < ids.length; ) {
        int count = random.nextInt(ids.length - from + 1);
        inParts = inParts.advance(ids, from, count);
        from += count;
      }
      assertEquals(singly, atOnce);
      assertEquals(singly, inParts);
      assertEquals(singly.hashCode(), inParts.hashCode());
      assertEquals(ids.length, singly.position());
      assertEquals(Math.min(ids.length, capacity), singly.kept());
      for (int k = 1; k <= singly.kept(); k++) {
        assertEquals(ids[ids.length - k], singly.ago(k));
      }
    }
  }

  @Test
  void idsThatAreNoLongerKnownAreNotInvented() {
    Lookback past = Lookback.start(3).advance(new int[] {1, 2, 3, 4, 5});
    assertEquals(3, past.ago(3));
    IllegalStateException e = assertThrows(IllegalStateException.class, () -> past.ago(4));
    assertTrue(e.getMessage().contains("position 5"), e.getMessage());
    assertThrows(IllegalStateException.class, () -> past.ago(5));
    assertEquals(Lookback.BEFORE_START, past.ago(6));
  }

  @Test
  void rollingBackForgetsTheLatest() {
    Lookback past = Lookback.start().advance(new int[] {1, 2, 3});
    Lookback drafted = past.advance(new int[] {9, 9, 9, 9});
    assertEquals(past, drafted.rollBack(4));
    assertEquals(drafted, drafted.rollBack(0));
    assertEquals(Lookback.start(), drafted.rollBack(7));
    assertThrows(IllegalStateException.class, () -> drafted.rollBack(8));
    assertThrows(IllegalArgumentException.class, () -> drafted.rollBack(-1));
  }

  @Test
  void rollingBackFurtherThanIsKeptFails() {
    Lookback past = Lookback.start(4).advance(new int[] {1, 2, 3, 4, 5, 6});
    Lookback back = past.rollBack(3);
    assertEquals(3, back.position());
    assertEquals(1, back.kept());
    assertEquals(3, back.ago(1));
    assertThrows(IllegalStateException.class, () -> back.ago(2));
    assertThrows(IllegalStateException.class, () -> past.rollBack(5));
    assertThrows(IllegalStateException.class, () -> back.rollBack(2));
    // It fills up again.
    assertEquals(4, back.advance(new int[] {7, 8, 9, 10}).kept());
  }

  @Test
  void theDefaultServesOrderEightAfterSixtyFourDrafts() {
    Lookback past = Lookback.start().advance(new int[1000]);
    assertEquals(7, past.rollBack(64).kept());
  }

  @Test
  void mapTranslatesAllButDead() {
    Lookback raw = Lookback.start(5).advance(new int[] {1, 2, Lookback.DEAD, 4});
    Lookback mapped = raw.map(id -> id * 10);
    assertEquals(Lookback.start(5).advance(new int[] {10, 20, Lookback.DEAD, 40}), mapped);
    assertEquals(
        Lookback.DEAD, raw.map(id -> id == 4 ? Lookback.DEAD : id).ago(1), "images are ids too");
    IllegalArgumentException e =
        assertThrows(IllegalArgumentException.class, () -> raw.map(id -> id == 2 ? -3 : id));
    assertTrue(e.getMessage().contains("id -3 at position 1"), e.getMessage());
  }

  @Test
  void idsOutOfRangeAreRefused() {
    Lookback past = Lookback.start().advance(5);
    assertThrows(IllegalArgumentException.class, () -> past.advance(-2));
    IllegalArgumentException e =
        assertThrows(IllegalArgumentException.class, () -> past.advance(new int[] {1, 2, -2}));
    assertTrue(e.getMessage().contains("id -2 at position 3"), e.getMessage());
    assertThrows(IllegalArgumentException.class, () -> past.advance(Lookback.BEFORE_START));
    assertThrows(IllegalArgumentException.class, () -> past.advance(new int[3], 2, 2));
    assertThrows(IllegalArgumentException.class, () -> past.advance(new int[3], -1, 2));
    assertThrows(IllegalArgumentException.class, () -> past.advance(new int[3], 1, -1));
    assertThrows(
        IllegalArgumentException.class, () -> past.advance(new int[3], Integer.MAX_VALUE, 2));
    assertEquals(past, past.advance(new int[3], 3, 0));
  }

  @Test
  void equalityCoversPositionCapacityAndIds() {
    Lookback past = Lookback.start(2).advance(new int[] {1, 2, 3});
    assertEquals(past, Lookback.start(2).advance(new int[] {8, 2, 3}));
    assertNotEquals(past, Lookback.start(2).advance(new int[] {1, 2, 4}));
    assertNotEquals(past, Lookback.start(2).advance(new int[] {1, 1, 2, 3}));
    assertNotEquals(past, Lookback.start(3).advance(new int[] {1, 2, 3}));
    assertNotEquals(past, null);
    assertTrue(past.toString().contains("position 3"), past.toString());
    assertTrue(past.toString().contains("[2, 3]"), past.toString());
  }

  @Test
  void bytesRoundTrip() {
    RandomGenerator random = Seeds.random("bytesRoundTrip");
    for (int round = 0; round < 200; round++) {
      Lookback past =
          Lookback.start(random.nextInt(1, 90))
              .advance(random.ints(random.nextInt(150), -1, Integer.MAX_VALUE).toArray());
      past = past.rollBack(random.nextInt(past.kept() + 1));
      assertEquals(past, Lookback.fromBytes(past.toBytes()));
    }
  }

  /** The format is a contract: what was written once must be read for ever. */
  @Test
  void bytesAreThoseOfVersionOne() {
    byte[] expected = {
      'E', 'L', 'B', '1', // magic
      1, 0, 0, 0, // version
      3, 0, 0, 0, // capacity
      2, 0, 0, 0, // ids kept
      2, 0, 0, 0, 0, 0, 0, 0, // position
      5, 1, 0, 0, // 261
      -1, -1, -1, -1, // DEAD
      0, 0, 0, 0, // CRC-32, below
    };
    CRC32 crc = new CRC32();
    crc.update(expected, 0, 32);
    ByteBuffer.wrap(expected).order(ByteOrder.LITTLE_ENDIAN).putInt(32, (int) crc.getValue());
    Lookback past = Lookback.start(3).advance(new int[] {261, Lookback.DEAD});
    assertArrayEquals(expected, past.toBytes());
    assertEquals(past, Lookback.fromBytes(expected));
  }

  @Test
  void everyFlippedBitAndEveryLengthIsNoticed() {
    byte[] good = Lookback.start(4).advance(new int[] {1, 2, 3, 4, 5, 6}).toBytes();
    for (int bit = 0; bit < good.length * 8; bit++) {
      byte[] bad = good.clone();
      bad[bit / 8] ^= (byte) (1 << (bit % 8));
      assertThrows(IllegalArgumentException.class, () -> Lookback.fromBytes(bad), "bit " + bit);
    }
    for (int length = 0; length < good.length + 9; length++) {
      if (length != good.length) {
        byte[] bad = Arrays.copyOf(good, length);
        assertThrows(
            IllegalArgumentException.class, () -> Lookback.fromBytes(bad), "length " + length);
      }
    }
  }

  /** With a good checksum, values that no look-back can have are refused all the same. */
  @Test
  void impossibleValuesAreRefused() {
    impossible("magic", 0, 0x32424C45);
    impossible("version 2", 4, 2);
    impossible("capacity 0", 8, 0);
    impossible("capacity 1", 8, 1);
    impossible("position 1", 16, 1);
    impossible("id -2", 24, -2);
    // The number of ids decides the length before anything else is believed.
    impossible("bytes with 3 ids", 12, 3);
    impossible("bytes with -1 ids", 12, -1);
    impossible("bytes with 2147483647 ids", 12, Integer.MAX_VALUE);
  }

  private static void impossible(String message, int offset, int value) {
    byte[] bytes = Lookback.start(4).advance(new int[] {6, 7}).toBytes();
    ByteBuffer buffer = ByteBuffer.wrap(bytes).order(ByteOrder.LITTLE_ENDIAN);
    buffer.putInt(offset, value);
    CRC32 crc = new CRC32();
    crc.update(bytes, 0, bytes.length - 4);
    buffer.putInt(bytes.length - 4, (int) crc.getValue());
    IllegalArgumentException e =
        assertThrows(IllegalArgumentException.class, () -> Lookback.fromBytes(bytes));
    assertTrue(e.getMessage().contains(message), e.getMessage());
  }
}
