// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import java.nio.charset.StandardCharsets;

/** What a token is made of, for asking which tokens a memory helps with. */
public enum TokenKind {
  /** Letters after a space: a word begins. */
  WORD("words after a space"),
  /** Letters (or _ and $) without a space: the start of a line, or a piece of an identifier. */
  PIECE("identifier pieces"),
  /** Spaces, tabs and line ends only. */
  WHITESPACE("whitespace"),
  /** Signs, with or without a space, and line ends behind them. */
  PUNCTUATION("punctuation"),
  /** Digits, letters beyond ASCII, parts of characters, and what is mixed. */
  OTHER("digits and others");

  private final String words;

  TokenKind(String words) {
    this.words = words;
  }

  /**
   * What the kind is, for people.
   *
   * @return a phrase in the plural
   */
  public String words() {
    return words;
  }

  /**
   * The kind of a token.
   *
   * @param token its bytes
   * @return the kind
   */
  public static TokenKind of(byte[] token) {
    String text = new String(token, StandardCharsets.ISO_8859_1);
    if (text.matches("[ \t\r\n\f]+")) {
      return WHITESPACE;
    }
    if (text.matches(" [A-Za-z_$]+")) {
      return WORD;
    }
    if (text.matches("[A-Za-z_$]+")) {
      return PIECE;
    }
    if (text.matches("[ \t]?[!-/:-@\\[-`{-~]+[ \t\r\n]*")) {
      return PUNCTUATION;
    }
    return OTHER;
  }

  /**
   * The kinds of all tokens.
   *
   * @param vocabulary the vocabulary
   * @return for each id its kind
   */
  public static TokenKind[] of(SmallVocabulary vocabulary) {
    TokenKind[] kinds = new TokenKind[vocabulary.size()];
    for (int id = 0; id < kinds.length; id++) {
      kinds[id] = of(vocabulary.bytes(id));
    }
    return kinds;
  }
}
