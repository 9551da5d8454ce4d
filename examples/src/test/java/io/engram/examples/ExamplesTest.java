// SPDX-License-Identifier: Apache-2.0
package io.engram.examples;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.testkit.Golden;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import org.junit.jupiter.api.Test;

class ExamplesTest {
  @FunctionalInterface
  private interface Program {
    void run() throws Exception;
  }

  private static String output(Program program) throws Exception {
    PrintStream before = System.out;
    ByteArrayOutputStream printed = new ByteArrayOutputStream();
    System.setOut(new PrintStream(printed, true, StandardCharsets.UTF_8));
    try {
      program.run();
    } finally {
      System.setOut(before);
    }
    return printed.toString(StandardCharsets.UTF_8);
  }

  @Test
  void spellingsShareTheirRows() throws Exception {
    String output = output(() -> TextToRowIds.main(new String[0]));
    assertTrue(output.contains("100277 ids become 62331"), output);
    assertTrue(output.contains("position 3: 16 of 16 row ids are shared"), output);
  }

  @Test
  void theDecodeLoopRuns() throws Exception {
    String output =
        output(() -> PlainArrayDecoder.main(new String[] {Golden.path("qwen_mini").toString()}));
    assertEquals(5, output.lines().count(), output);
  }

  @Test
  void bothEnginesAgree() throws Exception {
    String output = output(() -> Nd4jLayer.main(new String[] {Golden.path("v41_mini").toString()}));
    String difference = output.substring(output.lastIndexOf(' ')).strip();
    assertTrue(Double.parseDouble(difference) < 1e-5, output);
  }

  @Test
  void aGraphLearns() throws Exception {
    assertLossFalls(output(() -> SameDiffTraining.main(new String[0])));
  }

  @Test
  void plainArraysLearn() throws Exception {
    assertLossFalls(output(() -> PlainTraining.main(new String[0])));
  }

  private static void assertLossFalls(String output) {
    double[] losses =
        output
            .lines()
            .filter(line -> line.startsWith("step "))
            .mapToDouble(line -> Double.parseDouble(line.substring(line.lastIndexOf(' '))))
            .toArray();
    assertEquals(4, losses.length, output);
    assertTrue(losses[3] < losses[0] / 2, output);
  }
}
