// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

/**
 * One shard of a batch at a time, forward and backward, with the gradient and all memory that
 * takes. It reads the model's values and changes nothing of the model, so that several work at
 * once.
 */
final class Replica {
  private final ModelConfig config;
  private final Architecture architecture;
  private final float[] values;
  private final float[] gradient;
  private final List<HalfBlock> halves = new ArrayList<>();

  /** By layer; null where there is none. */
  private final MemoryPart[] memories;

  private boolean memoryOff;
  private final RmsNorm norm;
  private final Head head;

  private int[][] batch = {};
  private int first;
  private int sequences;
  private int length;
  private int[] inputs = {};
  private int[] targets = {};
  private double[] losses = {};

  /** The streams before each half block, and after the last one. */
  private final float[][] states;

  /** The streams before the memory of each layer that has one. */
  private final float[][] untouched;

  private float[] readOut = {};
  private float[] normed = {};
  private float[] dStreams = {};
  private float[] dNext = {};
  private final float[] row;
  private final float[] other;

  Replica(
      ModelConfig config,
      Architecture architecture,
      List<MemoryLayer> memoryLayers,
      float[] values) {
    this.config = config;
    this.architecture = architecture;
    this.values = values;
    gradient = new float[values.length];
    Attention.Rotary rotary = new Attention.Rotary(config.context(), config.headDim());
    HalfBlock.Scratch scratch = new HalfBlock.Scratch();
    for (int layer = 0; layer < config.layers(); layer++) {
      for (HalfBlock.Weights half :
          List.of(architecture.attention().get(layer), architecture.feedForward().get(layer))) {
        halves.add(new HalfBlock(config, half, rotary, scratch, values, gradient));
      }
    }
    memories = new MemoryPart[config.layers()];
    for (MemoryLayer layer : memoryLayers) {
      memories[layer.layer()] = new MemoryPart(layer, gradient);
    }
    norm = new RmsNorm(architecture.norm(), values, gradient);
    head = new Head(config, architecture.embedding(), values, gradient);
    states = new float[halves.size() + 1][0];
    untouched = new float[config.layers()][0];
    row = new float[config.width()];
    other = new float[config.width()];
  }

  /** The gradient of the last {@link #train}. */
  float[] gradient() {
    return gradient;
  }

  /** Losses of the last shard, [sequences * length]. */
  double[] losses() {
    return losses;
  }

  /** Whether the memory is left out, in all that follows. */
  void memoryOff(boolean off) {
    memoryOff = off;
  }

  int tokens() {
    return sequences * length;
  }

  /** Adds the tokens of each expert of each layer since the last call. */
  void takeLoads(long[][] sums) {
    for (int layer = 0; layer < config.layers(); layer++) {
      ExpertUnits experts = halves.get(2 * layer + 1).experts();
      if (experts != null) {
        experts.takeLoads(sums[layer]);
      }
    }
  }

  /**
   * Losses and gradient of some sequences of a batch, whose tokens are {@code batchTokens}. Where a
   * loss is not finite, there is no gradient.
   */
  void train(int[][] batch, int from, int to, long batchTokens) {
    Arrays.fill(gradient, 0);
    load(batch, from, to, true);
    forward();
    head.train(normed, tokens(), targets, 1f / batchTokens, losses);
    for (int t = 0; t < tokens(); t++) {
      if (!Double.isFinite(losses[t])) {
        return;
      }
    }
    backward();
  }

  /** Hands the gradients of the rows of the last {@link #train} to the tables. */
  void collectRows() {
    for (MemoryPart memory : memories) {
      if (memory != null && !memoryOff) {
        memory.collect();
      }
    }
  }

  /** The gates of one layer over the last sequence. */
  float[][] gates(int layer) {
    return memoryOff ? new float[length][config.streams()] : memories[layer].gates();
  }

  /** Losses of some sequences. */
  void losses(int[][] batch, int from, int to) {
    load(batch, from, to, true);
    forward();
    head.losses(normed, tokens(), targets, losses);
  }

  /** Logits after the last of some tokens. */
  float[] logits(int[] tokens) {
    load(new int[][] {tokens}, 0, 1, false);
    forward();
    return head.logits(normed, length - 1);
  }

  /** Hidden states before the first and after each layer, [layers + 1][tokens][width]. */
  float[][][] hidden(int[] tokens) {
    load(new int[][] {tokens}, 0, 1, false);
    forward();
    float[][][] hidden = new float[config.layers() + 1][length][config.width()];
    for (int layer = 0; layer <= config.layers(); layer++) {
      boolean memory = layer < config.layers() && memories[layer] != null && !memoryOff;
      readOut(memory ? untouched[layer] : states[2 * layer]);
      for (int t = 0; t < length; t++) {
        System.arraycopy(readOut, t * config.width(), hidden[layer][t], 0, config.width());
      }
    }
    return hidden;
  }

  /** Final norm and head on any hidden states. */
  float[][] logProbabilities(float[][] hidden) {
    int width = config.width();
    readOut = Loops.atLeast(readOut, hidden.length, width);
    normed = Loops.atLeast(normed, hidden.length, width);
    for (int t = 0; t < hidden.length; t++) {
      System.arraycopy(hidden[t], 0, readOut, t * width, width);
    }
    norm.forward(readOut, hidden.length, normed);
    return head.logProbabilities(normed, hidden.length);
  }

  private void load(int[][] batch, int from, int to, boolean withTargets) {
    this.batch = batch;
    first = from;
    sequences = to - from;
    length = batch[from].length - (withTargets ? 1 : 0);
    if (inputs.length < tokens()) {
      inputs = new int[tokens()];
      targets = new int[tokens()];
      losses = new double[tokens()];
    }
    for (int s = 0; s < sequences; s++) {
      System.arraycopy(batch[from + s], 0, inputs, s * length, length);
      if (withTargets) {
        System.arraycopy(batch[from + s], 1, targets, s * length, length);
      }
    }
  }

  private void forward() {
    int tokens = tokens();
    for (int i = 0; i < states.length; i++) {
      states[i] = Loops.atLeast(states[i], tokens, config.channels());
      if (hasMemory(i)) {
        untouched[i / 2] = Loops.atLeast(untouched[i / 2], tokens, config.channels());
      }
    }
    normed = Loops.atLeast(normed, tokens, config.width());
    embed(before(0));
    for (int i = 0; i < halves.size(); i++) {
      if (hasMemory(i)) {
        memories[i / 2].forward(
            batch, first, sequences, length, new MemoryPart.Streams(before(i), states[i]));
      }
      float[] after = i + 1 < halves.size() ? before(i + 1) : states[i + 1];
      halves.get(i).forward(states[i], sequences, length, after);
    }
    readOut(states[halves.size()]);
    norm.forward(readOut, tokens, normed);
  }

  /** Whether a memory stands before a half block. */
  private boolean hasMemory(int half) {
    return half < halves.size() && half % 2 == 0 && memories[half / 2] != null && !memoryOff;
  }

  /** Where the streams go that come to a half block and to the memory before it. */
  private float[] before(int half) {
    return hasMemory(half) ? untouched[half / 2] : states[half];
  }

  private void backward() {
    int tokens = tokens();
    dStreams = Loops.atLeast(dStreams, tokens, config.channels());
    dNext = Loops.atLeast(dNext, tokens, config.channels());
    norm.backward(normed, tokens);
    readOutBackward();
    for (int i = halves.size() - 1; i >= 0; i--) {
      swap();
      halves.get(i).backward(dNext, tokens, dStreams);
      if (hasMemory(i)) {
        swap();
        memories[i / 2].backward(new MemoryPart.Streams(dStreams, dNext));
      }
    }
    embedBackward();
  }

  private void swap() {
    float[] after = dStreams;
    dStreams = dNext;
    dNext = after;
  }

  /** Each stream begins as the token's embedding. */
  private void embed(float[] streams) {
    int width = config.width();
    for (int t = 0; t < tokens(); t++) {
      int from = architecture.embedding().offset() + inputs[t] * width;
      for (int s = 0; s < config.streams(); s++) {
        System.arraycopy(values, from, streams, (t * config.streams() + s) * width, width);
      }
    }
  }

  private void embedBackward() {
    int width = config.width();
    for (int t = 0; t < tokens(); t++) {
      int to = architecture.embedding().offset() + inputs[t] * width;
      System.arraycopy(gradient, to, row, 0, width);
      for (int s = 0; s < config.streams(); s++) {
        System.arraycopy(dStreams, (t * config.streams() + s) * width, other, 0, width);
        Loops.add(other, row, 0, width);
      }
      System.arraycopy(row, 0, gradient, to, width);
    }
  }

  /** The mean of the streams: {@link #readOut}. */
  private void readOut(float[] streams) {
    int width = config.width();
    readOut = Loops.atLeast(readOut, tokens(), width);
    for (int t = 0; t < tokens(); t++) {
      Arrays.fill(row, 0);
      for (int s = 0; s < config.streams(); s++) {
        System.arraycopy(streams, (t * config.streams() + s) * width, other, 0, width);
        Loops.addScaled(other, 1f / config.streams(), row, 0, width);
      }
      System.arraycopy(row, 0, readOut, t * width, width);
    }
  }

  private void readOutBackward() {
    int width = config.width();
    for (int t = 0; t < tokens(); t++) {
      System.arraycopy(normed, t * width, row, 0, width);
      Loops.scale(row, 0, width, 1f / config.streams());
      for (int s = 0; s < config.streams(); s++) {
        System.arraycopy(row, 0, dStreams, (t * config.streams() + s) * width, width);
      }
    }
  }
}
