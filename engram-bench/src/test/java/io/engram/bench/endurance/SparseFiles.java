// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.endurance;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Safetensors files that are all hole, to be written in places. */
final class SparseFiles {
  private SparseFiles() {}

  /** A tensor of a header. */
  record Entry(String name, String dtype, List<Long> shape) {
    long bytes() {
      long bytes =
          switch (dtype) {
            case "F8_E4M3", "F8_E8M0" -> 1;
            case "BF16" -> 2;
            case "I64" -> 8;
            default -> throw new IllegalArgumentException(dtype);
          };
      for (long size : shape) {
        bytes = Math.multiplyExact(bytes, size);
      }
      return bytes;
    }
  }

  /** Whether files here take no room where nothing was written: asks {@code du} of a probe. */
  static boolean supported(Path directory) throws IOException, InterruptedException {
    Path probe = directory.resolve("probe");
    try {
      setLength(probe, 64 << 20);
      Process du =
          new ProcessBuilder("du", "-k", probe.toString()).redirectErrorStream(true).start();
      String said = new String(du.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
      return du.waitFor() == 0 && Long.parseLong(said.split("\\s", -1)[0]) < 1024;
    } catch (IOException | NumberFormatException e) {
      return false;
    } finally {
      Files.deleteIfExists(probe);
    }
  }

  /** Room that files really take. */
  static long allocated(Path directory) throws IOException, InterruptedException {
    Process du = new ProcessBuilder("du", "-sk", directory.toString()).start();
    String said = new String(du.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    du.waitFor();
    return 1024 * Long.parseLong(said.split("\\s", -1)[0]);
  }

  private static void setLength(Path file, long length) throws IOException {
    try (FileChannel channel =
        FileChannel.open(
            file,
            StandardOpenOption.CREATE_NEW,
            StandardOpenOption.WRITE,
            StandardOpenOption.SPARSE)) {
      channel.write(ByteBuffer.allocate(1), length - 1);
    }
  }

  /**
   * Makes a file with a header of at least so many bytes.
   *
   * @return where in the file each tensor starts
   */
  static Map<String, Long> create(Path file, int headerBytes, List<Entry> entries)
      throws IOException {
    StringBuilder json = new StringBuilder("{");
    long at = 0;
    for (Entry entry : entries) {
      json.append(at == 0 ? "" : ",")
          .append('"')
          .append(entry.name())
          .append("\":{\"dtype\":\"")
          .append(entry.dtype())
          .append("\",\"shape\":")
          .append(entry.shape().toString().replace(" ", ""))
          .append(",\"data_offsets\":[")
          .append(at)
          .append(',')
          .append(at += entry.bytes())
          .append("]}");
    }
    json.append('}');
    while (json.length() < headerBytes || json.length() % 8 != 0) {
      json.append(' ');
    }
    setLength(file, 8 + json.length() + at);
    try (FileChannel channel = FileChannel.open(file, StandardOpenOption.WRITE)) {
      ByteBuffer header =
          ByteBuffer.allocate(8 + json.length())
              .order(ByteOrder.LITTLE_ENDIAN)
              .putLong(json.length())
              .put(json.toString().getBytes(StandardCharsets.US_ASCII))
              .flip();
      channel.write(header, 0);
    }
    Map<String, Long> starts = new LinkedHashMap<>();
    long start = 8L + json.length();
    for (Entry entry : entries) {
      starts.put(entry.name(), start);
      start += entry.bytes();
    }
    return starts;
  }

  static ByteBuffer longs(long... values) {
    ByteBuffer bytes = ByteBuffer.allocate(8 * values.length).order(ByteOrder.LITTLE_ENDIAN);
    for (long value : values) {
      bytes.putLong(value);
    }
    return bytes.flip();
  }

  static long[] readLongs(Path file) throws IOException {
    ByteBuffer bytes = ByteBuffer.wrap(Files.readAllBytes(file)).order(ByteOrder.LITTLE_ENDIAN);
    long[] values = new long[bytes.remaining() / 8];
    bytes.asLongBuffer().get(values);
    return values;
  }

  static void writeLongs(Path file, long... values) throws IOException {
    Files.write(file, longs(values).array());
  }
}
