// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import io.engram.vocab.TokenMap;
import io.engram.vocab.Vocabulary;
import java.io.PrintWriter;
import java.util.stream.Collectors;

/** The largest classes of ids that share a compressed id, for people. */
final class MergeClasses {
  private static final int EXAMPLES = 8;

  private MergeClasses() {}

  static void print(PrintWriter out, TokenMap map, Vocabulary vocabulary, int limit) {
    for (TokenMap.MergeClass each : map.mergeClasses(vocabulary, limit)) {
      String examples =
          each.tokenIds().stream()
              .limit(EXAMPLES)
              .map(id -> "\"" + Quoted.of(vocabulary.text(id)) + "\"")
              .collect(Collectors.joining(" "));
      out.printf(
          "  %-8s %4d ids   %s%s%n",
          "\"" + Quoted.of(each.key()) + "\"",
          each.tokenIds().size(),
          examples,
          each.tokenIds().size() > EXAMPLES ? " ..." : "");
    }
  }
}
