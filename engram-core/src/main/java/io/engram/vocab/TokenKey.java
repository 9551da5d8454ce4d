// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

import java.util.function.UnaryOperator;

/**
 * The string that decides which compressed id a token gets.
 *
 * @param text the string; those of every origin are compared with each other
 * @param origin where it comes from
 */
record TokenKey(String text, Origin origin) {
  enum Origin {
    /** The normalised text. */
    NORMALIZED,
    /** The token's spelling, because its bytes are no UTF-8 (or hold U+FFFD). */
    RAW,
    /** The text itself, because nothing of it is left after normalising. */
    TEXT,
    /** Empty, because the id has no token. */
    NONE
  }

  static TokenKey of(Vocabulary vocabulary, int id, UnaryOperator<String> normalizer) {
    if (!vocabulary.isToken(id)) {
      return new TokenKey("", Origin.NONE);
    }
    String text = vocabulary.text(id);
    if (text.indexOf(LossyUtf8.REPLACEMENT) >= 0) {
      return new TokenKey(vocabulary.token(id), Origin.RAW);
    }
    String normal = normalizer.apply(text);
    return normal.isEmpty()
        ? new TokenKey(text, Origin.TEXT)
        : new TokenKey(normal, Origin.NORMALIZED);
  }
}
