// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import io.engram.train.TableGradients;
import io.engram.train.TableOptimizer;
import java.lang.ref.Reference;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.nd4j.autodiff.samediff.SDVariable;
import org.nd4j.autodiff.samediff.SameDiff;
import org.nd4j.autodiff.samediff.VariableType;
import org.nd4j.autodiff.samediff.api.OutAndGrad;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.learning.config.IUpdater;

/**
 * Trains a SameDiff graph with memory in it: its variables by one of ND4J's rules, the tables by
 * optimisers of their own. {@code SameDiff.fit} cannot do that, for it does not give the gradients
 * of placeholders, and retrieved rows are one.
 *
 * <p>The loss is the sum of the graph's loss variables ({@code SameDiff.setLossVariables}); what a
 * {@code TrainingConfig} says of updaters, regularisation or label mappings is not looked at.
 * SameDiff prints a line for each operation that it differentiates, once, when a trainer is made.
 *
 * <p>Not thread-safe, and the only one to run or change the graph while it does.
 */
public final class GraphTrainer {
  private final SameDiff graph;
  private final DenseUpdater dense;
  private final Map<String, Table> tables = new LinkedHashMap<>();
  private final List<String> losses;
  private final List<String> names;

  private record Table(TableOptimizer optimizer, TableGradients gradients) {}

  /**
   * A trainer of all variables that the loss depends on, and of some tables.
   *
   * @param graph a complete graph, whose loss variables are set
   * @param rule how the variables are trained, such as {@code new Adam(4e-4)}; copied
   * @param tables by the placeholder that the table's rows enter by; not closed by the trainer
   * @throws IllegalArgumentException if the graph has no loss variable, or a name is no placeholder
   *     that the loss depends on
   */
  public GraphTrainer(SameDiff graph, IUpdater rule, Map<String, TableOptimizer> tables) {
    this.graph = graph;
    this.losses = List.copyOf(graph.getLossVariables());
    if (losses.isEmpty()) {
      throw new IllegalArgumentException("the graph has no loss: call SameDiff.setLossVariables");
    }
    List<String> wanted = new ArrayList<>(tables.keySet());
    for (String name : tables.keySet()) {
      if (!graph.hasVariable(name) || !graph.getVariable(name).isPlaceHolder()) {
        throw new IllegalArgumentException(name + " is no placeholder of the graph");
      }
    }
    for (SDVariable variable : graph.variables()) {
      if (variable.getVariableType() == VariableType.VARIABLE && variable.dataType().isFPType()) {
        wanted.add(variable.name());
      }
    }
    // Without their names the gradients of placeholders would not be made.
    graph.createGradFunction(wanted.toArray(String[]::new));
    Map<String, INDArray> weights = new LinkedHashMap<>();
    for (String name : wanted) {
      boolean reached = graph.getVariable(name).getGradient() != null;
      if (tables.containsKey(name)) {
        if (!reached) {
          throw new IllegalArgumentException("the loss does not depend on placeholder " + name);
        }
        TableOptimizer optimizer = tables.get(name);
        this.tables.put(name, new Table(optimizer, new TableGradients(optimizer.table())));
      } else if (reached) {
        weights.put(name, graph.getVariable(name).getArr());
      }
    }
    this.dense = new DenseUpdater(rule, weights);
    this.names = new ArrayList<>(weights.keySet());
    names.addAll(tables.keySet());
  }

  /**
   * Takes a step: a forward, a backward, and the updates of variables and tables. A gradient that
   * is not finite is refused before anything has changed.
   *
   * @param placeholders values of all placeholders, the retrieved rows among them
   * @param rowIds for each of the tables, by its placeholder, the ids of the rows that were
   *     retrieved: [B, T, columns] for rows [B, T, columns * head dim]
   * @return the loss before the step
   * @throws IllegalArgumentException if row ids are not given for exactly the tables, or are not as
   *     many as the rows
   * @throws IndexOutOfBoundsException if a row id is not one of its table
   * @throws io.engram.EngramException naming variable or placeholder and element, if a gradient
   *     holds a NaN or an infinity
   */
  public double step(Map<String, INDArray> placeholders, Map<String, long[]> rowIds) {
    if (!rowIds.keySet().equals(tables.keySet())) {
      throw new IllegalArgumentException(
          "row ids of " + rowIds.keySet() + ", expected those of " + tables.keySet());
    }
    OutAndGrad result = graph.calculateGradientsAndOutputs(placeholders, losses, names);
    Map<String, INDArray> gradients = result.getGradients();
    dense.check(gradients);
    tables.forEach((name, table) -> collect(name, table, gradients.get(name), rowIds.get(name)));
    tables.values().forEach(table -> table.optimizer().step(table.gradients()));
    dense.step(gradients);
    double loss = 0;
    for (String name : losses) {
      loss += result.getOutputs().get(name).sumNumber().doubleValue();
    }
    return loss;
  }

  private static void collect(String name, Table table, INDArray gradient, long[] rowIds) {
    long expected = (long) rowIds.length * table.optimizer().table().headDim();
    if (gradient.length() != expected) {
      throw new IllegalArgumentException(
          "%d row ids of %s make %d values, its rows have %d"
              .formatted(rowIds.length, name, expected, gradient.length()));
    }
    DenseUpdater.checkFinite(name, gradient);
    INDArray packed = HostMemory.contiguous(gradient.castTo(DataType.FLOAT));
    table.gradients().clear();
    try {
      table.gradients().add(rowIds, 0, rowIds.length, HostMemory.of(packed));
    } finally {
      Reference.reachabilityFence(packed);
    }
  }

  /**
   * The trainer of the variables: for their learning rate, and for what a checkpoint saves.
   *
   * @return the updater itself; its {@code step} is taken by this trainer
   */
  public DenseUpdater dense() {
    return dense;
  }
}
