// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import io.engram.EngramException;
import io.engram.train.TrainingCheckpoint;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.List;
import java.util.Objects;
import java.util.Optional;

/**
 * Trains a model on a corpus: step by step as planned, looking at held-out text and saving on the
 * way.
 *
 * <p>A run that was stopped, or killed, and resumed from its last checkpoint gives the same bits as
 * one that was not. Not thread-safe, except {@link #stop}.
 */
public final class Trainer {
  /** What a trainer keeps beside its model: the lines of the vocabulary, and those of the curve. */
  private static final String BLANK_LINE = "\n\n";

  private final LanguageModel model;
  private final Corpus corpus;
  private final TrainingPlan plan;
  private final Optional<Path> directory;
  private final List<int[][]> heldOut;
  private LossCurve curve = new LossCurve();
  private long step;
  private long savedStep = -1;
  private volatile boolean stopped;

  /** Hears how a run goes on. */
  public interface Listener {
    /** Hears nothing. */
    Listener NONE = new Listener() {};

    /**
     * A step was made.
     *
     * @param step steps so far
     * @param loss of its batch, before the step, in nats a token
     * @param learningRate of the step
     */
    default void trained(long step, double loss, double learningRate) {}

    /**
     * Held-out text was looked at.
     *
     * @param step steps so far
     * @param loss in nats a token
     */
    default void evaluated(long step, double loss) {}

    /**
     * The run was saved.
     *
     * @param step steps so far
     * @param save the directory of the checkpoint
     */
    default void saved(long step, Path save) {}
  }

  /**
   * A run from its beginning.
   *
   * @param model the model, which stays the caller's to close
   * @param corpus what it is trained on
   * @param plan how
   * @param directory where checkpoints go; none are made if it is empty
   * @throws IllegalArgumentException if vocabularies differ, or the corpus is too short
   */
  public Trainer(LanguageModel model, Corpus corpus, TrainingPlan plan, Optional<Path> directory) {
    this.model = Objects.requireNonNull(model, "model");
    this.corpus = Objects.requireNonNull(corpus, "corpus");
    this.plan = Objects.requireNonNull(plan, "plan");
    this.directory = Objects.requireNonNull(directory, "directory");
    if (model.config().vocabulary() != corpus.vocabulary().size()) {
      throw new IllegalArgumentException(
          "the model has a vocabulary of "
              + model.config().vocabulary()
              + " ids, the corpus of "
              + corpus.vocabulary().size());
    }
    int context = model.config().context();
    this.heldOut = corpus.heldOutBatches(plan.evaluationWindows(), plan.batch(), context);
    // A text that is too short is refused now, and not after a look at held-out text.
    corpus.batch(plan.seed(), 0, 1, context);
  }

  /**
   * Goes on where the last checkpoint of the directory was made.
   *
   * @return whether there was one
   * @throws EngramException if it cannot be restored; if it is of another model it says what
   *     differs, and nothing has been changed; if it is of another vocabulary, the model is no
   *     longer what it was
   * @throws IllegalStateException if the run has begun
   */
  public boolean resume() {
    if (step > 0) {
      throw new IllegalStateException("resume after " + step + " steps, expected before the first");
    }
    if (directory.isEmpty() || TrainingCheckpoint.saves(directory.get()).isEmpty()) {
      return false;
    }
    TrainingCheckpoint.Restored restored =
        TrainingCheckpoint.restore(directory.get(), model.state(new byte[0]));
    String[] saved =
        new String(restored.bytes().get(LanguageModel.CALLER), StandardCharsets.US_ASCII)
            .split(BLANK_LINE, 2);
    if (!saved[0].equals(vocabularyLines())) {
      throw new EngramException(
          restored.directory()
              + " was trained with another vocabulary: expected that of "
              + corpus.origin());
    }
    model.restored(restored.step());
    curve = LossCurve.fromCsv(saved[1]);
    step = restored.step();
    savedStep = step;
    return true;
  }

  /**
   * Trains until the plan is fulfilled or {@link #stop} is called, and saves then.
   *
   * @param listener hears about it
   * @return whether the plan is fulfilled
   * @throws EngramException if a loss or gradient is not finite, naming the step and the last
   *     checkpoint, or a checkpoint cannot be saved
   */
  public boolean run(Listener listener) {
    if (step == 0 && curve.heldOut().isEmpty()) {
      look(listener);
    }
    while (step < plan.steps() && !stopped) {
      double rate = plan.learningRate(step);
      double loss;
      try {
        loss =
            model.train(
                corpus.batch(plan.seed(), step, plan.batch(), model.config().context()), rate);
      } catch (ArithmeticException e) {
        throw new EngramException(
            "training stopped at step "
                + step
                + ": "
                + e.getMessage()
                + (savedStep < 0
                    ? "; nothing was saved"
                    : "; the last save is of step " + savedStep),
            e);
      }
      step++;
      curve.trained(step, loss);
      listener.trained(step, loss, rate);
      if (step % plan.evaluateEvery() == 0 || step == plan.steps()) {
        look(listener);
      }
      if (step % plan.saveEvery() == 0) {
        save(listener);
      }
    }
    save(listener);
    return step >= plan.steps();
  }

  private String vocabularyLines() {
    return new String(corpus.vocabulary().toBytes(), StandardCharsets.US_ASCII).strip();
  }

  private void look(Listener listener) {
    double loss = evaluate();
    curve.evaluated(step, loss);
    listener.evaluated(step, loss);
  }

  private void save(Listener listener) {
    if (directory.isEmpty() || savedStep == step) {
      return;
    }
    byte[] ours =
        (vocabularyLines() + BLANK_LINE + curve.csv()).getBytes(StandardCharsets.US_ASCII);
    Path save = TrainingCheckpoint.save(directory.get(), model.state(ours));
    savedStep = step;
    listener.saved(step, save);
  }

  /** Lets {@link #run} return after the step that it is at. Any thread may call it. */
  public void stop() {
    stopped = true;
  }

  /**
   * Steps so far.
   *
   * @return at least 0
   */
  public long step() {
    return step;
  }

  /**
   * The losses so far, those before a resume included.
   *
   * @return the curve, which goes on with the run
   */
  public LossCurve curve() {
    return curve;
  }

  /**
   * The loss of the plan's held-out sequences.
   *
   * @return the mean, in nats a token
   */
  public double evaluate() {
    double sum = 0;
    long count = 0;
    for (int[][] batch : heldOut) {
      for (double[] losses : model.losses(batch)) {
        for (double loss : losses) {
          sum += loss;
        }
        count += losses.length;
      }
    }
    return sum / count;
  }
}
