// SPDX-License-Identifier: Apache-2.0
package io.engram.prefetch;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.prefetch.StagingMemory.Region;
import io.engram.testkit.Seeds;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

@Tag("once")
class StagingMemoryTest {
  private static final long PIECE = 1 << 20;

  @ParameterizedTest
  @ValueSource(longs = {1024, 5000, 70_000, 3 * PIECE + 17})
  void regionsDoNotOverlapAndAllComeBack(long limit) {
    RandomGenerator random = Seeds.random("StagingMemoryTest.regionsDoNotOverlap");
    StagingMemory memory = new StagingMemory(limit, false);
    assertTrue(memory.limit() <= limit);
    List<Region> taken = new ArrayList<>();
    Map<Region, Integer> stamps = new HashMap<>();
    int refused = 0;
    for (int i = 0; i < 20_000; i++) {
      if (random.nextInt(3) > 0) {
        long bytes = 1 + random.nextLong(random.nextBoolean() ? 3000 : memory.largest());
        Region region = memory.take(bytes);
        if (region == null) {
          refused++;
          continue;
        }
        assertTrue(region.bytes() >= bytes);
        stamp(region, i);
        taken.add(region);
        stamps.put(region, i);
      } else if (!taken.isEmpty()) {
        int which = random.nextInt(taken.size());
        Region region = taken.remove(which);
        assertStamp(region, stamps.remove(region));
        memory.give(region);
      }
      assertTrue(memory.inUse() <= memory.limit());
      assertEquals(taken.stream().mapToLong(Region::bytes).sum(), memory.inUse());
    }
    assertTrue(refused > 0, "the bound was never reached");
    for (int i = 0; i < taken.size(); i++) {
      assertStamp(taken.get(i), stamps.get(taken.get(i)));
      memory.give(taken.get(i));
    }
    assertEquals(0, memory.inUse());
    // Buddies have found each other again.
    for (long left = memory.limit(); left > 0; left -= memory.largest()) {
      assertNotNull(memory.take(memory.largest()));
    }
    assertNull(memory.take(1));
    assertEquals(memory.limit(), memory.peak());
    memory.close();
    memory.close();
  }

  private static void stamp(Region region, int value) {
    region.memory().set(ValueLayout.JAVA_INT, region.offset(), value);
    region.memory().set(ValueLayout.JAVA_INT, region.offset() + region.bytes() - 4, ~value);
  }

  private static void assertStamp(Region region, int value) {
    region.check();
    assertEquals(value, region.memory().get(ValueLayout.JAVA_INT, region.offset()));
    assertEquals(
        ~value, region.memory().get(ValueLayout.JAVA_INT, region.offset() + region.bytes() - 4));
  }

  @Test
  void regionThatWasGivenBackIsNoticed() {
    StagingMemory memory = new StagingMemory(1024, false);
    Region first = memory.take(10);
    memory.give(first);
    assertThrows(IllegalStateException.class, first::check);
    assertThrows(IllegalStateException.class, () -> memory.give(first));
    Region second = memory.take(10);
    assertThrows(IllegalStateException.class, first::check);
    second.check();
    memory.close();
  }

  @Test
  void noRoomIsNoError() {
    for (long limit : new long[] {0, 1023}) {
      StagingMemory memory = new StagingMemory(limit, false);
      assertEquals(0, memory.limit());
      assertNull(memory.take(1));
      memory.close();
    }
    StagingMemory memory = new StagingMemory(4 * PIECE, true);
    assertNull(memory.take(PIECE + 1));
    memory.close();
    assertNull(memory.take(1));
  }

  @Test
  void poisonIsNoPlausibleRow() {
    StagingMemory memory = new StagingMemory(2048, true);
    Region region = memory.take(2048);
    assertTrue(Float.isNaN(region.memory().get(ValueLayout.JAVA_FLOAT, 1000)));
    region.memory().fill((byte) 0);
    memory.give(region);
    assertTrue(Float.isNaN(memory.take(100).memory().get(ValueLayout.JAVA_FLOAT, 96)));
    memory.close();
  }
}
