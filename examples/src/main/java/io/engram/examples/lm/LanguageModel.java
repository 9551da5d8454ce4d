// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import io.engram.Dtype;
import io.engram.EngramMemory;
import io.engram.Tensor;
import io.engram.hash.kernel.Workers;
import io.engram.train.TrainingState;
import io.engram.vocab.TokenMap;
import java.lang.foreign.ValueLayout;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.Optional;

/**
 * A decoder-only transformer with a conditional memory, small enough to be trained on two cores.
 *
 * <p>Each block is causal attention with rotary positions, then a feed-forward part, with RMSNorm
 * before either; the embedding is the output head as well. Dense parameters are one ND4J array
 * trained by ND4J's Adam, tables by the library's own. The same seed, configuration, recipe and
 * batches give the same bits on the same machine. A token's loss depends on no later token, but for
 * the rounding of an expert's products, which come in another number then.
 *
 * <p>Not thread-safe. {@link #close} frees the memory's tables.
 */
public final class LanguageModel implements AutoCloseable {
  /** Name of the caller's bytes in a {@link #state}. */
  public static final String CALLER = "caller";

  /** What a balancing bias of an expert moves in a step (arXiv 2408.15664). */
  private static final float BALANCE_RATE = 1e-3f;

  private final ModelConfig config;
  private final Recipe recipe;
  private final Parameters parameters = new Parameters();
  private final Architecture architecture;
  private final DenseOptimizer optimizer;
  private final Optional<EngramMemory> memory;
  private final List<MemoryLayer> memoryLayers;
  private final Replica[] replicas;
  private final Workers workers;
  private long steps;
  private boolean memoryOff;

  private LanguageModel(ModelConfig config, TokenMap tokenMap, long seed, Recipe recipe) {
    this.config = config;
    this.recipe = recipe;
    architecture = Architecture.add(parameters, config);
    parameters.allocate(seed);
    memory = config.memory().map(m -> EngramMemory.create(m, tokenMap, seed));
    memoryLayers =
        architecture.memory().stream()
            .map(weights -> new MemoryLayer(memory.orElseThrow(), weights, parameters, seed))
            .toList();
    parameters.changed();
    optimizer = new DenseOptimizer(parameters, recipe);
    replicas = new Replica[recipe.shards()];
    workers = new Workers(recipe.shards());
    replica(0);
  }

  /**
   * A new model that is trained by {@link Recipe#DEFAULT}.
   *
   * @param config what it is made of
   * @param tokenMap the memory's map of token ids; not looked at without a memory
   * @param seed of all that is random
   * @return the model
   * @throws IllegalArgumentException if map and configuration do not fit
   */
  public static LanguageModel create(ModelConfig config, TokenMap tokenMap, long seed) {
    return create(config, tokenMap, seed, Recipe.DEFAULT);
  }

  /**
   * A new model.
   *
   * @param config what it is made of
   * @param tokenMap the memory's map of token ids; not looked at without a memory
   * @param seed of all that is random
   * @param recipe how it is trained
   * @return the model
   * @throws IllegalArgumentException if map and configuration do not fit
   */
  public static LanguageModel create(
      ModelConfig config, TokenMap tokenMap, long seed, Recipe recipe) {
    return new LanguageModel(config, tokenMap, seed, recipe);
  }

  /**
   * What the model is made of.
   *
   * @return the configuration
   */
  public ModelConfig config() {
    return config;
  }

  /**
   * Steps trained so far.
   *
   * @return at least 0
   */
  public long steps() {
    return steps;
  }

  /**
   * One step on a batch.
   *
   * @param tokens [sequences][length + 1], all of one length of at most context + 1: each token is
   *     predicted from those before it
   * @param learningRate of the dense parameters, positive
   * @return the mean loss before the step, in nats for each token
   * @throws IllegalArgumentException if the batch is empty or ragged, too long, or an id is out of
   *     range
   * @throws ArithmeticException naming the first tensor whose gradient is not finite; then nothing
   *     was changed, and the model can go on
   */
  public double train(int[][] tokens, double learningRate) {
    check(tokens, 1);
    if (!(learningRate > 0) || Double.isInfinite(learningRate)) {
      throw new IllegalArgumentException(
          "learningRate is " + learningRate + ", expected a positive number");
    }
    Gradient of;
    try {
      of = gradient(tokens);
    } catch (ArithmeticException e) {
      forgetLoads();
      throw e;
    }
    float[] gradient = replicas[0].gradient();
    if (of.norm > recipe.clip()) {
      float factor = (float) (recipe.clip() / of.norm);
      Loops.scale(gradient, 0, gradient.length, factor);
      memoryLayers.forEach(layer -> layer.gradients().scale(factor));
    }
    optimizer.step(gradient, learningRate, steps);
    balance();
    for (MemoryLayer layer : memoryLayers) {
      layer.changed(parameters);
      layer.optimizer().learningRate(recipe.tableRate() * learningRate);
      layer.optimizer().step(layer.gradients());
    }
    steps++;
    return of.loss;
  }

  /** What a gradient says as a whole. */
  private record Gradient(double loss, double norm) {}

  /**
   * The gradient of the mean loss of a batch: of the dense parameters with the first replica, of
   * rows with the layers. All of it is finite, or it is refused.
   */
  private Gradient gradient(int[][] tokens) {
    long count = (long) tokens.length * (tokens[0].length - 1);
    int shards = shardGradients(tokens, count);
    double loss = 0;
    float[] gradient = replicas[0].gradient();
    for (int i = 0; i < shards; i++) {
      for (int t = 0; t < replicas[i].tokens(); t++) {
        loss += replicas[i].losses()[t];
      }
      if (i > 0) {
        Loops.add(replicas[i].gradient(), gradient, 0, gradient.length);
      }
    }
    double norm = norm(gradient, loss / count);
    for (MemoryLayer layer : memoryLayers) {
      layer.gradients().clear();
    }
    for (int i = 0; i < shards; i++) {
      replicas[i].collectRows();
    }
    for (MemoryLayer layer : memoryLayers) {
      if (!Double.isFinite(layer.gradients().norm())) {
        throw refused(
            "the gradient of the table of layer " + layer.layer() + " is not finite", loss / count);
      }
    }
    return new Gradient(loss / count, norm);
  }

  /** Losses and gradients of all shards, of which there are as many as returned. */
  private int shardGradients(int[][] tokens, long count) {
    try {
      return forShards(
          tokens.length, (replica, from, to) -> replica.train(tokens, from, to, count));
    } catch (IllegalArgumentException e) {
      // The batch has been checked: what a layer of memory refuses is a number that is not finite.
      throw (ArithmeticException) refused(e.getMessage(), Double.NaN).initCause(e);
    }
  }

  @FunctionalInterface
  private interface ShardWork {
    void run(Replica replica, int from, int to);
  }

  /** Cuts a batch as evenly as it goes, in the same way each time. */
  private int forShards(int sequences, ShardWork work) {
    int shards = Math.min(recipe.shards(), sequences);
    for (int i = 0; i < shards; i++) {
      replica(i);
    }
    workers.forEach(
        shards,
        shards,
        (_, i) -> {
          int from = (int) ((long) sequences * i / shards);
          int to = (int) ((long) sequences * (i + 1) / shards);
          work.run(replicas[i], from, to);
        });
    return shards;
  }

  private Replica replica(int i) {
    if (replicas[i] == null) {
      replicas[i] = new Replica(config, architecture, memoryLayers, parameters.values());
      replicas[i].memoryOff(memoryOff);
    }
    return replicas[i];
  }

  /** The norm of a gradient, all of whose values are finite. */
  private double norm(float[] gradient, double loss) {
    if (!Double.isFinite(loss)) {
      throw refused(
          parameters
              .firstNotFinite()
              .map(name -> "the parameter " + name + " is not finite")
              .orElse("the loss is not finite"),
          loss);
    }
    double square = 0;
    for (int i = 0; i < gradient.length; i++) {
      square += (double) gradient[i] * gradient[i];
    }
    if (!Double.isFinite(square)) {
      for (int i = 0; i < gradient.length; i++) {
        if (!Float.isFinite(gradient[i])) {
          Parameter parameter = parameters.at(i);
          throw refused(
              "the gradient of %s holds %s at element %d"
                  .formatted(parameter.name(), gradient[i], i - parameter.offset()),
              loss);
        }
      }
    }
    return Math.sqrt(square);
  }

  private ArithmeticException refused(String what, double loss) {
    return new ArithmeticException(
        "step %d is refused: %s (mean loss %s); nothing was changed: lower the learning rate, or"
                .formatted(steps, what, loss)
            + " leave this batch out");
  }

  /** Moves the bias of each expert towards the mean load. */
  private void balance() {
    int experts = config.feedForward().experts();
    if (experts == 0) {
      return;
    }
    long[][] loads = new long[config.layers()][experts];
    for (Replica replica : replicas) {
      if (replica != null) {
        replica.takeLoads(loads);
      }
    }
    for (int layer = 0; layer < config.layers(); layer++) {
      long sum = Arrays.stream(loads[layer]).sum();
      Parameter bias = architecture.feedForward().get(layer).experts().balance();
      for (int e = 0; e < experts; e++) {
        long at = (long) (bias.offset() + e) * Float.BYTES;
        float now = parameters.memory().get(ValueLayout.JAVA_FLOAT, at);
        float moved = now + BALANCE_RATE * Long.signum(sum - loads[layer][e] * experts);
        parameters.memory().set(ValueLayout.JAVA_FLOAT, at, moved);
      }
    }
    parameters.changed();
  }

  /**
   * The loss of each token, without a step.
   *
   * @param tokens as for {@link #train}
   * @return [sequences][length], in nats
   * @throws IllegalArgumentException as {@link #train}
   */
  public double[][] losses(int[][] tokens) {
    check(tokens, 1);
    int length = tokens[0].length - 1;
    double[][] losses = new double[tokens.length][length];
    forShards(
        tokens.length,
        (replica, from, to) -> {
          replica.losses(tokens, from, to);
          for (int s = from; s < to; s++) {
            System.arraycopy(replica.losses(), (s - from) * length, losses[s], 0, length);
          }
        });
    forgetLoads();
    return losses;
  }

  /**
   * What comes after some tokens.
   *
   * @param tokens 1 to context ids
   * @return the logits of each id of the vocabulary
   * @throws IllegalArgumentException if there are too many or too few ids, or one is out of range
   */
  public float[] logits(int... tokens) {
    check(new int[][] {tokens}, 0);
    float[] logits = replicas[0].logits(tokens);
    forgetLoads();
    return logits;
  }

  /**
   * Runs the model on a sequence and keeps what went on.
   *
   * @param tokens 1 to context ids
   * @return hidden states and gates
   * @throws IllegalArgumentException if there are too many or too few ids, or one is out of range
   */
  public Trace trace(int... tokens) {
    check(new int[][] {tokens}, 0);
    float[][][] hidden = replicas[0].hidden(tokens);
    forgetLoads();
    List<Integer> layers = memoryLayers.stream().map(MemoryLayer::layer).sorted().toList();
    return new Trace(hidden, layers, layers.stream().map(replicas[0]::gates).toList());
  }

  /**
   * Predictions from hidden states of any layer: the final norm and the head are applied to them
   * (LogitLens).
   *
   * @param hidden [tokens][width], such as a layer of {@link Trace#hidden}
   * @return [tokens][vocabulary]: logarithms of the probabilities of the next token
   * @throws IllegalArgumentException if a state has another width
   */
  public float[][] logProbabilities(float[][] hidden) {
    for (float[] state : hidden) {
      if (state.length != config.width()) {
        throw new IllegalArgumentException(
            "a hidden state of " + state.length + " values, expected " + config.width());
      }
    }
    return replicas[0].logProbabilities(hidden);
  }

  /** Only training counts for the balance of experts. */
  private void forgetLoads() {
    for (Replica replica : replicas) {
      if (replica != null) {
        replica.takeLoads(new long[config.layers()][config.feedForward().experts()]);
      }
    }
  }

  private void check(int[][] tokens, int targets) {
    Objects.requireNonNull(tokens, "tokens");
    if (tokens.length == 0) {
      throw new IllegalArgumentException("a batch of no sequences, expected at least 1");
    }
    int length = tokens[0].length;
    if (length < 1 + targets || length > config.context() + targets) {
      throw new IllegalArgumentException(
          "sequences of %d tokens, expected %d to %d"
              .formatted(length, 1 + targets, config.context() + targets));
    }
    for (int s = 0; s < tokens.length; s++) {
      if (tokens[s].length != length) {
        throw new IllegalArgumentException(
            "sequence %d has %d tokens, sequence 0 has %d: expected one length"
                .formatted(s, tokens[s].length, length));
      }
      for (int t = 0; t < length; t++) {
        if (tokens[s][t] < 0 || tokens[s][t] >= config.vocabulary()) {
          throw new IllegalArgumentException(
              "token %d of sequence %d is %d, expected 0 to %d"
                  .formatted(t, s, tokens[s][t], config.vocabulary() - 1));
        }
      }
    }
  }

  /**
   * All parameters, tables included.
   *
   * @return values that are trained
   */
  public long parameters() {
    return denseParameters() + memoryLayers.stream().mapToLong(MemoryLayer::tableParameters).sum();
  }

  /**
   * All parameters but the tables'.
   *
   * @return values of the flat array that the dense optimiser trains
   */
  public long denseParameters() {
    return parameters.size();
  }

  /**
   * The parameters that one token meets: of experts those it takes, of tables the rows it
   * retrieves, of everything else all; the embedding, which is the head, counts as a whole.
   *
   * @return values
   */
  public long activeParameters() {
    FeedForward part = config.feedForward();
    long idle = part.parameters(config.width()) - part.activeParameters(config.width());
    long rows = config.memory().map(m -> (long) m.layerIds().size() * m.rowWidth()).orElse(0L);
    return denseParameters() - config.layers() * idle + rows;
  }

  /** The flat parameters, for tests. */
  Parameters flat() {
    return parameters;
  }

  /** The layers that have a memory, for tests. */
  List<MemoryLayer> memoryLayers() {
    return memoryLayers;
  }

  /** Flat gradient of a batch's mean loss, for tests; that of the rows is with the layers. */
  float[] gradientOf(int[][] tokens) {
    gradient(tokens);
    return replicas[0].gradient();
  }

  /** Takes over changed values, for tests. */
  void parametersChanged() {
    parameters.changed();
    memoryLayers.forEach(layer -> layer.changed(parameters));
  }

  /**
   * Leaves the memory out of all that follows, as if its gates were 0, or lets it in again.
   *
   * @param off whether it is left out
   */
  public void memoryOff(boolean off) {
    memoryOff = off;
    for (Replica replica : replicas) {
      if (replica != null) {
        replica.memoryOff(off);
      }
    }
  }

  /**
   * What a run has to keep so that it can go on to the bit: dense parameters, the moments of their
   * optimiser, the memory with its tables and their optimisers, and the number of steps.
   *
   * @param callerState what the caller wants beside it: where it is in its data, its random state
   * @return views of this model, to be saved; or to be restored into, followed by {@link
   *     #restored}. The caller's bytes are named {@value #CALLER}
   */
  public TrainingState state(byte[] callerState) {
    TrainingState.Builder state =
        TrainingState.builder()
            .step(steps)
            .bytes(CALLER, callerState)
            .tensor(
                "parameters",
                new Tensor(Dtype.F32, new long[] {parameters.size()}, parameters.memory()))
            .tensor(
                "moments",
                new Tensor(Dtype.F32, new long[] {2, parameters.size()}, optimizer.moments()));
    memory.ifPresent(state::memory);
    for (MemoryLayer layer : memoryLayers) {
      state.optimizer(layer.layer(), layer.optimizer());
    }
    return state.build();
  }

  /**
   * Goes on from where a saved run was, after its {@link #state} was filled by {@code
   * TrainingCheckpoint.restore}, which restores the tables and their optimisers by itself.
   *
   * @param step the step that restoring returned
   * @throws IllegalArgumentException if it is negative
   */
  public void restored(long step) {
    if (step < 0) {
      throw new IllegalArgumentException("step is " + step + ", expected at least 0");
    }
    steps = step;
    parameters.changed();
    for (MemoryLayer layer : memoryLayers) {
      layer.changed(parameters);
    }
  }

  /**
   * The memory, with what it has learned so far: tables and dense weights.
   *
   * @return the model's own, to be read; open until the model is closed
   * @throws IllegalStateException if the model has none
   */
  public EngramMemory memory() {
    return memory.orElseThrow(() -> new IllegalStateException("this model has no memory"));
  }

  @Override
  public void close() {
    memoryLayers.forEach(MemoryLayer::close);
    memory.ifPresent(EngramMemory::close);
  }
}
