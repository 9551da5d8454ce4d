// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

import java.util.Locale;

/** How large an experiment is. */
public enum Size {
  /** Seconds: shows that it runs; nothing follows from its figures. */
  TINY(2),
  /** Minutes: shows what is large; small differences need {@link #NIGHT}. */
  QUICK(3),
  /** Worth a night. */
  NIGHT(5);

  private final int seeds;

  Size(int seeds) {
    this.seeds = seeds;
  }

  /**
   * Seeds unless somebody asks for another number.
   *
   * @return at least 2
   */
  public int seeds() {
    return seeds;
  }

  /**
   * Name in files and on the command line.
   *
   * @return lower case
   */
  public String title() {
    return name().toLowerCase(Locale.ROOT);
  }
}
