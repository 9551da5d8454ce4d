// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

/** Names that an untrusted file gave, in messages. */
final class Names {
  private static final int LONGEST = 120;

  private Names() {}

  /** In quotes, cut to a readable length, without characters that would garble a log. */
  static String quote(String name) {
    StringBuilder text = new StringBuilder("'");
    for (int i = 0; i < Math.min(name.length(), LONGEST); i++) {
      char c = name.charAt(i);
      text.append(Character.isISOControl(c) || Character.isSurrogate(c) ? '?' : c);
    }
    return text.append(name.length() > LONGEST ? "...'" : "'").toString();
  }

  /** Whether every surrogate has its partner, so that the name exists in UTF-8. */
  static boolean isWellFormed(String name) {
    for (int i = 0; i < name.length(); i++) {
      char c = name.charAt(i);
      if (Character.isHighSurrogate(c)
          && i + 1 < name.length()
          && Character.isLowSurrogate(name.charAt(i + 1))) {
        i++;
      } else if (Character.isSurrogate(c)) {
        return false;
      }
    }
    return true;
  }
}
