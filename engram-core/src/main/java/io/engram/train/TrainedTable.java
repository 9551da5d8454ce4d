// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import io.engram.store.RamRowStore;
import java.util.Map;

/** What is saved of the optimiser of a table. */
interface TrainedTable {
  String name();

  double learningRate();

  void learningRate(double rate);

  long steps();

  Map<String, RamRowStore> state();

  void restore(long steps);
}
