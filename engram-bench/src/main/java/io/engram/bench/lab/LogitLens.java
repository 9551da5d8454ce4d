// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

/**
 * How far the prediction that could be read off a layer is from the model's: LogitLens, the model's
 * final norm and head applied to the hidden state after a layer (nostalgebraist, 2020; used of this
 * memory in section 6.1 of the paper).
 *
 * <p>What is computed is KL(last || layer) = sum p ln(p / q) in nats, with p the distribution of
 * the last layer and q that of the layer, both softmax of logits; the mean over positions is a
 * layer's divergence. It is 0 for the last layer. All of it is in double precision.
 */
public final class LogitLens {
  private LogitLens() {}

  /**
   * The divergence of two distributions.
   *
   * @param last logits of the last layer
   * @param layer logits of a layer, as many
   * @return KL(last || layer), not negative
   */
  public static double divergence(float[] last, float[] layer) {
    if (last.length != layer.length || last.length == 0) {
      throw new IllegalArgumentException(
          "found " + last.length + " and " + layer.length + " logits, expected as many of both");
    }
    double logP = logSum(last);
    double logQ = logSum(layer);
    double sum = 0;
    for (int i = 0; i < last.length; i++) {
      double p = last[i] - logP;
      sum += Math.exp(p) * (p - (layer[i] - logQ));
    }
    return Math.max(0, sum);
  }

  /**
   * The mean divergence over positions.
   *
   * @param last logits of the last layer, [positions][vocabulary]
   * @param layer logits of a layer, of the same shape
   * @return mean KL(last || layer)
   */
  public static double divergence(float[][] last, float[][] layer) {
    if (last.length != layer.length || last.length == 0) {
      throw new IllegalArgumentException(
          "found " + last.length + " and " + layer.length + " positions, expected as many of both");
    }
    double sum = 0;
    for (int t = 0; t < last.length; t++) {
      sum += divergence(last[t], layer[t]);
    }
    return sum / last.length;
  }

  private static double logSum(float[] logits) {
    double most = Double.NEGATIVE_INFINITY;
    for (float logit : logits) {
      most = Math.max(most, logit);
    }
    double sum = 0;
    for (float logit : logits) {
      sum += Math.exp(logit - most);
    }
    return most + Math.log(sum);
  }
}
