// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

import static org.junit.jupiter.api.Assertions.assertAll;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.engram.testkit.Golden;
import io.engram.testkit.Seeds;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.Reader;
import java.math.BigInteger;
import java.nio.charset.StandardCharsets;
import java.util.random.RandomGenerator;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;

@Tag("once")
class NumpyPcg64Test {
  static Stream<String> streamSeeds() {
    return Golden.json("numpy_pcg64_streams.json").keySet().stream();
  }

  @ParameterizedTest
  @MethodSource("streamSeeds")
  void stateAndRawDrawsAreNumpys(String seed) {
    JsonObject golden = Golden.json("numpy_pcg64_streams.json").getAsJsonObject(seed);
    long entropy = Long.parseLong(seed);
    assertArrayEquals(unsigned(golden.get("seedseq_u64x4")), NumpyPcg64.seedSequence(entropy));
    NumpyPcg64 generator = new NumpyPcg64(entropy);
    assertEquals(
        new BigInteger(golden.get("state").getAsString().substring(2), 16),
        wide(generator.stateHigh(), generator.stateLow()));
    assertEquals(
        new BigInteger(golden.get("inc").getAsString().substring(2), 16),
        wide(generator.incrementHigh(), generator.incrementLow()));
    for (long expected : unsigned(golden.get("raw_u64"))) {
      assertEquals(expected, generator.nextLong());
    }
  }

  private static long[] unsigned(JsonElement array) {
    return array.getAsJsonArray().asList().stream()
        .mapToLong(e -> Long.parseUnsignedLong(e.getAsString()))
        .toArray();
  }

  private static BigInteger wide(long high, long low) {
    return new BigInteger(
        Long.toHexString(high) + "%016x".formatted(low), 16); // both halves are unsigned
  }

  /** Made by NumPy; the file says how. */
  static Stream<JsonObject> integers() throws IOException {
    try (Reader reader =
        new InputStreamReader(
            NumpyPcg64Test.class.getResourceAsStream("/numpy_integers.json"),
            StandardCharsets.UTF_8)) {
      return JsonParser.parseReader(reader)
          .getAsJsonObject()
          .getAsJsonArray("sequences")
          .asList()
          .stream()
          .map(JsonElement::getAsJsonObject);
    }
  }

  @ParameterizedTest
  @MethodSource("integers")
  void boundedDrawsAreNumpys(JsonObject sequence) {
    NumpyPcg64 generator = new NumpyPcg64(sequence.get("seed").getAsLong());
    for (JsonElement call : sequence.getAsJsonArray("calls")) {
      long high = call.getAsJsonObject().get("high").getAsLong();
      for (long expected : Golden.longs(call.getAsJsonObject().get("values"))) {
        assertEquals(
            expected,
            generator.nextLong(high),
            () -> "seed " + sequence.get("seed") + " high " + high);
      }
    }
  }

  @Test
  void boundedDrawsStayWithinTheirBound() {
    RandomGenerator random = Seeds.random("boundedDrawsStayWithinTheirBound");
    for (int i = 0; i < 2000; i++) {
      NumpyPcg64 generator = new NumpyPcg64(random.nextLong(Long.MAX_VALUE));
      long high = 1 + (random.nextLong() >>> random.nextInt(1, 64));
      for (int draw = 0; draw < 5; draw++) {
        long value = generator.nextLong(high);
        assertTrue(value >= 0 && value < high, () -> value + " of " + high);
      }
    }
  }

  @ParameterizedTest
  @ValueSource(longs = {-1, Long.MIN_VALUE})
  void negativeSeedsAreRefused(long seed) {
    assertThrows(IllegalArgumentException.class, () -> new NumpyPcg64(seed));
  }

  @Test
  void boundsBelowOneAreRefused() {
    NumpyPcg64 generator = new NumpyPcg64(0);
    assertAll(
        () -> assertThrows(IllegalArgumentException.class, () -> generator.nextLong(0)),
        () -> assertThrows(IllegalArgumentException.class, () -> generator.nextLong(-5)));
  }
}
