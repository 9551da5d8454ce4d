// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

import java.util.List;
import java.util.Map;

/** A question, settings that answer it, and what each is measured by. Stateless. */
public interface Experiment {
  /**
   * Name on the command line and of files.
   *
   * @return lower-case letters
   */
  String name();

  /**
   * What is asked.
   *
   * @return a sentence
   */
  String question();

  /**
   * The settings that are compared.
   *
   * @param size how large the experiment is
   * @return their names in order
   */
  List<String> settings(Size size);

  /**
   * Everything that decides a cell's result, apart from setting and seed: kept cells are used again
   * only where it is the same.
   *
   * @param size how large the experiment is
   * @return a text for people
   */
  String conditions(Size size);

  /**
   * Runs one setting with one seed. The same arguments give the same numbers on the same machine.
   *
   * @param size how large the experiment is
   * @param setting one of its settings
   * @param seed decides data, their order, and initial weights, in all settings alike
   * @param steps is told how far it is
   * @return what came of it
   */
  Outcome run(Size size, String setting, long seed, Steps steps);

  /**
   * Says what came out.
   *
   * @param size how large the experiment is
   * @param results all cells
   * @return the findings
   */
  Findings findings(Size size, CellResults results);

  /**
   * What one cell gave.
   *
   * @param numbers by name
   * @param curves points by name
   */
  record Outcome(Map<String, Double> numbers, Map<String, List<double[]>> curves) {}
}
