// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import io.engram.Dtype;
import io.engram.EngramException;
import io.engram.EngramFormatException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.List;
import java.util.Objects;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.zip.CRC32C;

/**
 * What one save of a training run consists of: its step, its files with the checksums of all that
 * is in them, and how far its optimisers were. It is written last, and carries a checksum of itself
 * ({@code crc32c}, computed with eight zeros in its place).
 *
 * @param step the step of the run, as its owner counts
 * @param files all files but this one
 * @param optimizers the optimisers of the tables
 */
public record SaveManifest(long step, List<File> files, List<Optimizer> optimizers) {
  /** Its name in the save. */
  public static final String FILE = "manifest.json";

  private static final String FORMAT = "engram-training";
  private static final int VERSION = 1;
  private static final long MOST_BYTES = 64L << 20;
  private static final Pattern CHECKSUM = Pattern.compile("\"crc32c\": \"([0-9a-f]{8})\"");

  /**
   * A file.
   *
   * @param name its name in the save
   * @param bytes its length
   * @param crc32c checksum of the bytes that are in no tensor: the header of a safetensors file,
   *     the whole of any other
   * @param tensors the tensors of a safetensors file
   */
  public record File(String name, long bytes, int crc32c, List<Entry> tensors) {
    /** Copies the list. */
    public File {
      Objects.requireNonNull(name, "name");
      tensors = List.copyOf(tensors);
    }
  }

  /**
   * A tensor.
   *
   * @param name its name
   * @param dtype element type
   * @param shape sizes, outermost first
   * @param crc32c checksum of its bytes
   */
  public record Entry(String name, Dtype dtype, List<Long> shape, int crc32c) {
    /** Copies the list. */
    public Entry {
      Objects.requireNonNull(name, "name");
      Objects.requireNonNull(dtype, "dtype");
      shape = List.copyOf(shape);
    }

    @Override
    public String toString() {
      return dtype + shape.toString();
    }
  }

  /**
   * An optimiser of a table.
   *
   * @param layer the layer whose table it trains
   * @param name which kind it is
   * @param steps steps it has made
   * @param learningRate its learning rate
   */
  public record Optimizer(int layer, String name, long steps, double learningRate) {
    /** Refuses null. */
    public Optimizer {
      Objects.requireNonNull(name, "name");
    }
  }

  /** Copies the lists. */
  public SaveManifest {
    files = List.copyOf(files);
    optimizers = List.copyOf(optimizers);
  }

  /**
   * Writes the manifest of a save.
   *
   * @param directory the save
   * @throws IOException if it cannot be written
   */
  public void write(Path directory) throws IOException {
    JsonObject root = new JsonObject();
    root.addProperty("crc32c", hex(0));
    root.addProperty("format", FORMAT);
    root.addProperty("version", VERSION);
    root.addProperty("step", Long.toString(step));
    JsonArray trained = new JsonArray();
    for (Optimizer each : optimizers) {
      JsonObject object = new JsonObject();
      object.addProperty("layer", each.layer());
      object.addProperty("name", each.name());
      object.addProperty("steps", Long.toString(each.steps()));
      object.addProperty("learning_rate", each.learningRate());
      trained.add(object);
    }
    root.add("optimizers", trained);
    JsonArray listed = new JsonArray();
    for (File file : files) {
      JsonObject object = new JsonObject();
      object.addProperty("name", file.name());
      object.addProperty("bytes", file.bytes());
      object.addProperty("crc32c", hex(file.crc32c()));
      JsonArray tensors = new JsonArray();
      for (Entry entry : file.tensors()) {
        JsonObject tensor = new JsonObject();
        tensor.addProperty("name", entry.name());
        tensor.addProperty("dtype", entry.dtype().name());
        JsonArray shape = new JsonArray();
        entry.shape().forEach(shape::add);
        tensor.add("shape", shape);
        tensor.addProperty("crc32c", hex(entry.crc32c()));
        tensors.add(tensor);
      }
      object.add("tensors", tensors);
      listed.add(object);
    }
    root.add("files", listed);
    String text =
        new GsonBuilder().setPrettyPrinting().disableHtmlEscaping().create().toJson(root) + "\n";
    String zeros = "\"crc32c\": \"" + hex(0) + "\"";
    String summed = "\"crc32c\": \"" + hex(crc32c(text.getBytes(StandardCharsets.UTF_8))) + "\"";
    Files.writeString(directory.resolve(FILE), text.replaceFirst(Pattern.quote(zeros), summed));
  }

  /**
   * Reads the manifest of a save.
   *
   * @param directory the save
   * @return what it says
   * @throws EngramFormatException if it is missing, a byte of it has changed, or it is of another
   *     format
   * @throws EngramException if it cannot be read
   */
  public static SaveManifest read(Path directory) {
    Path file = directory.resolve(FILE);
    checkSelf(file);
    try {
      return parse(ConfigJson.read(file));
    } catch (IllegalArgumentException e) {
      throw new EngramFormatException(file, e.getMessage(), e);
    }
  }

  private static void checkSelf(Path file) {
    String text;
    try {
      long size = Files.size(file);
      if (size > MOST_BYTES) {
        throw new EngramFormatException(
            file, "has " + size + " bytes, expected at most " + MOST_BYTES);
      }
      // One character for each byte, so that no byte is lost before the checksum is known to hold.
      text = new String(Files.readAllBytes(file), StandardCharsets.ISO_8859_1);
    } catch (NoSuchFileException e) {
      throw new EngramFormatException(file, "is missing, so this is no save", e);
    } catch (IOException e) {
      throw new EngramException(file + ": cannot be read: " + e, e);
    }
    Matcher stored = CHECKSUM.matcher(text);
    if (!stored.find()) {
      throw new EngramFormatException(file, "has no crc32c of itself, so this is no save");
    }
    String zeroed = text.substring(0, stored.start(1)) + hex(0) + text.substring(stored.end(1));
    String found = hex(crc32c(zeroed.getBytes(StandardCharsets.ISO_8859_1)));
    if (!found.equals(stored.group(1))) {
      throw new EngramFormatException(
          file,
          "its crc32c is " + found + ", expected " + stored.group(1) + ": the file has changed");
    }
  }

  private static SaveManifest parse(ConfigJson json) {
    if (!json.string("format").equals(FORMAT)) {
      throw json.problem(
          "format", "is " + Names.quote(json.string("format")) + ", expected " + FORMAT);
    }
    if (json.integer("version") != VERSION) {
      throw json.problem(
          "version",
          "is " + json.integer("version") + ", expected " + VERSION + ": another release wrote it");
    }
    return new SaveManifest(
        json.decimal64("step"),
        json.objects("files").stream().map(SaveManifest::file).toList(),
        json.objects("optimizers").stream()
            .map(o ->
                new Optimizer(
                    o.integer("layer"),
                    o.string("name"),
                    o.decimal64("steps"),
                    o.real64("learning_rate")))
            .toList());
  }

  private static File file(ConfigJson json) {
    String name = json.string("name");
    if (!CheckpointTensors.isFileName(name)) {
      throw json.problem("name", "is " + Names.quote(name) + ", expected a plain file name");
    }
    return new File(
        name,
        json.integer64("bytes"),
        checksum(json),
        json.objects("tensors").stream()
            .map(t ->
                new Entry(
                    t.string("name"),
                    t.constant("dtype", Dtype.class),
                    t.integers64("shape"),
                    checksum(t)))
            .toList());
  }

  private static int checksum(ConfigJson json) {
    String text = json.string("crc32c");
    if (!text.matches("[0-9a-f]{8}")) {
      throw json.problem("crc32c", "is " + Names.quote(text) + ", expected 8 hexadecimal digits");
    }
    return Integer.parseUnsignedInt(text, 16);
  }

  /**
   * A checksum as people read it.
   *
   * @param crc32c a CRC-32C
   * @return 8 hexadecimal digits
   */
  public static String hex(int crc32c) {
    return "%08x".formatted(crc32c);
  }

  private static int crc32c(byte[] bytes) {
    CRC32C crc = new CRC32C();
    crc.update(bytes, 0, bytes.length);
    return (int) crc.getValue();
  }
}
