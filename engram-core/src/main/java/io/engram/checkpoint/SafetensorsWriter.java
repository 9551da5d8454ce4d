// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import com.google.gson.FormattingStyle;
import com.google.gson.Strictness;
import com.google.gson.stream.JsonWriter;
import io.engram.Dtype;
import io.engram.EngramException;
import io.engram.Tensor;
import java.io.IOException;
import java.io.StringWriter;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.Collection;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Optional;
import java.util.UUID;

/**
 * Writes one safetensors file.
 *
 * <p>The payload starts at a multiple of 8 bytes, and tensors with larger elements come first, so
 * that every tensor is aligned to its own elements without the holes that the format forbids; apart
 * from that they keep the order in which they were added.
 *
 * <p>Not thread-safe.
 */
public final class SafetensorsWriter {
  private static final int ALIGNMENT = 8;
  private static final int CHUNK = 1 << 20;

  private final Map<String, Entry> entries = new LinkedHashMap<>();
  private final Map<String, String> metadata = new LinkedHashMap<>();

  private record Entry(
      String name,
      Dtype dtype,
      List<Long> shape,
      long byteSize,
      List<MemorySegment> parts,
      Optional<Bytes> made) {}

  /** Bytes of a tensor that come into being while they are written. */
  @FunctionalInterface
  public interface Bytes {
    /**
     * Gives some of the bytes. They are asked for in order.
     *
     * @param offset position of the first byte in the tensor
     * @param out takes as many bytes as it has
     */
    void read(long offset, MemorySegment out);
  }

  /** A file without tensors so far. */
  public SafetensorsWriter() {}

  /**
   * Adds a text to {@code __metadata__}.
   *
   * @param key its key, not used before
   * @param value the text
   * @return this writer
   * @throws IllegalArgumentException if the key was used before
   */
  public SafetensorsWriter metadata(String key, String value) {
    checkText(key);
    checkText(value);
    if (metadata.putIfAbsent(key, value) != null) {
      throw new IllegalArgumentException("metadata key " + Names.quote(key) + " is added twice");
    }
    return this;
  }

  /**
   * Adds a tensor. Its memory is read by {@link #write}.
   *
   * @param name its name, not used before
   * @param tensor the tensor
   * @return this writer
   * @throws IllegalArgumentException if the name was used before or cannot be written
   */
  public SafetensorsWriter add(String name, Tensor tensor) {
    return add(name, tensor.dtype(), tensor.shape(), List.of(tensor.data()));
  }

  /**
   * Adds a tensor whose bytes lie in several places, such as the shards of a table. They are read
   * by {@link #write}.
   *
   * @param name its name, not used before
   * @param dtype element type
   * @param shape sizes, outermost first
   * @param parts the bytes: all of the first part, then all of the second, and so on
   * @return this writer
   * @throws IllegalArgumentException if the name was used before or cannot be written, or the parts
   *     do not have as many bytes as dtype and shape say
   */
  public SafetensorsWriter add(String name, Dtype dtype, long[] shape, List<MemorySegment> parts) {
    checkName(name, shape);
    long bytes = Tensor.byteSize(dtype, shape);
    long found = 0;
    for (MemorySegment part : parts) {
      found = Math.addExact(found, part.byteSize());
    }
    if (found != bytes) {
      throw new IllegalArgumentException(
          Names.quote(name)
              + ": "
              + dtype
              + Arrays.toString(shape)
              + " takes "
              + bytes
              + " bytes, its parts have "
              + found);
    }
    return add(new Entry(name, dtype, sizes(shape), bytes, List.copyOf(parts), Optional.empty()));
  }

  /**
   * Adds a tensor whose bytes are made while they are written, by {@link #write}: one that does not
   * fit memory and lies nowhere as it is.
   *
   * @param name its name, not used before
   * @param dtype element type
   * @param shape sizes, outermost first
   * @param bytes gives the bytes
   * @return this writer
   * @throws IllegalArgumentException if the name was used before or cannot be written
   */
  public SafetensorsWriter add(String name, Dtype dtype, long[] shape, Bytes bytes) {
    checkName(name, shape);
    return add(
        new Entry(
            name,
            dtype,
            sizes(shape),
            Tensor.byteSize(dtype, shape),
            List.of(),
            Optional.of(bytes)));
  }

  private SafetensorsWriter add(Entry entry) {
    if (entries.putIfAbsent(entry.name(), entry) != null) {
      throw new IllegalArgumentException(
          "the tensor " + Names.quote(entry.name()) + " is added twice");
    }
    return this;
  }

  private static List<Long> sizes(long[] shape) {
    return Arrays.stream(shape).boxed().toList();
  }

  private static void checkName(String name, long[] shape) {
    checkText(name);
    if (name.equals(SafetensorsHeader.METADATA)) {
      throw new IllegalArgumentException(name + " is no name for a tensor");
    }
    if (shape.length > SafetensorsHeader.MOST_DIMENSIONS) {
      throw new IllegalArgumentException(
          Names.quote(name)
              + " has "
              + shape.length
              + " dimensions, expected at most "
              + SafetensorsHeader.MOST_DIMENSIONS);
    }
  }

  private static void checkText(String text) {
    if (!Names.isWellFormed(text)) {
      throw new IllegalArgumentException(Names.quote(text) + " has half a surrogate pair");
    }
  }

  /**
   * Writes the file: to a temporary one beside it, which is forced to the disk and then takes the
   * name in one step. Whoever has the old file mapped keeps the old bytes.
   *
   * @param file the file; replaced if it is there
   * @throws EngramException if it cannot be written; nothing is left behind, and an old file is
   *     untouched
   * @throws IllegalArgumentException if the header would be larger than the format allows
   */
  public void write(Path file) {
    List<Entry> ordered =
        entries.values().stream()
            .sorted(Comparator.comparingInt((Entry e) -> e.dtype().bytes()).reversed())
            .toList();
    ByteBuffer header = header(ordered);
    Path name = Objects.requireNonNull(file.getFileName(), "file name");
    Path temporary = file.resolveSibling("." + name + "." + UUID.randomUUID() + ".tmp");
    try {
      try {
        write(temporary, header, ordered);
        Files.move(
            temporary, file, StandardCopyOption.ATOMIC_MOVE, StandardCopyOption.REPLACE_EXISTING);
      } finally {
        Files.deleteIfExists(temporary);
      }
    } catch (IOException e) {
      throw new EngramException(file + ": cannot be written: " + e, e);
    }
  }

  private static void write(Path file, ByteBuffer header, Collection<Entry> entries)
      throws IOException {
    try (FileChannel channel =
        FileChannel.open(file, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
      writeFully(channel, header);
      for (Entry entry : entries) {
        for (MemorySegment part : entry.parts()) {
          for (long at = 0; at < part.byteSize(); at += CHUNK) {
            long bytes = Math.min(CHUNK, part.byteSize() - at);
            writeFully(channel, buffer(part.asSlice(at, bytes)));
          }
        }
        if (entry.made().isPresent()) {
          writeMade(channel, entry.byteSize(), entry.made().get());
        }
      }
      channel.force(true);
    }
  }

  private static void writeMade(FileChannel channel, long byteSize, Bytes made) throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      MemorySegment buffer = arena.allocate(CHUNK);
      for (long at = 0; at < byteSize; at += CHUNK) {
        MemorySegment chunk = buffer.asSlice(0, Math.min(CHUNK, byteSize - at));
        made.read(at, chunk);
        writeFully(channel, chunk.asByteBuffer());
      }
    }
  }

  /** Arrays of anything but bytes cannot be seen as a buffer of bytes. */
  private static ByteBuffer buffer(MemorySegment bytes) {
    return bytes.isNative()
        ? bytes.asByteBuffer()
        : ByteBuffer.wrap(bytes.toArray(ValueLayout.JAVA_BYTE));
  }

  private static void writeFully(FileChannel channel, ByteBuffer bytes) throws IOException {
    while (bytes.hasRemaining()) {
      channel.write(bytes);
    }
  }

  private ByteBuffer header(Collection<Entry> ordered) {
    StringWriter text = new StringWriter();
    try (JsonWriter json = new JsonWriter(text)) {
      json.setStrictness(Strictness.STRICT);
      json.setHtmlSafe(false);
      json.setFormattingStyle(FormattingStyle.COMPACT);
      json.beginObject();
      if (!metadata.isEmpty()) {
        json.name(SafetensorsHeader.METADATA).beginObject();
        for (Map.Entry<String, String> entry : metadata.entrySet()) {
          json.name(entry.getKey()).value(entry.getValue());
        }
        json.endObject();
      }
      long at = 0;
      for (Entry entry : ordered) {
        json.name(entry.name()).beginObject();
        json.name("dtype").value(entry.dtype().name());
        json.name("shape").beginArray();
        for (long size : entry.shape()) {
          json.value(size);
        }
        json.endArray();
        json.name("data_offsets").beginArray().value(at);
        at = Math.addExact(at, entry.byteSize());
        json.value(at).endArray();
        json.endObject();
      }
      json.endObject();
    } catch (IOException e) {
      throw new AssertionError("a string writer does not fail", e);
    }
    byte[] utf8 = text.toString().getBytes(StandardCharsets.UTF_8);
    int padded = Math.ceilDiv(utf8.length, ALIGNMENT) * ALIGNMENT;
    if (padded > SafetensorsHeader.LARGEST) {
      throw new IllegalArgumentException(
          "the header takes " + padded + " bytes, expected at most " + SafetensorsHeader.LARGEST);
    }
    ByteBuffer header =
        ByteBuffer.allocate(SafetensorsHeader.LENGTH_BYTES + padded)
            .order(ByteOrder.LITTLE_ENDIAN)
            .putLong(padded)
            .put(utf8);
    while (header.hasRemaining()) {
      header.put((byte) ' ');
    }
    return header.flip();
  }
}
