// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonParseException;
import io.engram.EngramConfig;
import io.engram.EngramException;
import io.engram.examples.lm.FeedForward;
import io.engram.examples.lm.ModelConfig;
import io.engram.examples.lm.SmallVocabulary;
import io.engram.examples.lm.TrainingPlan;
import io.engram.vocab.TokenMap;
import java.io.IOException;
import java.lang.reflect.RecordComponent;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Optional;

/**
 * Everything that decides what a training run computes, as it is kept beside its checkpoints.
 *
 * @param text file or directory, or "jdk"
 * @param characters of the text at most
 * @param vocabulary tokens kept beside the single bytes
 * @param layers blocks
 * @param width of the residual stream
 * @param heads of attention
 * @param feedForward units of the dense feed-forward part, or of the experts that a token takes
 * @param experts routed experts, or 0
 * @param streams residual streams
 * @param memoryLayers layers with a memory, none for a plain transformer
 * @param orders n-gram orders
 * @param slots of a head
 * @param headsPerOrder hash heads of an order
 * @param headDim values of a row
 * @param steps of training
 * @param batch sequences of a step
 * @param context tokens of a sequence
 * @param learningRate at its highest
 * @param seed of weights and data
 */
record RunSettings(
    String text,
    long characters,
    int vocabulary,
    int layers,
    int width,
    int heads,
    int feedForward,
    int experts,
    int streams,
    List<Integer> memoryLayers,
    List<Integer> orders,
    long slots,
    int headsPerOrder,
    int headDim,
    long steps,
    int batch,
    int context,
    double learningRate,
    long seed) {
  static final String JDK = "jdk";

  private static final String FILE = "run.json";
  private static final String VOCABULARY = "vocabulary.tiktoken";

  /** Of the experts that a token takes two are routed and one is shared. */
  private static final int ROUTED = 2;

  /** Sizes with a name. */
  enum Named {
    TINY,
    SMALL;

    RunSettings settings() {
      return switch (this) {
        case TINY ->
            new RunSettings(
                JDK,
                2_000_000,
                1_792,
                2,
                64,
                4,
                256,
                0,
                1,
                List.of(1),
                List.of(2, 3),
                4_000,
                4,
                16,
                600,
                16,
                64,
                3e-3,
                1);
        case SMALL ->
            new RunSettings(
                JDK,
                10_000_000,
                3_840,
                4,
                192,
                6,
                768,
                0,
                1,
                List.of(1),
                List.of(2, 3),
                20_000,
                4,
                32,
                6_000,
                16,
                128,
                2e-3,
                1);
      };
    }
  }

  /** The memory, if there is one. */
  Optional<EngramConfig> memory(TokenMap map) {
    return memoryLayers.isEmpty()
        ? Optional.empty()
        : Optional.of(
            EngramConfig.paper()
                .vocabulary(map.size(), map.compressedSize())
                .fill(SmallVocabulary.BOUNDARY)
                .layers(memoryLayers.toArray(Integer[]::new))
                .orders(orders.toArray(Integer[]::new))
                .headsPerOrder(headsPerOrder)
                .slotsPerHead(slots)
                .headDim(headDim)
                .streams(streams)
                .width(width)
                .seed(seed)
                .build());
  }

  ModelConfig model(TokenMap map) {
    return new ModelConfig(
        map.size(),
        context,
        width,
        layers,
        heads,
        experts == 0
            ? FeedForward.gelu(feedForward)
            : FeedForward.experts(
                Math.max(1, feedForward / (ROUTED + 1)), experts, Math.min(ROUTED, experts), 1),
        streams,
        memory(map));
  }

  TrainingPlan plan() {
    return TrainingPlan.of(steps, batch, learningRate, seed);
  }

  /** What differs, field by field; steps do not count, since a run may go on. */
  List<String> differences(RunSettings asked) {
    List<String> differences = new ArrayList<>();
    for (RecordComponent field : RunSettings.class.getRecordComponents()) {
      try {
        Object here = field.getAccessor().invoke(this);
        Object there = field.getAccessor().invoke(asked);
        if (!here.equals(there) && !field.getName().equals("steps")) {
          differences.add("%s: %s there, %s asked for".formatted(field.getName(), here, there));
        }
      } catch (ReflectiveOperationException e) {
        throw new IllegalStateException(field.getName(), e);
      }
    }
    return differences;
  }

  String json() {
    return new GsonBuilder().setPrettyPrinting().create().toJson(this);
  }

  /** Writes settings and vocabulary beside the checkpoints to come. */
  void write(Path directory, SmallVocabulary words) throws IOException {
    Files.createDirectories(directory);
    replace(directory.resolve(VOCABULARY), words.toBytes());
    replace(
        directory.resolve(FILE), (json() + "\n").getBytes(java.nio.charset.StandardCharsets.UTF_8));
  }

  private static void replace(Path file, byte[] content) throws IOException {
    Path written = Files.write(file.resolveSibling(file.getFileName() + ".new"), content);
    Files.move(written, file, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
  }

  /** The settings of a run, if the directory has one. */
  static Optional<RunSettings> read(Path directory) throws IOException {
    Path file = directory.resolve(FILE);
    if (!Files.exists(file)) {
      return Optional.empty();
    }
    try {
      RunSettings settings = new Gson().fromJson(Files.readString(file), RunSettings.class);
      Objects.requireNonNull(settings.text(), "text");
      Objects.requireNonNull(settings.memoryLayers(), "memoryLayers");
      Objects.requireNonNull(settings.orders(), "orders");
      return Optional.of(settings);
    } catch (JsonParseException | NullPointerException e) {
      throw new EngramException(file + ": holds no settings of a run: " + e.getMessage(), e);
    }
  }

  static SmallVocabulary vocabulary(Path directory) throws IOException {
    Path file = directory.resolve(VOCABULARY);
    try {
      return SmallVocabulary.fromBytes(Files.readAllBytes(file));
    } catch (IllegalArgumentException e) {
      throw new EngramException(file + ": " + e.getMessage(), e);
    }
  }
}
