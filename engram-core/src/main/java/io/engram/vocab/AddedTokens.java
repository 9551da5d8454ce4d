// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;

/**
 * Finds added tokens in a text: at the leftmost place where one starts, the longest.
 *
 * <p>Immutable and thread-safe.
 */
final class AddedTokens {
  private static final Pattern WORD_CHARACTER =
      Pattern.compile("\\w", Pattern.UNICODE_CHARACTER_CLASS);

  /** A node of the trie over chars. */
  private static final class Node {
    private final Map<Character, Node> children = new HashMap<>(2);
    private AddedToken token;
  }

  private final Node root = new Node();

  /**
   * The tokens and the text that each is looked for as.
   *
   * @param tokens tokens to find
   * @param patterns the text of each, different from each other and not empty
   */
  AddedTokens(List<AddedToken> tokens, List<String> patterns) {
    for (int i = 0; i < tokens.size(); i++) {
      Node node = root;
      for (char c : patterns.get(i).toCharArray()) {
        node = node.children.computeIfAbsent(c, key -> new Node());
      }
      node.token = tokens.get(i);
    }
  }

  /**
   * A piece of text: an added token, or what lies between them.
   *
   * @param text the piece
   * @param id the token's id, or -1
   */
  record Piece(String text, int id) {}

  List<Piece> split(String text) {
    List<Piece> pieces = new ArrayList<>();
    int done = 0;
    int from = 0;
    while (from < text.length()) {
      AddedToken token = null;
      int end = from;
      Node node = root.children.get(text.charAt(from));
      for (int i = from + 1; node != null; i++) {
        if (node.token != null) {
          token = node.token;
          end = i;
        }
        node = i < text.length() ? node.children.get(text.charAt(i)) : null;
      }
      if (token == null) {
        from++;
        continue;
      }
      int start = from;
      from = end;
      if (token.singleWord() && touchesWord(text, start, end)) {
        continue;
      }
      if (token.stripLeft()) {
        // What the token before has taken stays there.
        start = Math.max(done, skipBack(text, start));
      }
      if (token.stripRight()) {
        end = skip(text, end);
      }
      if (done < start) {
        pieces.add(new Piece(text.substring(done, start), -1));
      }
      // The token before may have stripped this one away.
      if (start < end) {
        pieces.add(new Piece("", token.id()));
      }
      done = end;
    }
    if (done < text.length()) {
      pieces.add(new Piece(text.substring(done), -1));
    }
    return pieces;
  }

  private static boolean touchesWord(String text, int start, int end) {
    return (start > 0 && isWord(text.codePointBefore(start)))
        || (end < text.length() && isWord(text.codePointAt(end)));
  }

  private static boolean isWord(int codePoint) {
    return WORD_CHARACTER.matcher(Character.toString(codePoint)).matches();
  }

  private static int skipBack(String text, int start) {
    int i = start;
    while (i > 0 && FrozenUnicode.isWhiteSpace(text.charAt(i - 1))) {
      i--;
    }
    return i;
  }

  private static int skip(String text, int end) {
    int i = end;
    while (i < text.length() && FrozenUnicode.isWhiteSpace(text.charAt(i))) {
      i++;
    }
    return i;
  }
}
