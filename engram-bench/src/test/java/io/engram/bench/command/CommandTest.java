// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import io.engram.checkpoint.Checkpoint;
import io.engram.checkpoint.Safetensors;
import io.engram.testkit.Golden;
import io.engram.vocab.TokenMapFile;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.ValueLayout;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;
import org.junit.jupiter.params.provider.ValueSource;
import picocli.CommandLine;

class CommandTest {
  @TempDir Path directory;

  private Path tokens(String ids) throws IOException {
    return Files.writeString(directory.resolve("tokens.txt"), ids);
  }

  private static List<String> subcommands() {
    return new CommandLine(new EngramCommand())
        .getSubcommands().keySet().stream().filter(name -> !name.equals("help")).toList();
  }

  @ParameterizedTest
  @MethodSource("subcommands")
  void helpNamesTheSubcommandAndItsOptions(String subcommand) {
    Run run = Run.of(subcommand, "--help");
    assertEquals(0, run.exitCode());
    assertTrue(run.out().contains("Usage: engram " + subcommand), run.out());
    assertEquals(run.out(), Run.of("help", subcommand).out());
  }

  @Test
  void aWrongCommandLineIsExitCode2() {
    assertEquals(2, Run.of().exitCode());
    assertEquals(2, Run.of("hash").exitCode());
    assertEquals(2, Run.of("forget").exitCode());
    assertEquals(0, Run.of("--version").exitCode());
  }

  @Test
  void hashPrintsALineForEachPosition() throws IOException {
    JsonObject whole = Golden.json("v41_hash_cases.json");
    assertTrue(whole.has("cases"));
    Path file = tokens("413 420\n263\t415");
    String checkpoint = Golden.path("v41_mini").toString();
    Run lines =
        Run.of("hash", "--checkpoint", checkpoint, "--layer", "1", "--tokens", file.toString());
    assertEquals(0, lines.exitCode(), lines.err());
    String[] positions = lines.out().strip().split("\n", -1);
    assertEquals(4, positions.length);
    Run json =
        Run.of(
            "hash",
            "--checkpoint",
            checkpoint,
            "--layer",
            "1",
            "--tokens",
            file.toString(),
            "--json");
    JsonArray array = JsonParser.parseString(json.out()).getAsJsonArray();
    for (int p = 0; p < 4; p++) {
      long[] line = Stream.of(positions[p].split(" ", -1)).mapToLong(Long::parseLong).toArray();
      assertEquals(12, line.length);
      assertArrayEquals(line, Golden.longs(array.get(p)));
    }
  }

  @Test
  void hashEqualsTheGoldenRowIds() throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      Safetensors expected =
          Safetensors.open(Golden.path("qwen_mini").resolve("expected.safetensors"), arena);
      long[] ids = expected.tensor("input_ids").data().toArray(ValueLayout.JAVA_LONG_UNALIGNED);
      StringBuilder first = new StringBuilder();
      for (int i = 0; i < 13; i++) {
        first.append(ids[i]).append(' ');
      }
      Run run =
          Run.of(
              "hash",
              "--checkpoint",
              Golden.path("qwen_mini").toString(),
              "--layer",
              "3",
              "--tokens",
              tokens(first.toString()).toString());
      long[] want = expected.tensor("L3.row_ids").data().toArray(ValueLayout.JAVA_LONG_UNALIGNED);
      long[] found =
          Stream.of(run.out().strip().split("\\s+", -1)).mapToLong(Long::parseLong).toArray();
      assertArrayEquals(java.util.Arrays.copyOf(want, 13 * 6), found);
    }
  }

  @Test
  void badTokenFilesAreNamed() throws IOException {
    String[] command = {
      "hash", "--checkpoint", Golden.path("v41_mini").toString(), "--layer", "1", "--tokens", ""
    };
    command[6] = tokens("12 x7").toString();
    assertFailed("word 1 is \"x7\"", Run.of(command));
    command[6] = tokens("").toString();
    assertFailed("holds no token ids", Run.of(command));
    command[6] = tokens("644").toString();
    assertFailed("644", Run.of(command));
    command[6] = directory.resolve("absent").toString();
    assertFailed("absent: no such file", Run.of(command));
    command[6] = tokens("1").toString();
    command[2] = directory.toString();
    assertFailed("config.json: is missing", Run.of(command));
  }

  private static void assertFailed(String message, Run run) {
    assertEquals(1, run.exitCode(), run.err());
    assertTrue(run.err().contains(message), run.err());
    assertTrue(!run.err().contains("\tat "), "a stack trace: " + run.err());
  }

  @Test
  void lookupShowsTheRowsOfTheTable() {
    String checkpoint = Golden.path("demo_mini").toString();
    Run run =
        Run.of("lookup", "--checkpoint", checkpoint, "--layer", "1", "--rows", "0,1853", "--json");
    assertEquals(0, run.exitCode(), run.err());
    JsonArray rows = JsonParser.parseString(run.out()).getAsJsonArray();
    assertEquals(2, rows.size());
    try (Arena arena = Arena.ofConfined()) {
      Safetensors model =
          Safetensors.open(Golden.path("demo_mini").resolve("model.safetensors"), arena);
      float[] table =
          model
              .tensor("layers.1.engram.multi_head_embedding.embedding.weight")
              .data()
              .toArray(ValueLayout.JAVA_FLOAT_UNALIGNED);
      JsonObject last = rows.get(1).getAsJsonObject();
      assertEquals(1853, last.get("row").getAsLong());
      assertArrayEquals(
          java.util.Arrays.copyOfRange(table, 1853 * 8, 1854 * 8),
          Golden.floats(last.get("values")));
    }
    assertFailed(
        "1854", Run.of("lookup", "--checkpoint", checkpoint, "--layer", "1", "--rows", "1854"));
  }

  @ParameterizedTest
  @ValueSource(strings = {"v41_mini", "qwen_mini", "demo_mini"})
  void verifyHoldsOnTheGoldenCheckpoints(String name) {
    Run run = Run.of("verify", Golden.path(name).toString());
    assertEquals(0, run.exitCode(), run.out() + run.err());
    assertTrue(run.out().contains("checks, all hold"), run.out());
    JsonObject json =
        JsonParser.parseString(Run.of("verify", "--json", Golden.path(name).toString()).out())
            .getAsJsonObject();
    assertTrue(json.get("holds").getAsBoolean());
  }

  @Test
  void verifyShowsWhatFailsAndExitsWith1() throws IOException {
    try (Stream<Path> files = Files.list(Golden.path("v41_mini"))) {
      for (Path file : files.toList()) {
        Files.copy(file, directory.resolve(file.getFileName()));
      }
    }
    Path config = directory.resolve("config.json");
    Files.writeString(config, Files.readString(config).replace("7464", "7465"));
    Run run = Run.of("verify", directory.toString());
    assertEquals(1, run.exitCode());
    assertTrue(
        run.out().contains("sum of the moduli, rows in config.json: expected 7464, found 7465"),
        run.out());
    assertTrue(run.out().contains("1 of "), run.out());
  }

  @ParameterizedTest
  @ValueSource(strings = {"v41_mini", "qwen_mini", "demo_mini"})
  void convertPacksTablesAndTakesThemBack(String name) {
    String checkpoint = Golden.path(name).toString();
    Path rows = directory.resolve("rows");
    Run first = Run.of("convert", checkpoint, "--into", rows.toString(), "--json");
    assertEquals(0, first.exitCode(), first.err());
    JsonArray layers = JsonParser.parseString(first.out()).getAsJsonArray();
    assertEquals(2, layers.size());
    Run again = Run.of("convert", checkpoint, "--into", rows.toString());
    assertTrue(again.out().contains("was there already"), again.out() + again.err());
    Run anew = Run.of("convert", checkpoint, "--into", rows.toString(), "--replace", "--json");
    assertEquals(
        layers.get(0).getAsJsonObject().get("contentDigest"),
        JsonParser.parseString(anew.out())
            .getAsJsonArray()
            .get(0)
            .getAsJsonObject()
            .get("contentDigest"));
    Run verified = Run.of("verify", rows.toString(), "--against", checkpoint);
    assertEquals(0, verified.exitCode(), verified.out() + verified.err());
    assertTrue(verified.out().contains("6 checks, all hold"), verified.out());
    Run inspected = Run.of("inspect", rows.toString());
    assertTrue(
        inspected
            .out()
            .contains(layers.get(1).getAsJsonObject().get("contentDigest").getAsString()),
        inspected.out() + inspected.err());
    Path back = directory.resolve("back.safetensors");
    Run taken = Run.of("convert", "--back", rows.toString(), "--output", back.toString());
    assertEquals(0, taken.exitCode(), taken.err());
    try (Arena arena = Arena.ofConfined();
        Checkpoint opened = Checkpoint.open(Golden.path(name))) {
      Safetensors tensors = Safetensors.open(back, arena);
      for (int layer : opened.config().layerIds()) {
        for (String tensor : opened.tableTensors(layer).stream().flatMap(List::stream).toList()) {
          assertEquals(
              -1, opened.tensors().region(tensor).bytes().mismatch(tensors.region(tensor).bytes()));
        }
      }
    }
  }

  @Test
  void convertDividesAmongDirectories() {
    String checkpoint = Golden.path("qwen_mini").toString();
    String a = directory.resolve("a").toString();
    String b = directory.resolve("b").toString();
    Run run = Run.of("convert", checkpoint, "--layer", "3", "--shards", "3", "--into", a + "," + b);
    assertEquals(0, run.exitCode(), run.err());
    assertTrue(Files.exists(Path.of(a, "layer-3-shard-2-of-3.rows")));
    assertTrue(Files.exists(Path.of(b, "layer-3-shard-1-of-3.rows")));
    assertEquals(0, Run.of("verify", a, b, "--against", checkpoint).exitCode());
    assertFailed("shard 1 of 3 is missing", Run.of("verify", a));
    Run wrongTable = Run.of("verify", a, b, "--against", Golden.path("demo_mini").toString());
    assertEquals(1, wrongTable.exitCode(), wrongTable.out());
    Run many =
        Run.of(
            "convert", checkpoint, "--layer", "1", "--shards", "20", "--into", a, "--threads", "1");
    assertEquals(0, many.exitCode(), many.err());
  }

  @Test
  void verifyFindsDamagedPackedRows() throws IOException {
    try (Stream<Path> files = Files.list(Golden.path("v41_mini"))) {
      for (Path file : files.toList()) {
        Files.copy(file, directory.resolve(file.getFileName()));
      }
    }
    Run converted = Run.of("convert", directory.toString());
    assertEquals(0, converted.exitCode(), converted.err());
    Run beside = Run.of("verify", directory.toString());
    assertTrue(beside.out().contains("layer-5.rows, of this table"), beside.out());
    Path rows = directory.resolve("engram-rows").resolve("layer-5.rows");
    byte[] bytes = Files.readAllBytes(rows);
    bytes[5000] ^= 1;
    Files.write(rows, bytes);
    Run damaged = Run.of("verify", rows.toString());
    assertEquals(1, damaged.exitCode());
    assertTrue(damaged.out().contains("(rows 0 to 7463) is damaged"), damaged.out());
    assertFailed(
        "is damaged",
        Run.of(
            "convert",
            "--back",
            rows.toString(),
            "--output",
            directory.resolve("no.safetensors").toString()));
    Files.move(
        rows.resolveSibling("layer-1.rows"),
        rows,
        java.nio.file.StandardCopyOption.REPLACE_EXISTING);
    Run wrong = Run.of("verify", directory.toString());
    assertEquals(1, wrong.exitCode());
    assertTrue(wrong.out().contains("layer: expected 5, found 1"), wrong.out());
  }

  @Test
  void convertRefusesOptionsThatDoNotGoTogether() {
    String checkpoint = Golden.path("v41_mini").toString();
    for (String[] wrong :
        new String[][] {
          {"convert"},
          {"convert", checkpoint, "--back"},
          {"convert", checkpoint, "--output", "f"},
          {"convert", checkpoint, "--shards", "0"},
          {"convert", checkpoint, checkpoint},
          {"convert", checkpoint, "--into", "a,b"},
          {"convert", checkpoint, "--back", "--output", "f", "--replace"},
          {"convert", checkpoint, "--threads", "0"},
          {"verify", checkpoint, "--against", checkpoint}
        }) {
      assertEquals(2, Run.of(wrong).exitCode(), () -> String.join(" ", wrong));
    }
  }

  @Test
  void inspectNamesEveryTensorOfTheMemory() {
    Run run = Run.of("inspect", Golden.path("qwen_mini").toString());
    assertEquals(0, run.exitCode(), run.err());
    assertTrue(run.out().contains("ple_embedding.ngram_embedding.shard_3.weight"), run.out());
    JsonObject json =
        JsonParser.parseString(
                Run.of("inspect", "--json", Golden.path("v41_mini").toString()).out())
            .getAsJsonObject();
    assertEquals(
        7464, json.getAsJsonArray("layers").get(1).getAsJsonObject().get("rows").getAsLong());
  }

  @Test
  void compressWritesTheMapOfTheReference() throws IOException {
    Path map = directory.resolve("map.bin");
    Run run =
        Run.of(
            "compress",
            "--tokenizer",
            Golden.path("v41_mini").resolve("tokenizer.json").toString(),
            "--output",
            map.toString());
    assertEquals(0, run.exitCode(), run.err());
    try (Arena arena = Arena.ofConfined()) {
      long[] want =
          Safetensors.open(Golden.path("v41_mini").resolve("expected.safetensors"), arena)
              .tensor("token_map")
              .data()
              .toArray(ValueLayout.JAVA_LONG_UNALIGNED);
      int[] raw = TokenMapFile.readRaw(map).map().toArray();
      assertArrayEquals(want, java.util.Arrays.stream(raw).asLongStream().toArray());
      assertArrayEquals(
          raw, TokenMapFile.read(directory.resolve("map.bin.engram")).map().toArray());
    }
  }

  @Test
  void compressReadsTheDeepSeekVocabulary() {
    Path tokenizer = Path.of(System.getProperty("engram.tokenizer", "absent"));
    assumeTrue(
        Files.isDirectory(tokenizer),
        () -> "skipped: -Dengram.tokenizer names no directory: " + tokenizer);
    Run run =
        Run.of(
            "compress",
            "--tokenizer",
            tokenizer.resolve("deepseek_base.tiktoken.gz").toString(),
            "--size",
            "129280",
            "--output",
            directory.resolve("map.bin").toString(),
            "--json");
    assertEquals(0, run.exitCode(), run.err());
    JsonObject json = JsonParser.parseString(run.out()).getAsJsonObject();
    assertEquals(99_092, json.get("compressed").getAsInt());
    assertEquals(
        "c60a86322ec17b4142bfef3c57a8d81fb428550cdf487f88a4320cb59fe46481",
        json.get("sha256Int32").getAsString());
  }

  @Test
  void optionsThatWouldBeIgnoredAreRefused() {
    Run run =
        Run.of(
            "compress",
            "--tokenizer",
            "cl100k_base",
            "--special",
            "absent",
            "--output",
            directory.resolve("m").toString());
    assertEquals(2, run.exitCode());
    assertTrue(run.err().contains("go with a tiktoken file"), run.err());
  }

  @Test
  void anUnknownTokenizerIsNamedWithWhatThereIs() {
    assertFailed(
        "cl100k_base",
        Run.of("compress", "--tokenizer", "gpt9", "--output", directory.resolve("m").toString()));
  }

  @Test
  void demoProvesThatDecodingIsTheSame() {
    Path page = directory.resolve("gates.html");
    Run run = Run.of("demo", "--quick", "--html", page.toString(), "--json");
    assertEquals(0, run.exitCode(), run.err());
    JsonObject json = JsonParser.parseString(run.out()).getAsJsonObject();
    assertTrue(json.get("decodeRowIdsEqual").getAsBoolean());
    assertTrue(json.get("decodeRowsEqual").getAsBoolean());
    assertTrue(json.get("decodeOutputsEqual").getAsBoolean());
    assertEquals(2, json.getAsJsonArray("accesses").size());
    assertTrue(Files.exists(page));
    JsonObject training = json.getAsJsonObject("training");
    JsonObject with = training.getAsJsonObject("with memory");
    JsonObject without = training.getAsJsonObject("without");
    assertEquals(
        with.get("parameters").getAsDouble(), without.get("parameters").getAsDouble(), 1_000);
    for (JsonObject model : List.of(with, without)) {
      JsonArray looks = model.getAsJsonArray("heldOut");
      assertTrue(
          model.get("heldOutLoss").getAsDouble()
              < looks.get(0).getAsJsonObject().get("loss").getAsDouble() - 0.5,
          model::toString);
    }
    assertTrue(training.has("memoryOffByKind"), training::toString);
    assertTrue(Files.exists(directory.resolve("gates-loss.svg")));
  }

  @Test
  void demoWalksThroughACheckpoint() throws IOException {
    Path text =
        Files.writeString(
            directory.resolve("text.txt"),
            "Only Alexander the Great could tame the horse Bucephalus.\n\nCAFÉ café Cafe\n");
    Run run =
        Run.of(
            "demo",
            "--checkpoint",
            Golden.path("v41_mini").toString(),
            "--text",
            text.toString(),
            "--html",
            directory.resolve("gates.html").toString());
    assertEquals(0, run.exitCode(), run.err());
    assertTrue(run.out().contains("outputs, bit for bit"), run.out());
    assertFailed(
        "has no tokenizer.json",
        Run.of("demo", "--checkpoint", Golden.path("qwen_mini").toString()));
  }

  @Test
  void benchPrefetchShowsEachTier() {
    Run run =
        Run.of(
            "bench",
            "prefetch",
            "--slots",
            "500",
            "--tokens",
            "1,4",
            "--rounds",
            "3",
            "--blocks",
            "16",
            "--block-millis",
            "0.05",
            "--tiers",
            "ram,mapped,buffered,drive");
    assertEquals(0, run.exitCode(), run.err());
    for (String tier : List.of("ram", "mapped", "buffered", "drive")) {
      assertEquals(
          2, run.out().lines().filter(line -> line.startsWith(tier + " ")).count(), run.out());
    }
  }
}
