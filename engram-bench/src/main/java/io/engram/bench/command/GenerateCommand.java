// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import com.google.gson.JsonObject;
import io.engram.EngramException;
import io.engram.examples.lm.LanguageModel;
import io.engram.examples.lm.Sampler;
import io.engram.examples.lm.SmallVocabulary;
import io.engram.train.TrainingCheckpoint;
import io.engram.vocab.TokenMap;
import java.io.IOException;
import java.nio.file.Path;
import java.util.concurrent.Callable;
import java.util.stream.IntStream;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code engram generate}: lets a trained model write. */
@Command(
    name = "generate",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description = "Continues a text with a model that engram train made.")
final class GenerateCommand implements Callable<Integer> {
  @Option(
      names = "--model",
      required = true,
      paramLabel = "DIR",
      description = "The directory that engram train was given as --out.")
  private Path directory;

  @Option(
      names = "--prompt",
      paramLabel = "TEXT",
      description = "What to continue; by default the start of a document.")
  private String prompt = "";

  @Option(
      names = "--tokens",
      paramLabel = "N",
      description = "How many tokens to add (default: ${DEFAULT-VALUE}).")
  private int tokens = 100;

  @Option(
      names = "--temperature",
      paramLabel = "X",
      description = "0 takes the likeliest token each time (default: ${DEFAULT-VALUE}).")
  private double temperature = 0.7;

  @Option(
      names = "--top",
      paramLabel = "N",
      description = "Draws from the N likeliest tokens (default: ${DEFAULT-VALUE}).")
  private int top = 40;

  @Option(
      names = "--seed",
      paramLabel = "N",
      description = "Seed of the draws (default: ${DEFAULT-VALUE}).")
  private long seed = 1;

  @Option(names = "--memory-off", description = "Switches the memory off, to see what it carried.")
  private boolean memoryOff;

  @Option(names = "--json", description = "Prints prompt and continuation as JSON.")
  private boolean json;

  @Spec private CommandSpec spec;

  @Override
  public Integer call() throws IOException {
    if (tokens < 1) {
      throw new ParameterException(
          spec.commandLine(), "--tokens is " + tokens + ", expected at least 1");
    }
    Sampler sampler = new Sampler(temperature, top, seed);
    RunSettings settings =
        RunSettings.read(directory)
            .orElseThrow(() ->
                new EngramException(
                    directory
                        + ": holds no model; engram train --out "
                        + directory
                        + " makes one"));
    SmallVocabulary vocabulary = RunSettings.vocabulary(directory);
    TokenMap map = vocabulary.tokenMap();
    try (LanguageModel model = LanguageModel.create(settings.model(map), map, settings.seed())) {
      model.restored(TrainingCheckpoint.restore(directory, model.state(new byte[0])).step());
      model.memoryOff(memoryOff);
      int[] ids =
          IntStream.concat(
                  IntStream.of(SmallVocabulary.BOUNDARY), IntStream.of(vocabulary.encode(prompt)))
              .toArray();
      String continued = vocabulary.decode(sampler.continuation(model, ids, tokens));
      if (json) {
        JsonObject all = new JsonObject();
        all.addProperty("prompt", prompt);
        all.addProperty("continuation", continued);
        spec.commandLine().getOut().println(all);
      } else {
        spec.commandLine().getOut().println(Quoted.printable(prompt + continued));
      }
    }
    return 0;
  }
}
