// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

import io.engram.ConvConfig;
import io.engram.EngramConfig;
import io.engram.examples.lm.Corpus;
import io.engram.examples.lm.FeedForward;
import io.engram.examples.lm.LanguageModel;
import io.engram.examples.lm.ModelConfig;
import io.engram.examples.lm.Recipe;
import io.engram.examples.lm.SmallVocabulary;
import io.engram.examples.lm.SourceText;
import io.engram.vocab.TokenMap;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.concurrent.ConcurrentHashMap;

/**
 * What experiments on real text have in common: the sources of the running JDK, a vocabulary of
 * their most frequent tokens, and a small model that is the same in all settings but for what a
 * setting changes.
 *
 * @param characters of the text
 * @param kept tokens of the vocabulary beside single bytes
 * @param context predictions of a sequence
 * @param batch sequences of a step
 * @param heldOutWindows sequences that are held out
 * @param width of the model
 * @param layers of the model
 * @param heads of its attention
 * @param feedForward of its blocks
 * @param memoryLayer which block has the memory
 * @param headsPerOrder of the memory
 * @param headDim of the memory
 * @param slots of a head
 * @param training how it is trained
 */
record TextSetup(
    long characters,
    int kept,
    int context,
    int batch,
    int heldOutWindows,
    int width,
    int layers,
    int heads,
    FeedForward feedForward,
    int memoryLayer,
    int headsPerOrder,
    int headDim,
    long slots,
    Training training) {

  private static final Map<List<Long>, Corpus> CORPORA = new ConcurrentHashMap<>();

  static TextSetup of(Size size) {
    return switch (size) {
      case TINY ->
          new TextSetup(
              60_000,
              200,
              24,
              8,
              16,
              32,
              2,
              2,
              FeedForward.gelu(64),
              1,
              2,
              8,
              500,
              new Training(12, 3e-3, 2));
      case QUICK ->
          new TextSetup(
              1_500_000,
              1000,
              64,
              16,
              64,
              64,
              3,
              4,
              FeedForward.gelu(256),
              1,
              4,
              16,
              5000,
              new Training(400, 3e-3, 8));
      case NIGHT ->
          new TextSetup(
              20_000_000,
              4000,
              128,
              16,
              256,
              128,
              6,
              4,
              FeedForward.gelu(512),
              1,
              8,
              16,
              50_000,
              new Training(8000, 2e-3, 20));
    };
  }

  TextSetup with(FeedForward other) {
    return new TextSetup(
        characters,
        kept,
        context,
        batch,
        heldOutWindows,
        width,
        layers,
        heads,
        other,
        memoryLayer,
        headsPerOrder,
        headDim,
        slots,
        training);
  }

  TextSetup withLayers(int other) {
    return new TextSetup(
        characters,
        kept,
        context,
        batch,
        heldOutWindows,
        width,
        other,
        heads,
        feedForward,
        memoryLayer,
        headsPerOrder,
        headDim,
        slots,
        training);
  }

  /** The text; tokenised once, since cells follow one another. */
  Corpus corpus() {
    return CORPORA.computeIfAbsent(
        List.of(characters, (long) kept),
        _ -> {
          try {
            return Corpus.of(SourceText.ofJdk(characters), kept);
          } catch (IOException e) {
            throw new UncheckedIOException(e);
          }
        });
  }

  TokenMap map() {
    return corpus().vocabulary().tokenMap();
  }

  /** The paper's memory, with one residual stream, at this size. */
  EngramConfig.Builder memory() {
    TokenMap map = map();
    return EngramConfig.paper()
        .vocabulary(map.size(), map.compressedSize())
        .fill(SmallVocabulary.BOUNDARY)
        .layers(memoryLayer)
        .headsPerOrder(headsPerOrder)
        .headDim(headDim)
        .slotsPerHead(slots)
        .streams(1)
        .width(width)
        .conv(Optional.of(new ConvConfig(4, 3, 1e-5f)));
  }

  ModelConfig model(Optional<EngramConfig> memory) {
    return new ModelConfig(
        corpus().vocabulary().size(), context, width, layers, heads, feedForward, 1, memory);
  }

  /** Trains on the batches of a seed. */
  List<double[]> train(LanguageModel model, long seed, Steps steps) {
    Corpus corpus = corpus();
    return training.run(model, step -> corpus.batch(seed, step, batch, context), this::loss, steps);
  }

  /** Mean held-out loss in nats a token. */
  double loss(LanguageModel model) {
    double sum = 0;
    long count = 0;
    for (int[][] rows : heldOut()) {
      for (double[] losses : model.losses(rows)) {
        for (double loss : losses) {
          sum += loss;
          count++;
        }
      }
    }
    return sum / count;
  }

  List<int[][]> heldOut() {
    return corpus().heldOutBatches(heldOutWindows, batch, context);
  }

  /** For people: all of it, and the text. */
  String conditions() {
    return this
        + ", text of JDK "
        + Runtime.version().feature()
        + " (java.base), vocabulary "
        + corpus().vocabulary().size()
        + ", recipe "
        + Recipe.DEFAULT;
  }
}
