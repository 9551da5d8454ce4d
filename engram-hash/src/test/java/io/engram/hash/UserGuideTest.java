// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;

/** What a user of this module writes. */
class UserGuideTest {
  @Test
  void promptThenDraftThenDecode() {
    HashScheme scheme =
        new HashScheme(
            99_092,
            List.of(2, 3, 4),
            8,
            List.of(16_000_000L, 16_000_000L, 16_000_000L),
            List.of(1, 14),
            0,
            HashScheme.Generator.NUMPY_PCG64,
            HashScheme.PrimeSearch.RESTART_PER_ORDER,
            1);
    WindowRule rule = new WindowRule(2, WindowRule.NO_BOUNDARY, WindowRule.Dead.BLOCKS);
    List<NgramHasher> hashers =
        HashLayout.derive(scheme).stream().map(layout -> new NgramHasher(layout, rule)).toList();
    NgramHasher layer1 = hashers.getFirst();

    int[] prompt = {0, 237, 237, 174, 11_412, 16};
    Lookback past = Lookback.start();
    long[] promptRows = layer1.hash(prompt, past);
    past = past.advance(prompt);
    assertEquals(6 * 24, promptRows.length);

    // Three drafted tokens, of which one is accepted.
    int[] draft = {15_844, 14, 99};
    long[] draftRows = layer1.hash(draft, past);
    past = past.advance(draft).rollBack(2);
    assertEquals(7, past.position());

    long[] rows = new long[layer1.columns()];
    layer1.hash(3, past, rows, 0);
    assertArrayEquals(
        layer1.hash(new int[] {0, 237, 237, 174, 11_412, 16, 15_844, 3}),
        concat(promptRows, Arrays.copyOf(draftRows, 24), rows));
  }

  private static long[] concat(long[]... parts) {
    return Arrays.stream(parts).flatMapToLong(Arrays::stream).toArray();
  }
}
