// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import com.google.gson.Gson;
import io.engram.vocab.TokenMap;
import io.engram.vocab.TokenMapFile;
import io.engram.vocab.Vocabulary;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.Callable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code engram compress}: from a tokenizer to a token map. */
@Command(
    name = "compress",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Numbers the ids of a tokenizer anew, so that spellings that differ only in case, accents,"
            + " width or white space share a number, and writes the map.")
final class CompressCommand implements Callable<Integer> {
  @Option(
      names = "--tokenizer",
      required = true,
      paramLabel = "FILE",
      description =
          "A HuggingFace tokenizer.json, a tiktoken file (also gzip-compressed), or the name of an"
              + " encoding of jtokkit, such as cl100k_base.")
  private String tokenizer;

  @Option(
      names = "--special",
      paramLabel = "FILE",
      description = "With a tiktoken file: a JSON object of special tokens and their ids.")
  private Path special;

  @Option(
      names = "--size",
      paramLabel = "N",
      description =
          "With a tiktoken file: ids of the whole tokenizer. Those that the file has no token for,"
              + " added tokens, count as different from all others.")
  private Integer size;

  @Option(
      names = "--output",
      required = true,
      paramLabel = "MAP",
      description =
          "Takes the map as raw little-endian int32, one value a token id; MAP.engram takes the"
              + " frozen artifact, which carries its own checksum.")
  private Path output;

  @Option(names = "--json", description = "Prints the summary as JSON.")
  private boolean json;

  @Spec private CommandSpec spec;

  @Override
  public Integer call() throws IOException {
    if ((special != null || size != null) && !TokenizerSource.isTiktoken(tokenizer)) {
      throw new ParameterException(
          spec.commandLine(),
          "--special and --size go with a tiktoken file, not with " + tokenizer);
    }
    if (special != null && size != null) {
      throw new ParameterException(spec.commandLine(), "--special and --size exclude each other");
    }
    Vocabulary vocabulary = TokenizerSource.vocabulary(tokenizer, special);
    if (size != null) {
      vocabulary = TokenizerSource.filledUp(vocabulary, size);
    }
    TokenMap map = TokenMap.compress(vocabulary);
    TokenMapFile.writeRaw(output, map);
    Path artifact = output.resolveSibling(output.getFileName() + ".engram");
    TokenMapFile.write(artifact, map, TokenizerSource.provenance(tokenizer));
    Map<String, Object> summary = new LinkedHashMap<>();
    summary.put("ids", map.size());
    summary.put("compressed", map.compressedSize());
    summary.put("removed", 1 - (double) map.compressedSize() / map.size());
    summary.put("sha256Int32", map.sha256OfInt32());
    summary.put("sha256Int64", map.sha256OfInt64());
    summary.put("map", output.toString());
    summary.put("artifact", artifact.toString());
    PrintWriter out = spec.commandLine().getOut();
    if (json) {
      out.println(new Gson().toJson(summary));
    } else {
      out.printf(
          "%,d ids become %,d: %.2f %% fewer%n",
          map.size(), map.compressedSize(), 100 * (double) summary.get("removed"));
      MergeClasses.print(out, map, vocabulary, 10);
      out.println("sha256 as int32   " + map.sha256OfInt32());
      out.println("sha256 as int64   " + map.sha256OfInt64());
      out.println("raw int32 map     " + output);
      out.println("frozen artifact   " + artifact);
    }
    return 0;
  }
}
