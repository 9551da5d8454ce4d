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
  private final RmsNorm norm;
  private final Head head;

  private int sequences;
  private int length;
  private int[] inputs = {};
  private int[] targets = {};
  private double[] losses = {};

  /** The streams before each half block, and after the last one. */
  private final float[][] states;

  private float[] readOut = {};
  private float[] normed = {};
  private float[] dStreams = {};
  private float[] dNext = {};
  private final float[] row;
  private final float[] other;

  Replica(ModelConfig config, Architecture architecture, float[] values) {
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
    norm = new RmsNorm(architecture.norm(), values, gradient);
    head = new Head(config, architecture.embedding(), values, gradient);
    states = new float[halves.size() + 1][0];
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

  /** Losses and gradient of some sequences of a batch, whose tokens are {@code batchTokens}. */
  void train(int[][] batch, int from, int to, long batchTokens) {
    Arrays.fill(gradient, 0);
    load(batch, from, to, true);
    forward();
    head.train(normed, tokens(), targets, 1f / batchTokens, losses);
    backward();
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
      readOut(states[2 * layer]);
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
    }
    normed = Loops.atLeast(normed, tokens, config.width());
    embed();
    for (int i = 0; i < halves.size(); i++) {
      halves.get(i).forward(states[i], sequences, length, states[i + 1]);
    }
    readOut(states[halves.size()]);
    norm.forward(readOut, tokens, normed);
  }

  private void backward() {
    int tokens = tokens();
    dStreams = Loops.atLeast(dStreams, tokens, config.channels());
    dNext = Loops.atLeast(dNext, tokens, config.channels());
    norm.backward(normed, tokens);
    readOutBackward();
    for (int i = halves.size() - 1; i >= 0; i--) {
      float[] after = dStreams;
      dStreams = dNext;
      dNext = after;
      halves.get(i).backward(dNext, tokens, dStreams);
    }
    embedBackward();
  }

  /** Each stream begins as the token's embedding. */
  private void embed() {
    int width = config.width();
    for (int t = 0; t < tokens(); t++) {
      int from = architecture.embedding().offset() + inputs[t] * width;
      for (int s = 0; s < config.streams(); s++) {
        System.arraycopy(values, from, states[0], (t * config.streams() + s) * width, width);
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
