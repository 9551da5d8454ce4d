// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.report;

import java.nio.file.Path;
import java.util.List;
import java.util.Optional;

/**
 * The sources that were measured.
 *
 * @param id the commit, or {@code unknown} outside a repository
 * @param subject first line of its message, empty if unknown
 * @param dirty whether files were changed since, apart from documentation
 */
public record Commit(String id, String subject, boolean dirty) {
  /** Checks. */
  public Commit {
    Checks.named("id", id);
    Checks.present("subject", subject);
  }

  /**
   * The commit that a directory is at.
   *
   * @param directory top directory of the sources
   * @return the commit
   */
  public static Commit of(Path directory) {
    String git = directory.toString();
    Optional<String> id = Programs.say(List.of("git", "-C", git, "rev-parse", "HEAD"));
    if (id.isEmpty()) {
      return new Commit("unknown", "", false);
    }
    String subject = Programs.say(List.of("git", "-C", git, "log", "-1", "--format=%s")).orElse("");
    // The page and the history change by measuring, which changes nothing of what is measured.
    boolean dirty =
        Programs.say(
                List.of("git", "-C", git, "status", "--porcelain", "--", ".", ":(exclude)docs"))
            .map(status -> !status.isEmpty())
            .orElse(false);
    return new Commit(id.get(), subject, dirty);
  }

  /**
   * Its name for people.
   *
   * @return the first characters of its id, with a mark if files were changed
   */
  public String shortName() {
    return id.substring(0, Math.min(8, id.length())) + (dirty ? "+" : "");
  }
}
