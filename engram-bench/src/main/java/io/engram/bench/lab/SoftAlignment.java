// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

import java.util.Arrays;
import java.util.Comparator;
import java.util.stream.IntStream;

/**
 * Which layer of one model a layer of another is most like, as a number between layers: the soft
 * alignment index of section 6.1 of the paper.
 *
 * <p>With S[i][j] the similarity of layer i of the model without a memory and layer j of the model
 * with one, and I the k layers i of which S[i][j] is largest, a[j] = sum over I of S[i][j] i / sum
 * over I of S[i][j]. Where a[j] is greater than j, layer j does what the model without a memory
 * does only in a deeper layer. Similarities below zero, which the unbiased estimate can give, count
 * as zero.
 */
public final class SoftAlignment {
  private SoftAlignment() {}

  /**
   * The index of each layer.
   *
   * @param similarity [layers without a memory][layers with one], none larger than 1
   * @param nearest how many layers share in an index (k), from 1 to the layers without a memory
   * @return one index for each layer with a memory; NaN where none of the nearest is similar at all
   */
  public static double[] index(double[][] similarity, int nearest) {
    if (nearest < 1 || nearest > similarity.length) {
      throw new IllegalArgumentException(
          "nearest is " + nearest + ", expected 1 to " + similarity.length + ", the layers");
    }
    double[] index = new double[similarity[0].length];
    for (int j = 0; j < index.length; j++) {
      int column = j;
      int[] order =
          IntStream.range(0, similarity.length)
              .boxed()
              .sorted(Comparator.comparingDouble((Integer i) -> -similarity[i][column]))
              .mapToInt(Integer::intValue)
              .limit(nearest)
              .toArray();
      double weight =
          Arrays.stream(order).mapToDouble(i -> Math.max(0, similarity[i][column])).sum();
      double moment =
          Arrays.stream(order).mapToDouble(i -> i * Math.max(0, similarity[i][column])).sum();
      index[j] = weight > 0 ? moment / weight : Double.NaN;
    }
    return index;
  }
}
