// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

/** Half a block: the streams are read, normalised, worked on and written. */
final class HalfBlock {
  /** Weights of either half; one of attention, dense unit and experts is there. */
  record Weights(
      StreamMixing.Weights mixing,
      Parameter norm,
      Attention.Weights attention,
      DenseUnit.Weights dense,
      ExpertUnits.Weights experts) {
    static Weights attention(Parameters parameters, ModelConfig config, int layer) {
      String name = "layer" + layer + ".attention";
      return new Weights(
          StreamMixing.Weights.add(parameters, name + ".streams", config.streams(), 2 * layer),
          parameters.add(RmsNorm.parameter(name + ".norm", config.width())),
          Attention.Weights.add(parameters, name, config),
          null,
          null);
    }

    static Weights feedForward(Parameters parameters, ModelConfig config, int layer) {
      String name = "layer" + layer + ".feedForward";
      boolean mixture = config.feedForward().experts() > 0;
      return new Weights(
          StreamMixing.Weights.add(parameters, name + ".streams", config.streams(), 2 * layer + 1),
          parameters.add(RmsNorm.parameter(name + ".norm", config.width())),
          null,
          mixture
              ? null
              : DenseUnit.Weights.add(parameters, name, config, config.feedForward().hidden(), 0),
          mixture ? ExpertUnits.Weights.add(parameters, name, config) : null);
    }
  }

  /** Scratch of the backward that all halves of a model share. */
  static final class Scratch {
    private float[] dResult = {};
    private float[] dInput = {};
  }

  private final int width;
  private final StreamMixing mixing;
  private final RmsNorm norm;
  private final Attention attention;
  private final FeedForwardPart feedForward;
  private final Scratch scratch;
  private float[] x = {};
  private float[] normed = {};
  private float[] result = {};

  HalfBlock(
      ModelConfig config,
      Weights weights,
      Attention.Rotary rotary,
      Scratch scratch,
      float[] values,
      float[] gradient) {
    this.width = config.width();
    this.scratch = scratch;
    mixing = new StreamMixing(weights.mixing, config.streams(), width, values, gradient);
    norm = new RmsNorm(weights.norm, values, gradient);
    attention =
        weights.attention == null
            ? null
            : new Attention(config, weights.attention, rotary, values, gradient);
    if (weights.dense != null) {
      int hidden = config.feedForward().hidden();
      feedForward = new DenseUnit(config, hidden, weights.dense, values, gradient);
    } else {
      feedForward =
          weights.experts == null
              ? null
              : new ExpertUnits(config, weights.experts, values, gradient);
    }
  }

  /** Its mixture of experts, or null. */
  ExpertUnits experts() {
    return feedForward instanceof ExpertUnits units ? units : null;
  }

  /** Keeps the streams, which must stay as they are until the backward. */
  void forward(float[] streams, int sequences, int length, float[] next) {
    int tokens = sequences * length;
    x = Loops.atLeast(x, tokens, width);
    normed = Loops.atLeast(normed, tokens, width);
    result = Loops.atLeast(result, tokens, width);
    mixing.read(streams, tokens, x);
    norm.forward(x, tokens, normed);
    if (attention != null) {
      attention.forward(normed, sequences, length, result);
    } else {
      feedForward.forward(normed, tokens, result);
    }
    mixing.write(result, tokens, next);
  }

  /** The gradient of the streams from that of the next ones; they are different arrays. */
  void backward(float[] dNext, int tokens, float[] dStreams) {
    scratch.dResult = Loops.atLeast(scratch.dResult, tokens, width);
    scratch.dInput = Loops.atLeast(scratch.dInput, tokens, width);
    mixing.writeBackward(dNext, tokens, scratch.dResult, dStreams);
    if (attention != null) {
      attention.backward(scratch.dResult, scratch.dInput);
    } else {
      feedForward.backward(scratch.dResult, tokens, scratch.dInput);
    }
    norm.backward(scratch.dInput, tokens);
    mixing.readBackward(scratch.dInput, tokens, dStreams);
  }
}
