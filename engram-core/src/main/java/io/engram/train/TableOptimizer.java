// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import io.engram.store.RamRowStore;
import io.engram.table.EngramTable;
import java.util.Map;

/**
 * Changes the rows of a table by their gradients, in place: only those rows that have one. None of
 * them decays weights, as the paper has it for tables, whose learning rate it sets at five times
 * that of the dense weights.
 *
 * <p>What an optimiser remembers of a row lies outside the heap, in stores of as many rows as the
 * table, sharded alike, whose pages come into being where rows are touched. A row that a step does
 * not touch is neither read nor written, nor is its state: what it missed is made up for at its
 * next touch, as far as its state goes. <b>An untouched row does not move</b>, while an optimiser
 * of dense gradients would let its momentum move it on.
 *
 * <p>Tables are F32, or BF16 with stochastic rounding: up or down by chance, so that the mean of
 * many small updates is what they sum to, where rounding to nearest would lose them all. The chance
 * depends on the seed, the step, the row and the element only.
 *
 * <p>A gradient that is NaN or infinite, or whose square is no float32 where a rule squares it, is
 * refused with the table, the row and the element, before anything is changed; or its whole step is
 * left out, if the user chose so ({@link StepOptions}). Where the update itself would make a row or
 * its state infinite, that row and its state stay as they are, the others take the step, and then
 * an exception says which row it was: such a run diverges.
 *
 * <p>A step and its bits do not depend on the number of threads. Not thread-safe. While a step
 * runs, nobody else may write rows, and who reads them may see some before and some after it.
 */
public interface TableOptimizer extends AutoCloseable {
  /**
   * Adam, whose moments are corrected for the steps that a row missed.
   *
   * @param table a table in memory, F32 or BF16; not closed with the optimiser
   * @param options rates
   * @return the optimiser, with moments of zero
   * @throws IllegalArgumentException if the table's rows cannot be trained where they are
   * @throws io.engram.EngramException if there is not enough memory
   */
  static TableOptimizer adam(EngramTable table, AdamOptions options) {
    return new AdamOptimizer(table, options);
  }

  /**
   * Gradient descent with momentum, which decays for the steps that a row missed, too.
   *
   * @param table a table in memory, F32 or BF16; not closed with the optimiser
   * @param options rates
   * @return the optimiser, without momentum yet
   * @throws IllegalArgumentException if the table's rows cannot be trained where they are
   * @throws io.engram.EngramException if there is not enough memory
   */
  static TableOptimizer sgd(EngramTable table, SgdOptions options) {
    return new SgdOptimizer(table, options);
  }

  /**
   * Row-wise Adagrad: one number a row, the sum of the mean squares of its gradients.
   *
   * @param table a table in memory, F32 or BF16; not closed with the optimiser
   * @param options rates
   * @return the optimiser, with sums of zero
   * @throws IllegalArgumentException if the table's rows cannot be trained where they are
   * @throws io.engram.EngramException if there is not enough memory
   */
  static TableOptimizer adagrad(EngramTable table, AdagradOptions options) {
    return new AdagradOptimizer(table, options);
  }

  /**
   * Nesterov momentum with Sinkhorn balancing: the rows that a step touches are normalised, and
   * their columns, in turn, so that all rows move equally far and so do all columns.
   *
   * @param table a table in memory, F32 or BF16; not closed with the optimiser
   * @param options rates
   * @return the optimiser, without momentum yet
   * @throws IllegalArgumentException if the table's rows cannot be trained where they are
   * @throws io.engram.EngramException if there is not enough memory
   */
  static TableOptimizer sinkhorn(EngramTable table, SinkhornOptions options) {
    return new SinkhornOptimizer(table, options);
  }

  /**
   * The rule's name.
   *
   * @return one word in small letters
   */
  String name();

  /**
   * What is trained.
   *
   * @return the table
   */
  EngramTable table();

  /**
   * The learning rate of the next step.
   *
   * @return not negative, finite
   */
  double learningRate();

  /**
   * Sets the learning rate of the steps that follow: the place for a schedule.
   *
   * @param rate not negative, finite
   * @throws IllegalArgumentException if it is not
   */
  void learningRate(double rate);

  /**
   * Takes a step: changes the rows that have a gradient. The gradients stay as they are.
   *
   * @param gradients of this table
   * @throws IllegalArgumentException if they are of another table
   * @throws IllegalStateException if the table or this optimiser is closed; if it was closed during
   *     the step, some rows have taken it
   * @throws io.engram.EngramException if a gradient is not finite, or too large to be squared, and
   *     nothing was changed; or if the update of a row was not finite, and the row left as it was
   */
  void step(TableGradients gradients);

  /**
   * Steps that were taken.
   *
   * @return those since it was made, and those before it was saved; without those left out
   */
  long steps();

  /**
   * Steps that were left out because a gradient was not finite.
   *
   * @return those since it was made; always 0 unless the user chose to leave them out
   */
  long skipped();

  /**
   * What it remembers of the rows, to be saved, and to be filled from where it was saved: raw bytes
   * of a layout of its own, in rows that belong to the table's.
   *
   * @return stores by name, with as many rows as the table; owned by the optimiser
   */
  Map<String, RamRowStore> state();

  /**
   * Continues a run, after the {@link #state} was filled with what was saved: the steps that follow
   * give the same bits as if there had been no interruption.
   *
   * @param steps how many steps had been taken
   * @throws IllegalArgumentException if the number is negative
   */
  void restore(long steps);

  /** Frees the state. Does nothing at a second call. */
  @Override
  void close();
}
