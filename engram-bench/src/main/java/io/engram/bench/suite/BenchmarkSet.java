// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.suite;

import java.util.Locale;
import java.util.Optional;
import java.util.stream.Stream;

/** The sets that can be asked for by name. Every benchmark class is in one of them. */
public enum BenchmarkSet {
  /** Token ids to row ids. */
  HASH("token ids to row ids"),
  /** Raw to compressed ids. */
  COMPRESSION("raw ids to compressed ids"),
  /** Gathering rows. */
  ROWS("rows out of memory"),
  /** Decoding of stored rows, and of one token. */
  DECODE("stored rows to floats, and a step of decoding"),
  /** Lookups of whole memories. */
  LOOKUP("token ids to rows, by tier and size"),
  /** Tables on disk. */
  DISK("tables on disk, beside LMDB and RocksDB"),
  /** The layer and its parts. */
  LAYER("the layer and its parts"),
  /** Reading ahead. */
  PREFETCH("rows read ahead of the layers"),
  /** Training. */
  TRAIN("the way back through a layer, and a step of a table");

  private final String what;

  BenchmarkSet(String what) {
    this.what = what;
  }

  /**
   * What it measures.
   *
   * @return a phrase
   */
  public String what() {
    return what;
  }

  /**
   * Its name on the command line.
   *
   * @return in small letters
   */
  public String word() {
    return name().toLowerCase(Locale.ROOT);
  }

  /**
   * The set of that name.
   *
   * @param word its name, in letters of any size
   * @return the set, if it is one
   */
  public static Optional<BenchmarkSet> named(String word) {
    return Stream.of(values()).filter(set -> set.word().equalsIgnoreCase(word)).findFirst();
  }

  /**
   * The set that a benchmark class is in.
   *
   * @param simpleName its name without packages
   * @return the set, if one names it
   */
  public static Optional<BenchmarkSet> of(String simpleName) {
    return Optional.ofNullable(
        switch (simpleName) {
          case "HashBenchmark" -> HASH;
          case "CompressionBenchmark" -> COMPRESSION;
          case "RowsBenchmark", "Fp8RowsBenchmark" -> ROWS;
          case "DecodeBenchmark", "DecodeStepBenchmark" -> DECODE;
          case "LookupBenchmark" -> LOOKUP;
          case "DiskTableBenchmark" -> DISK;
          case "LayerBenchmark", "GateBenchmark" -> LAYER;
          case "PrefetchBenchmark" -> PREFETCH;
          case "BackwardBenchmark", "TableStepBenchmark" -> TRAIN;
          default -> null;
        });
  }
}
