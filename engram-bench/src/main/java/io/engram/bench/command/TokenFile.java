// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.util.Arrays;

/** Token ids in a text file, separated by white space; {@code -} is standard input. */
final class TokenFile {
  private TokenFile() {}

  static int[] read(Path file) throws IOException {
    String text =
        file.toString().equals("-")
            ? new String(System.in.readAllBytes(), StandardCharsets.UTF_8)
            : DemoText.utf8(file);
    String[] words = text.isBlank() ? new String[0] : text.strip().split("\\s+", -1);
    int[] ids = new int[words.length];
    for (int i = 0; i < words.length; i++) {
      try {
        ids[i] = Integer.parseInt(words[i]);
      } catch (NumberFormatException e) {
        throw new IllegalArgumentException(
            file + ": word " + i + " is \"" + words[i] + "\", expected a token id", e);
      }
    }
    if (ids.length == 0) {
      throw new IllegalArgumentException(file + ": holds no token ids");
    }
    return Arrays.copyOf(ids, ids.length);
  }
}
