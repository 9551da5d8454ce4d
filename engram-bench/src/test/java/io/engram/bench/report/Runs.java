// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.report;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;

/** Made-up runs with round numbers. */
final class Runs {
  static final Machine OLD =
      new Machine(
          "Some CPU",
          "family 25, model 1, stepping 1",
          List.of("AVX2", "FMA"),
          2,
          List.of("L1d 32K", "L2 512K"),
          24L << 30,
          "madvise",
          "Linux 6 amd64",
          "yes");

  /** The same name, another generation. */
  static final Machine NEW =
      new Machine(
          "Some CPU",
          "family 25, model 17, stepping 1",
          List.of("AVX2", "FMA", "AVX-512"),
          2,
          List.of("L1d 32K", "L2 1024K"),
          24L << 30,
          "madvise",
          "Linux 6 amd64",
          "yes");

  static final Aim FASTER =
      new Aim(
          "hash-numpy",
          "hash beside numpy",
          Pick.of("HashBenchmark.java layout=v41"),
          List.of(Pick.of("HashBenchmark.numpy layout=v41")),
          Aim.Direction.TIMES_AS_FAST,
          12);

  static final Aim CLOSE =
      new Aim(
          "hash-c",
          "hash beside C | clang",
          Pick.of("HashBenchmark.java layout=v41"),
          List.of(Pick.of("HashBenchmark.c layout=v41")),
          Aim.Direction.OF_THE_TIME,
          1.2);

  private Runs() {}

  static Measured measured(String method, String rival, double... nanoseconds) {
    List<Score> rounds = new ArrayList<>();
    for (double score : nanoseconds) {
      rounds.add(
          new Score(score, score / 100, List.of(score * 0.99, score * 1.01), 0.0, 200.0, 0.0));
    }
    return new Measured(
        "hash",
        "HashBenchmark." + method,
        Map.of("layout", "v41"),
        rival,
        1,
        "ns/op",
        rounds,
        null,
        null);
  }

  static Measured absent(String method, String rival, String why) {
    return new Measured(
        "hash",
        "HashBenchmark." + method,
        Map.of("layout", "v41"),
        rival,
        1,
        "s/op",
        List.of(),
        null,
        why);
  }

  static BenchRun run(String day, String commit, Machine machine, List<Measured> measured) {
    List<Finding> findings = new ArrayList<>();
    for (Aim aim : List.of(FASTER, CLOSE)) {
      Finding finding = aim.find(measured);
      if (finding != null) {
        findings.add(finding);
      }
    }
    return new BenchRun(
        BenchRun.FORMAT,
        day + "T12:00:00Z",
        new Commit(commit, "A commit", false),
        machine,
        new Environment(
            "25.0.3 (Somebody)",
            List.of("--add-modules=jdk.incubator.vector"),
            "vector (the module is there)",
            Map.of("C", "gcc 12.2.0", "TORCH", Environment.ABSENT + ": no module"),
            List.of(0.25, 0.5, 0.75)),
        new BenchRun.Settings(List.of("hash"), 3, 5, 0.4, 0),
        measured,
        findings,
        new BenchRun.Noise("HashBenchmark.java layout=v41", List.of(1.01, 0.99, 1.0)));
  }

  static BenchRun first() {
    return run(
        "2026-11-25",
        "1111111111111111",
        OLD,
        List.of(
            measured("java", null, 10, 12, 11),
            measured("numpy", "NUMPY", 120, 120, 121),
            absent("c", "C", "no gcc on the PATH")));
  }

  static BenchRun second() {
    return run(
        "2026-11-26",
        "2222222222222222",
        OLD,
        List.of(
            measured("java", null, 8, 8, 10),
            measured("numpy", "NUMPY", 120, 128, 130),
            measured("c", "C", 8, 10, 8)));
  }

  static BenchRun elsewhere() {
    return run(
        "2026-11-27",
        "3333333333333333",
        NEW,
        List.of(
            measured("java", null, 4, 4, 4),
            measured("numpy", "NUMPY", 100, 100, 100),
            measured("c", "C", 4, 4, 4)));
  }
}
