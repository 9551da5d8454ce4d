// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.suite;

import io.engram.bench.report.Aim;
import io.engram.bench.report.Aim.Direction;
import io.engram.bench.report.Pick;
import java.util.List;
import java.util.stream.Stream;

/** What the library is to reach. All aims are ratios within one run on the same cores. */
public final class Aims {
  private static final List<Aim> ALL =
      List.of(
          timesAsFast(
              12,
              "hash-numpy",
              "Hash of 2- to 4-grams × 8 heads, one thread, beside contiguous numpy",
              "HashBenchmark.java layout=v41",
              "HashBenchmark.numpy layout=v41"),
          timesAsFast(
              25,
              "hash-demo",
              "Hash of 2- to 4-grams × 8 heads beside the published demonstration's way",
              "HashBenchmark.java layout=v41",
              "HashBenchmark.demo layout=v41"),
          ofTheTime(
              1.2,
              "hash-c",
              "Hash of 2- to 4-grams × 8 heads beside C, compiled for this machine",
              "HashBenchmark.java layout=v41",
              "HashBenchmark.c layout=v41"),
          timesAsFast(
              1.5,
              "rows-torch",
              "Cold uniform rows of 256 bytes out of 4 GiB, beside PyTorch's embedding",
              "RowsBenchmark.java tableMiB=4096",
              "RowsBenchmark.torch tableMiB=4096"),
          ofTheTime(
              1.1,
              "rows-c",
              "Cold uniform rows of 256 bytes out of 4 GiB, beside C with prefetch",
              "RowsBenchmark.java tableMiB=4096",
              "RowsBenchmark.c tableMiB=4096"),
          ofTheTime(
              1.3,
              "rows-fp8",
              "FP8 rows with scales to float, beside a plain copy of as many bytes as come out",
              "Fp8RowsBenchmark.java",
              "Fp8RowsBenchmark.copy"),
          ofTheTime(
              1.3,
              "lookup-size",
              "A lookup in 7·10⁸ rows beside one in 10⁶, mapped and warm",
              "LookupBenchmark.java tier=MAPPED rows=700000000",
              "LookupBenchmark.java tier=MAPPED rows=1000000"),
          ofTheTime(
              0.8,
              "layer-512-compiled",
              "Layer of the demo's shape, 512 tokens, float32, beside torch.compile",
              "LayerBenchmark.java tokens=512 weights=F32",
              "LayerBenchmark.torchCompiled tokens=512 weights=F32"),
          ofTheTime(
              0.5,
              "layer-512-eager",
              "Layer, 512 tokens, float32, beside the faster eager PyTorch",
              "LayerBenchmark.java tokens=512 weights=F32",
              "LayerBenchmark.torch tokens=512 weights=F32",
              "LayerBenchmark.torchFused tokens=512 weights=F32"),
          ofTheTime(
              0.7,
              "layer-512-bf16",
              "Layer, 512 tokens, bfloat16 weights, beside torch.compile in bfloat16",
              "LayerBenchmark.java tokens=512 weights=BF16",
              "LayerBenchmark.torchCompiled tokens=512 weights=BF16"),
          ofTheTime(
              0.2,
              "layer-1-f32",
              "Layer, one token, float32, beside the fastest PyTorch",
              "LayerBenchmark.java tokens=1 weights=F32",
              "LayerBenchmark.torch tokens=1 weights=F32",
              "LayerBenchmark.torchFused tokens=1 weights=F32",
              "LayerBenchmark.torchCompiled tokens=1 weights=F32"),
          ofTheTime(
              0.2,
              "layer-1-bf16",
              "Layer, one token, bfloat16 weights, beside the fastest PyTorch",
              "LayerBenchmark.java tokens=1 weights=BF16",
              "LayerBenchmark.torch tokens=1 weights=BF16",
              "LayerBenchmark.torchFused tokens=1 weights=BF16",
              "LayerBenchmark.torchCompiled tokens=1 weights=BF16"));

  private Aims() {}

  /**
   * All aims.
   *
   * @return in the order in which they are shown
   */
  public static List<Aim> all() {
    return ALL;
  }

  private static Aim timesAsFast(
      double bound, String id, String what, String ours, String... rivals) {
    return aim(Direction.TIMES_AS_FAST, bound, id, what, ours, rivals);
  }

  private static Aim ofTheTime(
      double bound, String id, String what, String ours, String... rivals) {
    return aim(Direction.OF_THE_TIME, bound, id, what, ours, rivals);
  }

  private static Aim aim(
      Direction direction, double bound, String id, String what, String ours, String... rivals) {
    return new Aim(
        id, what, Pick.of(ours), Stream.of(rivals).map(Pick::of).toList(), direction, bound);
  }
}
