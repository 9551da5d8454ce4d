// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import java.util.Arrays;
import java.util.SplittableRandom;
import java.util.function.Function;

/**
 * Draws tokens from a model.
 *
 * @param temperature what logits are divided by; 0 takes the likeliest token
 * @param candidates how many of the likeliest tokens are drawn from, at least 1
 * @param seed of the draws
 */
public record Sampler(double temperature, int candidates, long seed) {

  /** Checks the ranges. */
  public Sampler {
    if (!(temperature >= 0) || Double.isInfinite(temperature) || candidates < 1) {
      throw new IllegalArgumentException(
          "temperature %s and candidates %d, expected at least 0 and at least 1"
              .formatted(temperature, candidates));
    }
  }

  /**
   * Continues a text.
   *
   * @param model the model; sees its last context tokens
   * @param prompt ids, at least 1
   * @param count how many tokens to add
   * @return the added ids
   */
  public int[] continuation(LanguageModel model, int[] prompt, int count) {
    return continuation(model::logits, model.config().context(), prompt, count);
  }

  int[] continuation(Function<int[], float[]> logits, int context, int[] prompt, int count) {
    if (prompt.length == 0) {
      throw new IllegalArgumentException("the prompt has no tokens, expected at least 1");
    }
    SplittableRandom random = new SplittableRandom(seed);
    int[] ids = Arrays.copyOf(prompt, prompt.length + count);
    for (int at = prompt.length; at < ids.length; at++) {
      ids[at] = draw(logits.apply(Arrays.copyOfRange(ids, Math.max(0, at - context), at)), random);
    }
    return Arrays.copyOfRange(ids, prompt.length, ids.length);
  }

  private int draw(float[] logits, SplittableRandom random) {
    // Order of equal logits: the lower id first, as a stable sort leaves them.
    int[] best =
        java.util.stream.IntStream.range(0, logits.length)
            .boxed()
            .sorted((a, b) -> Float.compare(logits[b], logits[a]))
            .limit(temperature == 0 ? 1 : candidates)
            .mapToInt(Integer::intValue)
            .toArray();
    if (best.length == 1) {
      return best[0];
    }
    double[] weights =
        Arrays.stream(best)
            .mapToDouble(id -> Math.exp((logits[id] - logits[best[0]]) / temperature))
            .toArray();
    double left = random.nextDouble() * Arrays.stream(weights).sum();
    for (int i = 0; i < best.length; i++) {
      left -= weights[i];
      if (left < 0) {
        return best[i];
      }
    }
    return best[best.length - 1];
  }
}
