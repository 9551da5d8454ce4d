// SPDX-License-Identifier: Apache-2.0
package io.engram.examples;

import io.engram.EngramConfig;
import io.engram.EngramMemory;
import io.engram.gating.EngramLayer;
import io.engram.vocab.Tokenizer;
import java.io.IOException;
import java.nio.file.Path;
import org.nd4j.linalg.api.buffer.DataType;
import org.nd4j.linalg.api.ndarray.INDArray;
import org.nd4j.linalg.factory.Nd4j;

/** One layer of a released checkpoint on ND4J arrays, by either engine. */
public final class Nd4jLayer {
  private Nd4jLayer() {}

  /**
   * Runs a layer by both engines and prints how far apart they are.
   *
   * @param arguments a checkpoint directory with a tokenizer, such as {@code golden/v41_mini}
   * @throws IOException if the tokenizer cannot be read
   */
  public static void main(String[] arguments) throws IOException {
    Path directory = Path.of(arguments[0]);
    Tokenizer tokenizer = Tokenizer.readTokenizerJson(directory.resolve("tokenizer.json"));
    int[] tokens = tokenizer.encode("Only Alexander the Great could tame the horse Bucephalus.");
    try (EngramMemory memory = EngramMemory.open(directory)) {
      EngramConfig config = memory.config();
      int layer = config.layerIds().getFirst();
      INDArray rows =
          Nd4j.createFromArray(memory.lookup(layer, tokens))
              .reshape(1, tokens.length, config.rowWidth());
      long[] shape = {1, tokens.length, config.gate().streams(), config.gate().width()};
      INDArray streams = Nd4j.rand(DataType.FLOAT, shape);

      INDArray cpu = EngramLayer.load(memory, layer).forward(streams, rows);
      INDArray nd4j =
          EngramLayer.load(memory, layer, EngramLayer.Engine.ND4J).forward(streams, rows);
      System.out.println(tokens.length + " tokens, streams " + cpu.shapeInfoToString().strip());
      System.out.println("largest difference between the engines: " + cpu.sub(nd4j).amaxNumber());
    }
  }
}
