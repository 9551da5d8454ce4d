// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.lab;

import io.engram.examples.lm.SmallVocabulary;
import java.nio.charset.StandardCharsets;

/** What a token is in a text, by its spelling and the token before it. */
enum TokenKind {
  /** Begins with a letter, behind something else, with or without white space of its own. */
  WORD_START("first token of a word"),
  /** Begins with a letter, behind a letter or digit. */
  WORD_REST("further token of a word"),
  /** Begins with a digit. */
  NUMBER("number"),
  /** Nothing but white space. */
  SPACE("white space"),
  /** Whatever else: punctuation, operators, brackets, single bytes of other scripts. */
  SYMBOL("punctuation and symbols");

  private final String title;

  TokenKind(String title) {
    this.title = title;
  }

  String title() {
    return title;
  }

  /**
   * The kind of a token.
   *
   * @param vocabulary what ids stand for
   * @param before id of the token before it
   * @param token its id
   */
  static TokenKind of(SmallVocabulary vocabulary, int before, int token) {
    String text = text(vocabulary, token);
    String body = text.strip();
    if (body.isEmpty()) {
      return SPACE;
    }
    int first = body.codePointAt(0);
    if (Character.isDigit(first)) {
      return NUMBER;
    }
    if (!Character.isLetter(first)) {
      return SYMBOL;
    }
    String previous = text(vocabulary, before);
    boolean joined =
        text.charAt(0) == body.charAt(0)
            && !previous.isEmpty()
            && Character.isLetterOrDigit(previous.charAt(previous.length() - 1));
    return joined ? WORD_REST : WORD_START;
  }

  /** Bytes that are no text of their own read as U+FFFD, which is a symbol. */
  private static String text(SmallVocabulary vocabulary, int token) {
    return new String(vocabulary.bytes(token), StandardCharsets.UTF_8);
  }
}
