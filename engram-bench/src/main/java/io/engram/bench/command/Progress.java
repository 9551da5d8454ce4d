// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import java.io.Console;
import java.time.Duration;
import java.util.Optional;
import me.tongfei.progressbar.ProgressBar;
import me.tongfei.progressbar.ProgressBarBuilder;
import me.tongfei.progressbar.ProgressBarStyle;

/**
 * A progress bar on standard error, or nothing where that is no terminal.
 *
 * <p>Thread-safe.
 */
final class Progress implements AutoCloseable {
  private final ProgressBar bar;

  private Progress(ProgressBar bar) {
    this.bar = bar;
  }

  static Progress start(String task, long total, String unit) {
    if (!Optional.ofNullable(System.console()).map(Console::isTerminal).orElse(false)) {
      return new Progress(null);
    }
    return new Progress(
        new ProgressBarBuilder()
            .setTaskName(task)
            .setInitialMax(total)
            .setUnit(" " + unit, 1)
            .setUpdateIntervalMillis((int) Duration.ofMillis(100).toMillis())
            .setStyle(ProgressBarStyle.UNICODE_BLOCK)
            .clearDisplayOnFinish()
            .build());
  }

  void advance(long more) {
    if (bar != null) {
      bar.stepBy(more);
    }
  }

  void reached(long done) {
    if (bar != null) {
      bar.stepTo(done);
    }
  }

  /** Says something behind the bar. */
  void say(String message) {
    if (bar != null) {
      bar.setExtraMessage(message);
    }
  }

  /** There is more or less to do than was thought. */
  void of(long total) {
    if (bar != null) {
      bar.maxHint(total);
    }
  }

  /** Whether anybody sees it. */
  boolean shown() {
    return bar != null;
  }

  @Override
  public void close() {
    if (bar != null) {
      bar.close();
    }
  }
}
