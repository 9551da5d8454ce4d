// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import io.engram.hash.kernel.Workers;
import io.engram.table.EngramTable;
import java.util.Arrays;

/**
 * Nesterov momentum with Sinkhorn balancing, after the technical report of DeepSeek-V4.1. Of the
 * matrix G of gradients:
 *
 * <pre>
 * M = beta M + (1 - beta) G        U = beta M + (1 - beta) G
 * rows of U with a norm of at most tau times the mean norm become zero
 * iterations times: each row of U over its L2 norm + epsilon, then each column, then rows ...
 * W = W - learningRate gamma sqrt(headDim) U
 * </pre>
 *
 * <p>The report says nothing about rows without a gradient. Here a matrix has the rows that the
 * step touches and no others: mean and columns are theirs, and what the rows between were missing
 * is made up for as with the other rules, M times beta for each step. With all rows in it, a step
 * would cost as much as the table has rows.
 *
 * <p>The factor sqrt(headDim) is there because the last normalisation leaves rows of norm 1: it
 * makes the root mean square of their elements 1, whatever their number, so that gamma and the
 * learning rate say how far an element moves.
 *
 * <p>U is not rewritten in each round. What a normalisation does to it is a factor for each row or
 * for each column; the factors are kept in double precision, U as it was. Columns are summed up in
 * blocks of rows and those in order, whoever does them.
 */
final class SinkhornOptimizer extends RowOptimizer {
  private final SinkhornOptions options;
  private final Powers powers;
  private final float beta;
  private final float take;

  /** U, and sums of its columns, a block of rows each. */
  private float[][] blocks = new float[0][];

  private double[][] columnSums = new double[0][];
  private double[] rowFactors = new double[0];
  private final double[] columnFactors;
  private final Workers.Body gathering = this::gatherBlock;
  private final Workers.Body balancing = this::balanceBlock;
  private boolean lastRound;
  private double rate;

  SinkhornOptimizer(EngramTable table, SinkhornOptions options) {
    super(table, options.learningRate(), options.step(), table.headDim(), true);
    this.options = options;
    powers = new Powers(options.beta());
    beta = (float) options.beta();
    take = (float) (1 - options.beta());
    columnFactors = new double[headDim];
  }

  @Override
  public String name() {
    return "sinkhorn";
  }

  @Override
  float largestGradient() {
    return Float.MAX_VALUE;
  }

  @Override
  void prepare(long step) {
    rate = learningRate() * options.gamma() * Math.sqrt(headDim);
  }

  @Override
  void walk(int count) {
    provide(count);
    forEachBlock(count, gathering);
    double sum = 0;
    for (int i = 0; i < count; i++) {
      sum += rowFactors[i];
    }
    double least = options.tau() * sum / count;
    for (int i = 0; i < count; i++) {
      rowFactors[i] = rowFactors[i] <= least ? 0 : 1;
    }
    Arrays.fill(columnFactors, 1);
    for (int round = 1; round <= options.iterations(); round += 2) {
      lastRound = round == options.iterations();
      forEachBlock(count, balancing);
      if (!lastRound) {
        balanceColumns(Math.ceilDiv(count, BLOCK));
      }
    }
    super.walk(count);
  }

  private void provide(int count) {
    int wanted = Math.ceilDiv(count, BLOCK);
    int had = blocks.length;
    if (wanted > had) {
      blocks = Arrays.copyOf(blocks, wanted);
      columnSums = Arrays.copyOf(columnSums, wanted);
      for (int i = had; i < wanted; i++) {
        blocks[i] = new float[BLOCK * headDim];
        columnSums[i] = new double[headDim];
      }
      rowFactors = new double[wanted * BLOCK];
    }
  }

  /** U of a block, and the norms of its rows. */
  private void gatherBlock(int worker, int block) {
    TableGradients gradients = gradients();
    Scratch scratch = scratch(worker);
    int begin = block * BLOCK;
    int end = (int) Math.min(begin + BLOCK, gradients.rows());
    for (int i = begin; i < end; i += batch()) {
      int some = Math.min(batch(), end - i);
      fetchStates(scratch, i, some);
      for (int j = i; j < i + some; j++) {
        long missed = loadState(scratch, gradients.orderedIds()[j]);
        int slot = gradients.orderedSlots()[j];
        int at = (j - begin) * headDim;
        kernels.nesterov(
            scratch.state,
            gradients.piece(slot),
            gradients.at(slot),
            headDim,
            (float) powers.of(missed + 1),
            take,
            beta,
            blocks[block],
            at);
        rowFactors[j] = Math.sqrt(Rows.squares(blocks[block], at, headDim));
      }
    }
  }

  /** Rows of a block to norm 1, and what its columns sum up to then. */
  private void balanceBlock(int worker, int block) {
    float[] values = blocks[block];
    double[] sums = columnSums[block];
    Arrays.fill(sums, 0);
    int begin = block * BLOCK;
    int end = (int) Math.min(begin + BLOCK, gradients().rows());
    for (int i = begin; i < end; i++) {
      double factor = rowFactors[i];
      if (factor != 0) {
        int at = (i - begin) * headDim;
        double norm = factor * Math.sqrt(kernels.squares(values, at, headDim, columnFactors));
        if (norm > 0) {
          factor /= norm + options.epsilon();
          rowFactors[i] = factor;
        }
        if (!lastRound) {
          kernels.addSquares(values, at, headDim, factor, sums);
        }
      }
    }
  }

  private void balanceColumns(int blockCount) {
    for (int column = 0; column < headDim; column++) {
      double sum = 0;
      for (int block = 0; block < blockCount; block++) {
        sum += columnSums[block][column];
      }
      double norm = columnFactors[column] * Math.sqrt(sum);
      // A column of zeros stays one, and its factor finite.
      if (norm > 0) {
        columnFactors[column] /= norm + options.epsilon();
      }
    }
  }

  @Override
  int update(Scratch scratch, float[] gradient, int gradientAt, long missed, int place) {
    int at = place % BLOCK * headDim;
    // The state is the same as when U was made: until here it could still have to stay.
    return kernels.balanced(
        scratch.weights,
        scratch.state,
        gradient,
        gradientAt,
        headDim,
        (float) powers.of(missed + 1),
        take,
        blocks[place / BLOCK],
        at,
        rate * rowFactors[place],
        columnFactors);
  }
}
