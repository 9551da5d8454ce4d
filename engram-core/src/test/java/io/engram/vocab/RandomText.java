// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

import java.util.random.RandomGenerator;

/** Random text of many scripts, with what breaks normalisers and tokenizers. */
final class RandomText {
  /** First and last code points of blocks to draw from. */
  private static final int[][] BLOCKS = {
    {0x20, 0x7E},
    {0x20, 0x7E},
    {'a', 'z'},
    {'0', '9'},
    {0x09, 0x0D},
    {0x00, 0x1F},
    {0x7F, 0xFF},
    {0x100, 0x24F},
    {0x2B0, 0x36F},
    {0x370, 0x52F},
    {0x531, 0x58F},
    {0x591, 0x6FF},
    {0x900, 0xDFF},
    {0xE00, 0xFFF},
    {0x10A0, 0x11FF},
    {0x1680, 0x1CFF},
    {0x1D00, 0x1FFF},
    {0x2000, 0x206F},
    {0x2070, 0x218F},
    {0x2190, 0x2BFF},
    {0x2C00, 0x2FFF},
    {0x3000, 0x30FF},
    {0x3100, 0x33FF},
    {0x4E00, 0x9FFF},
    {0xA480, 0xABFF},
    {0xAC00, 0xD7FF},
    {0xE000, 0xE00F},
    {0xF900, 0xFFFF},
    {0x10000, 0x10FFF},
    {0x11000, 0x11FFF},
    {0x12000, 0x1BFFF},
    {0x1CC00, 0x1D7FF},
    {0x1DF00, 0x1EFFF},
    {0x1F000, 0x1FBFF},
    {0x20000, 0x33FFF},
    {0xE0000, 0xE01FF},
    {0x00, 0x10FFFF},
  };

  private static final String[] SNIPPETS = {
    " ",
    "  ",
    "\n",
    "\r\n",
    "\t",
    "'s",
    "'LL",
    "'\u017F",
    "don't",
    "\u0301",
    "\u0338",
    "\u3099",
    "\u1161",
    "\u11A8",
    "\uE000",
    "\u0130",
    "\u03A3",
    "\u1E9E",
    "\u00DF",
    "\uFB01",
    "\u212A",
    "\u00A0",
    "\u0085",
    "\u001C",
    "\u2028",
    "\u3000",
    "\u200B",
    "\u200D",
    "\uFEFF",
    "123",
    "4567",
    "\uFF11",
    "\u0663",
    "\u2162",
    "\u00BD",
    "\uD835\uDFCE",
    "!?",
    "()",
    "_",
    "...",
    "\u3002",
    "\u30B3\u30F3\u30D4\u30E5\u30FC\u30BF",
    "\u6DF1\u5EA6",
    "\uD55C\uAD6D",
    "\u0643\u062A\u0627",
    "\uD83D\uDC69\u200D\uD83D\uDC67",
    "\uD83C\uDDE9\uD83C\uDDEA",
    "the",
    " The",
    "ing",
    "fianc\u00E9e",
    "fiance\u0301e",
    "\u041F\u0440\u0438",
    "\u1CF2",
    "\uD804\uDDC9",
    "\u1E08",
    "if (x) {\n\treturn;\n}"
  };

  private RandomText() {}

  /** A text of 0 to about maxParts pieces: runs of one block, single characters, snippets. */
  static String next(RandomGenerator random, int maxParts) {
    StringBuilder text = new StringBuilder();
    int parts = random.nextInt(maxParts + 1);
    for (int i = 0; i < parts; i++) {
      switch (random.nextInt(4)) {
        case 0 -> text.append(SNIPPETS[random.nextInt(SNIPPETS.length)]);
        case 1 -> {
          int[] block = BLOCKS[random.nextInt(BLOCKS.length)];
          for (int n = random.nextInt(6); n >= 0; n--) {
            append(text, random.nextInt(block[0], block[1] + 1));
          }
        }
        case 2 -> append(text, random.nextInt(0x20, 0x7F));
        default -> {
          int[] block = BLOCKS[random.nextInt(BLOCKS.length)];
          append(text, random.nextInt(block[0], block[1] + 1));
        }
      }
    }
    return text.toString();
  }

  private static void append(StringBuilder text, int codePoint) {
    if (codePoint < Character.MIN_SURROGATE || codePoint > Character.MAX_SURROGATE) {
      text.appendCodePoint(codePoint);
    }
  }

  /** Code points in hexadecimal, for messages. */
  static String show(String text) {
    StringBuilder out = new StringBuilder("\"");
    text.codePoints()
        .forEach(c -> out.append(c > 0x20 && c < 0x7F ? "" + (char) c : String.format("<%X>", c)));
    return out.append('"').toString();
  }
}
