// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.endurance;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import io.engram.bench.endurance.SparseFiles.Entry;
import io.engram.testkit.Golden;
import io.engram.vocab.Tokenizer;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.NavigableSet;
import java.util.TreeSet;
import java.util.random.RandomGenerator;
import java.util.stream.IntStream;
import java.util.stream.LongStream;

/**
 * Checkpoints of exactly the released shapes in which only some rows are written: known ones, whose
 * bytes are {@link RowPattern}s. Beside each lie the ids of a text ({@code text.ids}) and, for each
 * layer, the rows of the text ({@code text.L.rows}) and all written rows ({@code written.L.rows}),
 * found without the library.
 */
final class SparseCheckpoint {
  static final String TEXT =
      """
      Only Alexander the Great could tame the horse Bucephalus. Only Alexander the Great, said
      Plutarch, saw that it feared its own shadow. 记忆是条件的，计算也是条件的。 Diana, Princess of
      Wales; der Löwe von Münster; 1,024 + 2^31 = ?  for (int i = 0; i < n; i++) { sum += row[i]; }
      """;

  /** Offset of the first table in the released shard, and of what follows it. */
  static final List<Long> RELEASED_OFFSETS =
      List.of(
          664L,
          98_305_579_672L,
          101_377_629_016L,
          101_377_669_976L,
          101_377_710_936L,
          101_534_997_336L);

  private static final int RANDOM_ROWS = 400;

  private SparseCheckpoint() {}

  static RowPattern v41Pattern(int layer) {
    return new RowPattern(41_000 + layer, 256, 8);
  }

  static RowPattern plePattern() {
    return new RowPattern(38_000, 320, 0);
  }

  /** DeepSeek-V4.1-Flash: two shards of 48, the other 46 absent. */
  static void v41(Path directory, RandomGenerator random) throws IOException {
    Path tokenizer = directory.resolve("tokenizer.json");
    DeepSeekTokenizer.write(tokenizer);
    int[] ids = Tokenizer.readTokenizerJson(tokenizer).encode(TEXT);
    int[] map = DeepSeekTokenizer.referenceMap();
    SparseFiles.writeLongs(
        directory.resolve("text.ids"), IntStream.of(ids).asLongStream().toArray());

    JsonObject layout = Golden.json("v41_layout.json");
    long[] rowCounts = Golden.longs(layout.getAsJsonObject("config").get("engram_num_embeddings"));
    Map<String, String> weightMap = otherTensors();
    List<Integer> layers = List.of(1, 14);
    for (int l = 0; l < layers.size(); l++) {
      int layer = layers.get(l);
      String name = "layers." + layer + ".engram.";
      List<Entry> entries =
          new ArrayList<>(
              List.of(
                  new Entry(name + "embed.weight", "F8_E4M3", List.of(rowCounts[l], 256L)),
                  new Entry(name + "embed.scale", "F8_E8M0", List.of(rowCounts[l], 8L)),
                  new Entry(name + "q_weight", "BF16", List.of(4L, 5120L)),
                  new Entry(name + "k_weight", "BF16", List.of(4L, 5120L)),
                  new Entry(name + "wkv.weight", "F8_E4M3", List.of(25_600L, 6_144L)),
                  new Entry(name + "wkv.scale", "F8_E8M0", List.of(800L, 192L))));
      if (l == 1) {
        // The order in this shard is not known: another one, in which the table begins elsewhere.
        entries.add(entries.removeFirst());
      }
      String shard = "model-%05d-of-00048.safetensors".formatted(47 + l);
      Path file = directory.resolve(shard);
      Map<String, Long> starts = SparseFiles.create(file, l == 0 ? 656 : 0, entries);
      if (l == 0 && !List.copyOf(starts.values()).equals(RELEASED_OFFSETS)) {
        throw new AssertionError("not the released offsets: " + starts);
      }
      entries.forEach(entry -> weightMap.put(entry.name(), shard));

      long[] offsets = Golden.longs(layout.getAsJsonArray("offsets").get(l));
      long[] text =
          rows(
              IntStream.of(ids).map(id -> map[id]).toArray(),
              Golden.longs(layout.getAsJsonArray("multipliers").get(l)),
              Golden.longs(layout.getAsJsonArray("primes").get(l)),
              4,
              layout.get("pad_id_compressed").getAsInt(),
              -1);
      long values = starts.get(name + "embed.weight");
      long scales = starts.get(name + "embed.scale");
      NavigableSet<Long> written = edges(rowCounts[l], offsets, 256, values);
      written.addAll(edges(rowCounts[l], offsets, 8, scales));
      LongStream.of(text).forEach(written::add);
      random.longs(RANDOM_ROWS, 0, rowCounts[l]).forEach(written::add);
      write(file, values, scales, v41Pattern(layer), 0, written);
      SparseFiles.writeLongs(directory.resolve("text." + layer + ".rows"), text);
      SparseFiles.writeLongs(
          directory.resolve("written." + layer + ".rows"),
          written.stream().mapToLong(r -> r).toArray());
    }
    writeIndex(directory, weightMap);
    JsonObject text = new JsonObject();
    text.add("engram_layer_ids", numbers(1, 14));
    text.add("engram_num_embeddings", numbers(rowCounts));
    text.addProperty("engram_max_ngram_size", 4);
    text.addProperty("engram_vocab_size", 16_000_000);
    text.addProperty("engram_n_heads", 8);
    text.addProperty("engram_head_dim", 256);
    text.addProperty("engram_pad_token_id", 2);
    text.addProperty("engram_compressed_vocab_size", 99_092);
    text.addProperty("hidden_size", 5120);
    text.addProperty("num_hidden_layers", 40);
    text.addProperty("hc_mult", 4);
    text.addProperty("rms_norm_eps", 1e-20);
    text.addProperty("vocab_size", DeepSeekTokenizer.SIZE);
    JsonObject config = new JsonObject();
    config.add("text_config", text);
    JsonObject quantization = new JsonObject();
    quantization.addProperty("quant_method", "fp8");
    quantization.addProperty("fmt", "e4m3");
    quantization.addProperty("scale_fmt", "ue8m0");
    quantization.add("weight_block_size", numbers(32, 32));
    config.add("quantization_config", quantization);
    Files.writeString(directory.resolve("config.json"), config.toString());
  }

  /** As many names as the released index has: what they are does not matter, nor that they lie. */
  private static Map<String, String> otherTensors() {
    Map<String, String> weightMap = new LinkedHashMap<>();
    for (int i = 0; i < 96_085 - 12; i++) {
      weightMap.put(
          "layers.%d.ffn.experts.%d.w%d.weight".formatted(i % 40, i / 120, i / 40 % 3),
          "model-%05d-of-00048.safetensors".formatted(1 + i % 46));
    }
    return weightMap;
  }

  /** Qwen3.8-Flash-Next: 128 parts, here in 8 files. */
  static void ple(Path directory, RandomGenerator random) throws IOException {
    int eos = 248_044;
    long rowCount = 320_001_536;
    int parts = 128;
    int files = 8;
    long perPart = rowCount / parts;
    long[] multipliers = {23_703_573_157_769L, 20_109_073_645_365L, 8_052_911_324_071L};
    long[] primes =
        LongStream.of(3, 23, 33, 47, 59, 63, 69, 77, 81, 93, 107, 147, 153, 159, 161, 171)
            .map(p -> 20_000_000 + p)
            .toArray();
    long[] offsets = new long[primes.length];
    for (int c = 1; c < offsets.length; c++) {
      offsets[c] = offsets[c - 1] + primes[c - 1];
    }
    int[] ids = random.ints(120, 0, 248_320).toArray();
    ids[17] = eos;
    ids[18] = eos;
    ids[60] = eos;
    SparseFiles.writeLongs(
        directory.resolve("text.ids"), IntStream.of(ids).asLongStream().toArray());
    long[] text = rows(ids, multipliers, primes, 3, eos, eos);

    NavigableSet<Long> written = edges(rowCount, offsets, 320, 0);
    for (int part = 1; part < parts; part++) {
      written.add(part * perPart - 1);
      written.add(part * perPart);
    }
    LongStream.of(text).forEach(written::add);
    random.longs(RANDOM_ROWS, 0, rowCount).forEach(written::add);

    String name = "model.language_model.layers.1.ple.";
    Map<String, String> weightMap = new LinkedHashMap<>();
    for (int f = 0; f < files; f++) {
      String shard = "model-%05d-of-%05d.safetensors".formatted(f + 1, files);
      List<Entry> entries = new ArrayList<>();
      if (f == 0) {
        entries.add(new Entry(name + "key_proj.weight", "BF16", List.of(10_240L, 2_560L)));
        entries.add(new Entry(name + "value_proj.weight", "BF16", List.of(2_560L, 2_560L)));
        for (String norm : List.of("norm_key", "norm_query", "norm_conv")) {
          entries.add(new Entry(name + norm + ".weight", "BF16", List.of(10_240L)));
        }
        entries.add(new Entry(name + "conv1d.weight", "BF16", List.of(10_240L, 1L, 4L)));
        String embedding = name + "ple_embedding.";
        entries.add(new Entry(embedding + "layer_multipliers", "I64", List.of(3L)));
        entries.add(new Entry(embedding + "ngram_heads_vocab_sizes", "I64", List.of(16L)));
        entries.add(new Entry(embedding + "ngram_heads_offsets", "I64", List.of(16L)));
      }
      // Parts are dealt out, so that their order is not that of the files.
      for (int part = f; part < parts; part += files) {
        entries.add(
            new Entry(
                name + "ple_embedding.ngram_embedding.shard_" + part + ".weight",
                "BF16",
                List.of(perPart, 160L)));
      }
      Path file = directory.resolve(shard);
      Map<String, Long> starts = SparseFiles.create(file, 0, entries);
      entries.forEach(entry -> weightMap.put(entry.name(), shard));
      for (int part = f; part < parts; part += files) {
        long start = starts.get(name + "ple_embedding.ngram_embedding.shard_" + part + ".weight");
        write(
            file,
            start,
            -1,
            plePattern(),
            part * perPart,
            written.subSet(part * perPart, (part + 1) * perPart));
      }
      if (f == 0) {
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE)) {
          String embedding = name + "ple_embedding.";
          channel.write(
              SparseFiles.longs(multipliers), starts.get(embedding + "layer_multipliers"));
          channel.write(
              SparseFiles.longs(primes), starts.get(embedding + "ngram_heads_vocab_sizes"));
          channel.write(SparseFiles.longs(offsets), starts.get(embedding + "ngram_heads_offsets"));
        }
      }
    }
    writeIndex(directory, weightMap);
    SparseFiles.writeLongs(directory.resolve("text.2.rows"), text);
    SparseFiles.writeLongs(
        directory.resolve("written.2.rows"), written.stream().mapToLong(r -> r).toArray());
    JsonObject config = new JsonObject();
    config.addProperty("vocab_size", 248_320);
    config.addProperty("hidden_size", 2560);
    config.addProperty("hc_count", 4);
    config.add("ple_layer_ids", numbers(2));
    config.addProperty("ple_embed_dim", 2560);
    config.addProperty("ngram_size", 3);
    config.addProperty("heads_per_ngram", 8);
    config.addProperty("ngram_vocab_size_base", 20_000_000);
    config.addProperty("make_ngram_vocab_size_divisible_by", 128);
    config.addProperty("split_ngram_parts", parts);
    config.addProperty("eos_token_id", eos);
    config.addProperty("ple_conv_kernel_size", 4);
    config.addProperty("rms_norm_eps", 1e-6);
    config.addProperty("seed", 1234);
    JsonObject root = new JsonObject();
    root.add("text_config", config);
    Files.writeString(directory.resolve("config.json"), root.toString());
  }

  private static JsonArray numbers(long... values) {
    JsonArray array = new JsonArray();
    LongStream.of(values).forEach(array::add);
    return array;
  }

  private static void writeIndex(Path directory, Map<String, String> weightMap) throws IOException {
    JsonObject map = new JsonObject();
    weightMap.forEach(map::addProperty);
    JsonObject index = new JsonObject();
    index.add("metadata", new JsonObject());
    index.add("weight_map", map);
    Files.write(
        directory.resolve("model.safetensors.index.json"), index.toString().getBytes(UTF_8));
  }

  /**
   * Row ids [tokens, columns] of a text, every window hashed anew.
   *
   * @param multipliers one for each place of a window
   * @param primes moduli, order by order
   * @param fill the id that stands for what a window does not see
   * @param boundary the id that windows do not reach behind, or -1
   */
  private static long[] rows(
      int[] ids, long[] multipliers, long[] primes, int maxOrder, int fill, int boundary) {
    int heads = primes.length / (maxOrder - 1);
    long[] rows = new long[ids.length * primes.length];
    int at = 0;
    for (int p = 0; p < ids.length; p++) {
      int column = 0;
      long offset = 0;
      for (int order = 2; order <= maxOrder; order++) {
        long hash = 0;
        boolean seen = true;
        for (int k = 0; k < order; k++) {
          seen = seen && p - k >= 0 && (k == 0 || ids[p - k] != boundary);
          hash ^= (seen ? ids[p - k] : fill) * multipliers[k];
        }
        for (int head = 0; head < heads; head++) {
          rows[at++] = hash % primes[column] + offset;
          offset += primes[column++];
        }
      }
    }
    return rows;
  }

  /** The ends, the ends of the columns, and the rows on both sides of each power of two. */
  private static NavigableSet<Long> edges(long rowCount, long[] offsets, int bytes, long start) {
    NavigableSet<Long> rows = new TreeSet<>(List.of(0L, 1L, rowCount - 2, rowCount - 1));
    for (long offset : offsets) {
      rows.addAll(Arrays.asList(Math.max(0, offset - 1), offset));
    }
    for (int power = 31; power <= 37; power++) {
      for (long origin : new long[] {0, start}) {
        long row = ((1L << power) - origin) / bytes;
        for (long near = row - 1; near <= row + 1; near++) {
          if (near >= 0 && near < rowCount) {
            rows.add(near);
          }
        }
      }
    }
    return rows;
  }

  private static void write(
      Path file, long values, long scales, RowPattern pattern, long first, Iterable<Long> rows)
      throws IOException {
    ByteBuffer value = ByteBuffer.allocateDirect(pattern.valueBytes());
    ByteBuffer scale = ByteBuffer.allocateDirect(pattern.scaleBytes());
    try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE)) {
      for (long row : rows) {
        pattern.putValues(row, MemorySegment.ofBuffer(value.clear()), 0);
        channel.write(value, values + (row - first) * pattern.valueBytes());
        if (pattern.scaleBytes() > 0) {
          pattern.putScales(row, MemorySegment.ofBuffer(scale.clear()), 0);
          channel.write(scale, scales + (row - first) * pattern.scaleBytes());
        }
      }
    }
  }
}
