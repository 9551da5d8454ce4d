// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * One step of splitting a text into words (a pre-tokenizer): cuts a range of a text into smaller
 * ones.
 *
 * <p>Immutable and thread-safe.
 */
final class TextSplitter {
  /** What becomes of the matches, named as in {@code tokenizer.json}. */
  enum Behavior {
    REMOVED("Removed"),
    ISOLATED("Isolated"),
    MERGED_WITH_PREVIOUS("MergedWithPrevious"),
    MERGED_WITH_NEXT("MergedWithNext"),
    CONTIGUOUS("Contiguous");

    final String jsonName;

    Behavior(String jsonName) {
      this.jsonName = jsonName;
    }
  }

  private final Pattern pattern;
  private final Behavior behavior;
  private final boolean invert;

  /**
   * A step.
   *
   * @param pattern what to look for
   * @param behavior what becomes of the matches
   * @param invert whether what lies between the matches counts as a match, and the reverse
   */
  TextSplitter(Pattern pattern, Behavior behavior, boolean invert) {
    this.pattern = pattern;
    this.behavior = behavior;
    this.invert = invert;
  }

  /**
   * Cuts ranges of a text.
   *
   * @param text the text
   * @param ranges pairs of start and end, none empty
   * @return the pieces, as pairs, in order, none empty
   */
  IntList split(String text, IntList ranges) {
    Matcher matcher = pattern.matcher(text);
    IntList out = new IntList();
    for (int i = 0; i < ranges.size(); i += 2) {
      // The pattern sees its range only: bounds of a region are opaque to look-ahead.
      matcher.region(ranges.get(i), ranges.get(i + 1));
      split(text, matcher, out);
    }
    return out;
  }

  private void split(String text, Matcher matcher, IntList out) {
    int end = matcher.regionEnd();
    int done = matcher.regionStart();
    // -1: nothing found yet, so that an empty match may come first.
    int last = -1;
    Pieces pieces = new Pieces(out);
    while (matcher.find()) {
      int from = matcher.start();
      int to = matcher.end();
      boolean empty = from == to;
      if (empty && (from == last || isInsidePair(text, from, end))) {
        continue;
      }
      if (done < from) {
        pieces.add(done, from, invert);
      }
      pieces.add(from, to, !invert);
      done = to;
      last = to;
    }
    if (done < end) {
      pieces.add(done, end, invert);
    }
    pieces.finish();
  }

  private static boolean isInsidePair(String text, int at, int end) {
    return at > 0
        && at < end
        && Character.isLowSurrogate(text.charAt(at))
        && Character.isHighSurrogate(text.charAt(at - 1));
  }

  /** Puts matches and gaps, given in order, together as the behaviour asks. */
  private final class Pieces {
    private final IntList out;
    private int from = -1;
    private int to;
    private boolean fromMatch;

    Pieces(IntList out) {
      this.out = out;
    }

    void add(int start, int end, boolean match) {
      boolean joins =
          from >= 0
              && switch (behavior) {
                case REMOVED, ISOLATED -> false;
                case MERGED_WITH_PREVIOUS -> match && !fromMatch;
                case MERGED_WITH_NEXT -> fromMatch && !match;
                case CONTIGUOUS -> match == fromMatch;
              };
      if (!joins) {
        finish();
        from = start;
      }
      to = end;
      fromMatch = match;
    }

    void finish() {
      boolean kept = behavior != Behavior.REMOVED || !fromMatch;
      if (from >= 0 && from < to && kept) {
        out.add(from);
        out.add(to);
      }
    }
  }
}
