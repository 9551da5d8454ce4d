// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

import java.util.Arrays;
import java.util.random.RandomGenerator;
import java.util.random.RandomGeneratorFactory;

/**
 * A source whose next symbol depends on the last few and on nothing else, by a random table: for
 * each context a few successors, drawn from the whole alphabet, with random probabilities. Its
 * entropy is known, so that a model's loss can be compared with the least that there is.
 *
 * <p>Contexts share nothing: what follows one says nothing of what follows another, so that there
 * is nothing to be learnt but the table. Symbols are 0 to alphabet - 1. Immutable, safe to share.
 */
public final class MarkovSource {
  private static final String GENERATOR = "L64X128MixRandom";

  /** Symbols after which a source has forgotten how it began. */
  private static final int RUN_IN = 1000;

  private final int order;
  private final int alphabet;
  private final int successors;
  private final int contexts;
  private final int[] symbols;
  private final double[] probabilities;

  /**
   * A random source.
   *
   * @param order symbols that decide over the next, at least 1
   * @param alphabet number of symbols, at least 2
   * @param successors symbols that can follow a context, 1 to alphabet
   * @param seed the same seed gives the same source
   * @throws IllegalArgumentException if a number is out of range or there are more than 2^24
   *     contexts
   */
  public MarkovSource(int order, int alphabet, int successors, long seed) {
    if (order < 1 || alphabet < 2 || successors < 1 || successors > alphabet) {
      throw new IllegalArgumentException(
          "order %d, alphabet %d, successors %d: expected at least 1, at least 2, 1 to the alphabet"
              .formatted(order, alphabet, successors));
    }
    double size = Math.pow(alphabet, order);
    if (size > 1 << 24) {
      throw new IllegalArgumentException(
          "%d symbols make more than 2^24 contexts of order %d".formatted(alphabet, order));
    }
    this.order = order;
    this.alphabet = alphabet;
    this.successors = successors;
    this.contexts = (int) size;
    this.symbols = new int[contexts * successors];
    this.probabilities = new double[contexts * successors];
    RandomGenerator random = RandomGeneratorFactory.of(GENERATOR).create(seed);
    int[] all = new int[alphabet];
    for (int context = 0; context < contexts; context++) {
      for (int s = 0; s < alphabet; s++) {
        all[s] = s;
      }
      double sum = 0;
      for (int k = 0; k < successors; k++) {
        int pick = random.nextInt(k, alphabet);
        int symbol = all[pick];
        all[pick] = all[k];
        symbols[context * successors + k] = symbol;
        // Normalised exponentials are uniform over all distributions.
        double weight = random.nextExponential();
        probabilities[context * successors + k] = weight;
        sum += weight;
      }
      for (int k = 0; k < successors; k++) {
        probabilities[context * successors + k] /= sum;
      }
    }
  }

  /**
   * Symbols that decide over the next.
   *
   * @return the order
   */
  public int order() {
    return order;
  }

  /**
   * Number of symbols.
   *
   * @return the alphabet
   */
  public int alphabet() {
    return alphabet;
  }

  /**
   * Number of contexts.
   *
   * @return alphabet to the power of order
   */
  public int contexts() {
    return contexts;
  }

  /**
   * A sequence in the long run: what came before it is left out.
   *
   * @param length symbols
   * @param random decides
   * @return the symbols
   */
  public int[] sequence(int length, RandomGenerator random) {
    int context = random.nextInt(contexts);
    for (int i = 0; i < RUN_IN; i++) {
      context = after(context, draw(context, random));
    }
    int[] out = new int[length];
    for (int i = 0; i < length; i++) {
      out[i] = draw(context, random);
      context = after(context, out[i]);
    }
    return out;
  }

  private int draw(int context, RandomGenerator random) {
    double at = random.nextDouble();
    int base = context * successors;
    for (int k = 0; k < successors - 1; k++) {
      at -= probabilities[base + k];
      if (at < 0) {
        return symbols[base + k];
      }
    }
    return symbols[base + successors - 1];
  }

  private int after(int context, int symbol) {
    return (int) (((long) context * alphabet + symbol) % contexts);
  }

  /**
   * Probability of a symbol.
   *
   * @param tokens holds the context
   * @param position of the symbol, at least the order
   * @return its probability after the {@link #order} symbols before it, 0 if it cannot follow
   */
  public double probability(int[] tokens, int position) {
    if (position < order) {
      throw new IllegalArgumentException(
          "position is "
              + position
              + ", expected at least "
              + order
              + ": the context is not whole");
    }
    int context = 0;
    for (int i = position - order; i < position; i++) {
      context = context * alphabet + tokens[i];
    }
    for (int k = 0; k < successors; k++) {
      if (symbols[context * successors + k] == tokens[position]) {
        return probabilities[context * successors + k];
      }
    }
    return 0;
  }

  /**
   * The loss of the source itself on a sequence: on these very symbols no model that knows only
   * what came before has less, but by chance.
   *
   * @param tokens symbols
   * @param from first position that counts, at least the order
   * @param to behind the last position
   * @return mean of -ln p, in nats a symbol; infinite if the source cannot have made the sequence
   */
  public double loss(int[] tokens, int from, int to) {
    double sum = 0;
    for (int i = from; i < to; i++) {
      sum -= Math.log(probability(tokens, i));
    }
    return sum / (to - from);
  }

  /**
   * The entropy of the next symbol in the long run: the mean over contexts, as often as they occur.
   *
   * @return nats a symbol
   */
  public double entropy() {
    double[] often = stationary();
    double sum = 0;
    for (int context = 0; context < contexts; context++) {
      sum += often[context] * entropyAfter(context);
    }
    return sum;
  }

  private double entropyAfter(int context) {
    double sum = 0;
    for (int k = 0; k < successors; k++) {
      double p = probabilities[context * successors + k];
      sum -= p == 0 ? 0 : p * Math.log(p);
    }
    return sum;
  }

  /**
   * How often contexts occur in the long run, by iteration; halved with the last to damp cycles.
   */
  private double[] stationary() {
    double[] now = new double[contexts];
    Arrays.fill(now, 1.0 / contexts);
    for (int round = 0; round < 10_000; round++) {
      double[] next = new double[contexts];
      for (int context = 0; context < contexts; context++) {
        for (int k = 0; k < successors; k++) {
          int i = context * successors + k;
          next[after(context, symbols[i])] += now[context] * probabilities[i];
        }
      }
      double moved = 0;
      for (int context = 0; context < contexts; context++) {
        next[context] = (next[context] + now[context]) / 2;
        moved += Math.abs(next[context] - now[context]);
      }
      now = next;
      if (moved < 1e-13) {
        break;
      }
    }
    return now;
  }
}
