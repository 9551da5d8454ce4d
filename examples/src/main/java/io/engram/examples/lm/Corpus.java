// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Comparator;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import java.util.SplittableRandom;
import java.util.stream.IntStream;

/**
 * A text as token ids, divided by document into what is trained on and what is held out.
 *
 * <p>The batch of a step is a function of seed and step alone: models that are compared see the
 * same tokens in the same order, and a run that was interrupted goes on as if it had not been.
 *
 * <p>Thread-safe.
 */
public final class Corpus {
  /** Characters of documents that are held out, of all. */
  private static final double HELD_OUT = 0.05;

  private final SmallVocabulary vocabulary;
  private final String origin;
  private final int[] training;
  private final int[] heldOut;
  private Order order;

  private Corpus(SmallVocabulary vocabulary, String origin, int[] training, int[] heldOut) {
    this.vocabulary = vocabulary;
    this.origin = origin;
    this.training = training;
    this.heldOut = heldOut;
  }

  /** The windows of one epoch, in the order in which they are read. */
  private static final class Order {
    private final long seed;
    private final int context;
    private final long epoch;

    /** Where the first window begins. */
    private final int first;

    private final int[] windows;

    Order(long seed, int context, long epoch, int windows) {
      this.seed = seed;
      this.context = context;
      this.epoch = epoch;
      SplittableRandom random = new SplittableRandom(seed + 0x9E3779B97F4A7C15L * epoch);
      this.first = random.nextInt(context);
      this.windows = IntStream.range(0, windows).toArray();
      for (int i = windows - 1; i > 0; i--) {
        int j = random.nextInt(i + 1);
        int other = this.windows[j];
        this.windows[j] = this.windows[i];
        this.windows[i] = other;
      }
    }

    boolean is(long wantedSeed, int wantedContext, long wantedEpoch) {
      return seed == wantedSeed && context == wantedContext && epoch == wantedEpoch;
    }

    int start(long window) {
      return first + windows[(int) window] * context;
    }
  }

  /**
   * Divides a text and chooses a vocabulary for the part that is trained on.
   *
   * @param text the text
   * @param kept tokens of the vocabulary beside the single bytes at most
   * @return the corpus
   */
  public static Corpus of(SourceText text, int kept) {
    return of(text, SmallVocabulary.choose(split(text, false), kept));
  }

  /**
   * Divides a text, with a vocabulary that was chosen before.
   *
   * @param text the text
   * @param vocabulary its ids
   * @return the corpus
   */
  public static Corpus of(SourceText text, SmallVocabulary vocabulary) {
    return new Corpus(
        vocabulary,
        text.origin(),
        encode(vocabulary, split(text, false)),
        encode(vocabulary, split(text, true)));
  }

  /**
   * A corpus of token ids that come from elsewhere, such as a source that is made up.
   *
   * @param vocabulary what the ids stand for
   * @param origin where they are from, for people
   * @param training ids to train on; copied
   * @param heldOut ids to evaluate on; copied
   * @return the corpus
   */
  public static Corpus ofTokens(
      SmallVocabulary vocabulary, String origin, int[] training, int[] heldOut) {
    return new Corpus(vocabulary, origin, training.clone(), heldOut.clone());
  }

  /**
   * The texts of one part. Documents are held out in the order of a hash of their names until the
   * share is reached, so that neither part is one end of an alphabet; a document that is longer
   * than the share is trained on, unless all are.
   */
  private static List<String> split(SourceText text, boolean held) {
    List<SourceText.Document> mixed = new ArrayList<>(text.documents());
    mixed.sort(
        Comparator.<SourceText.Document>comparingLong(
                d -> new SplittableRandom(d.name().hashCode()).nextLong())
            .thenComparing(SourceText.Document::name));
    long share = (long) Math.ceil(text.characters() * HELD_OUT);
    Set<SourceText.Document> heldOut = new LinkedHashSet<>();
    long characters = 0;
    for (SourceText.Document document : mixed) {
      if (characters < share && document.text().length() <= share) {
        heldOut.add(document);
        characters += document.text().length();
      }
    }
    if (heldOut.isEmpty()) {
      heldOut.add(Collections.min(mixed, Comparator.comparingInt(d -> d.text().length())));
    }
    return mixed.stream()
        .filter(d -> heldOut.contains(d) == held)
        .map(SourceText.Document::text)
        .toList();
  }

  private static int[] encode(SmallVocabulary vocabulary, List<String> texts) {
    return texts.stream()
        .flatMapToInt(text ->
            IntStream.concat(
                IntStream.of(SmallVocabulary.BOUNDARY), Arrays.stream(vocabulary.encode(text))))
        .toArray();
  }

  /**
   * What the ids stand for.
   *
   * @return the vocabulary
   */
  public SmallVocabulary vocabulary() {
    return vocabulary;
  }

  /**
   * Where the text is from.
   *
   * @return a phrase
   */
  public String origin() {
    return origin;
  }

  /**
   * Tokens that are trained on.
   *
   * @return their number
   */
  public int trainingTokens() {
    return training.length;
  }

  /**
   * Tokens that are held out.
   *
   * @return their number
   */
  public int heldOutTokens() {
    return heldOut.length;
  }

  /**
   * The first held-out tokens.
   *
   * @param count how many at most
   * @return a new array
   */
  public int[] heldOut(int count) {
    return Arrays.copyOf(heldOut, Math.min(count, heldOut.length));
  }

  /**
   * The batch of a step. The text is cut into windows, at another place in each epoch; an epoch
   * reads each of them once, in an order drawn from the seed.
   *
   * @param seed of the order
   * @param step which batch, from 0
   * @param batch sequences, at least 1
   * @param context predictions of a sequence, at least 1
   * @return ids [batch][context + 1]: each but the last is an input, each but the first a target
   * @throws IllegalArgumentException if an argument is out of range, or the text is too short for
   *     two windows
   */
  public int[][] batch(long seed, long step, int batch, int context) {
    if (step < 0 || batch < 1 || context < 1) {
      throw new IllegalArgumentException(
          "step %d, batch %d and context %d: expected at least 0, 1 and 1"
              .formatted(step, batch, context));
    }
    // One less than fits, so that an epoch can begin anywhere in its first window.
    int windows = (training.length - 1) / context - 1;
    if (windows < 1) {
      throw new IllegalArgumentException(
          "the text has "
              + training.length
              + " tokens to train on, expected at least "
              + (2 * context + 1)
              + " for a context of "
              + context
              + ": a longer text or a shorter context");
    }
    int[][] out = new int[batch][];
    for (int b = 0; b < batch; b++) {
      long drawn = Math.addExact(Math.multiplyExact(step, (long) batch), b);
      Order epoch = order(seed, context, drawn / windows, windows);
      int from = epoch.start(drawn % windows);
      out[b] = Arrays.copyOfRange(training, from, from + context + 1);
    }
    return out;
  }

  private synchronized Order order(long seed, int context, long epoch, int windows) {
    if (order == null || !order.is(seed, context, epoch)) {
      order = new Order(seed, context, epoch, windows);
    }
    return order;
  }

  /**
   * Held-out windows, spread evenly over the held-out text: always the same.
   *
   * @param windows how many at most
   * @param batch sequences of a batch, the last may have fewer
   * @param context predictions of a sequence
   * @return batches as {@link #batch} makes them
   * @throws IllegalArgumentException if the held-out text is shorter than one window
   */
  public List<int[][]> heldOutBatches(int windows, int batch, int context) {
    int there = (heldOut.length - 1) / context;
    if (there < 1 || windows < 1) {
      throw new IllegalArgumentException(
          "the text has "
              + heldOut.length
              + " held-out tokens, expected at least "
              + (context + 1)
              + " for a context of "
              + context
              + ": a longer text or a shorter context");
    }
    int count = Math.min(windows, there);
    List<int[][]> out = new ArrayList<>();
    for (int w = 0; w < count; w += batch) {
      int[][] rows = new int[Math.min(batch, count - w)][];
      for (int b = 0; b < rows.length; b++) {
        int from = (int) ((long) (w + b) * there / count) * context;
        rows[b] = Arrays.copyOfRange(heldOut, from, from + context + 1);
      }
      out.add(rows);
    }
    return out;
  }

  @Override
  public String toString() {
    return "%s: %,d tokens to train on, %,d held out, %s"
        .formatted(origin, training.length, heldOut.length, vocabulary);
  }
}
