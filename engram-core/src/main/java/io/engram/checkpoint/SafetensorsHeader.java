// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import io.engram.EngramFormatException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.Set;

/**
 * The header of a safetensors file: 8 bytes of little-endian length, then JSON.
 *
 * @param tensors the tensors in the order of their bytes
 * @param metadata the texts under {@code __metadata__}
 */
record SafetensorsHeader(Map<String, TensorInfo> tensors, Map<String, String> metadata) {
  static final String METADATA = "__metadata__";
  static final int LENGTH_BYTES = 8;

  /** The reference's own limit. */
  static final int LARGEST = 100_000_000;

  /** What numpy and PyTorch can represent; it bounds the memory that a header turns into. */
  static final int MOST_DIMENSIONS = 64;

  /**
   * Reads and checks the header.
   *
   * @param file named in messages
   * @param channel the file
   * @param fileSize bytes of the file
   * @throws EngramFormatException if anything in it is wrong
   */
  static SafetensorsHeader read(Path file, FileChannel channel, long fileSize) throws IOException {
    if (fileSize < LENGTH_BYTES) {
      throw new EngramFormatException(
          file, "a safetensors file has at least 8 bytes, this one has " + fileSize);
    }
    long length = bytes(file, channel, 0, LENGTH_BYTES).getLong();
    if (length < 0 || length > LARGEST) {
      throw new EngramFormatException(
          file,
          "the header is said to take "
              + Long.toUnsignedString(length)
              + " bytes, expected at most "
              + LARGEST);
    }
    if (length > fileSize - LENGTH_BYTES) {
      throw new EngramFormatException(
          file,
          "the header is said to take "
              + length
              + " bytes, but only "
              + (fileSize - LENGTH_BYTES)
              + " follow its length");
    }
    if (length == 0 || bytes(file, channel, LENGTH_BYTES, 1).get() != '{') {
      throw new EngramFormatException(file, "the header does not start with '{'");
    }
    long begin = LENGTH_BYTES + length;
    return StrictJson.read(
        file,
        "the header",
        new HeaderBytes(file, channel, begin),
        json -> parse(json, begin, fileSize));
  }

  private static ByteBuffer bytes(Path file, FileChannel channel, long position, int count)
      throws IOException {
    ByteBuffer buffer = ByteBuffer.allocate(count).order(ByteOrder.LITTLE_ENDIAN);
    while (buffer.hasRemaining()) {
      if (channel.read(buffer, position + buffer.position()) < 0) {
        throw new EngramFormatException(file, "the file became shorter while it was read");
      }
    }
    return buffer.flip();
  }

  /** The header's bytes in pieces: a file that only claims a large header costs no memory. */
  private static final class HeaderBytes extends InputStream {
    private static final int PIECE = 1 << 16;

    private final Path file;
    private final FileChannel channel;
    private final long end;
    private long position = LENGTH_BYTES;

    HeaderBytes(Path file, FileChannel channel, long end) {
      this.file = file;
      this.channel = channel;
      this.end = end;
    }

    @Override
    public int read() throws IOException {
      byte[] one = new byte[1];
      return read(one, 0, 1) < 0 ? -1 : one[0] & 0xFF;
    }

    @Override
    public int read(byte[] out, int offset, int length) throws IOException {
      int count = (int) Math.min(Math.min(length, PIECE), end - position);
      if (count == 0) {
        return length == 0 ? 0 : -1;
      }
      bytes(file, channel, position, count).get(out, offset, count);
      position += count;
      return count;
    }
  }

  private static SafetensorsHeader parse(StrictJson json, long begin, long fileSize)
      throws IOException {
    List<TensorInfo> tensors = new ArrayList<>();
    Set<String> names = new HashSet<>();
    Map<String, String> metadata = new LinkedHashMap<>();
    json.beginObject("the header");
    while (json.hasNext()) {
      String name = json.name();
      if (!names.add(name)) {
        throw json.bad("the name " + Names.quote(name) + " occurs twice");
      }
      if (name.equals(METADATA)) {
        readMetadata(json, metadata);
      } else {
        tensors.add(readTensor(json, name, begin, fileSize));
      }
    }
    json.endObject();
    tensors.sort(Comparator.comparingLong(TensorInfo::begin).thenComparingLong(TensorInfo::end));
    checkCover(json, tensors, begin, fileSize);
    Map<String, TensorInfo> byName = LinkedHashMap.newLinkedHashMap(tensors.size());
    tensors.forEach(t -> byName.put(t.name(), t));
    return new SafetensorsHeader(
        Collections.unmodifiableMap(byName), Collections.unmodifiableMap(metadata));
  }

  private static void readMetadata(StrictJson json, Map<String, String> metadata)
      throws IOException {
    json.beginObject(METADATA);
    while (json.hasNext()) {
      String key = json.name();
      if (metadata.put(key, json.string(METADATA)) != null) {
        throw json.bad("the metadata key " + Names.quote(key) + " occurs twice");
      }
    }
    json.endObject();
  }

  private static TensorInfo readTensor(StrictJson json, String name, long begin, long fileSize)
      throws IOException {
    String dtype = null;
    List<Long> shape = null;
    List<Long> offsets = null;
    String quoted = Names.quote(name);
    json.beginObject(quoted);
    while (json.hasNext()) {
      String key = json.name();
      boolean again;
      switch (key) {
        case "dtype" -> {
          again = dtype != null;
          dtype = json.string("dtype");
        }
        case "shape" -> {
          again = shape != null;
          shape = readSizes(json, "shape", MOST_DIMENSIONS);
        }
        case "data_offsets" -> {
          again = offsets != null;
          offsets = readSizes(json, "data_offsets", 2);
        }
        default ->
            throw json.bad(
                quoted
                    + " has the key "
                    + Names.quote(key)
                    + ", expected dtype, shape and data_offsets only");
      }
      if (again) {
        throw json.bad(quoted + " has the key " + key + " twice");
      }
    }
    json.endObject();
    if (dtype == null || shape == null || offsets == null) {
      throw json.bad(
          quoted
              + " has no "
              + (dtype == null ? "dtype" : shape == null ? "shape" : "data_offsets"));
    }
    if (offsets.size() != 2) {
      throw json.bad(quoted + " has " + offsets.size() + " data_offsets, expected 2");
    }
    long first = offsets.get(0);
    long last = offsets.get(1);
    if (first > last || last > fileSize - begin) {
      throw json.bad(
          quoted
              + " is said to be bytes "
              + first
              + " to "
              + last
              + " of a payload of "
              + (fileSize - begin)
              + " bytes");
    }
    checkSize(json, quoted, dtype, shape, last - first);
    return new TensorInfo(name, dtype, shape, begin + first, begin + last);
  }

  private static List<Long> readSizes(StrictJson json, String what, int most) throws IOException {
    List<Long> sizes = new ArrayList<>();
    json.beginArray(what);
    while (json.hasNext()) {
      if (sizes.size() == most) {
        throw json.bad(what + " has more than " + most + " numbers");
      }
      sizes.add(json.size(what));
    }
    json.endArray();
    return sizes;
  }

  private static void checkSize(
      StrictJson json, String quoted, String dtype, List<Long> shape, long bytes) {
    OptionalInt bits = bits(dtype);
    if (bits.isEmpty()) {
      // A type from after this library's time: nothing to check its size against, and nobody can
      // ask for it.
      return;
    }
    long expected = 0;
    if (!shape.contains(0L)) {
      try {
        expected = bits.getAsInt();
        for (long size : shape) {
          expected = Math.multiplyExact(expected, size);
        }
      } catch (ArithmeticException e) {
        throw json.bad(quoted + ": " + dtype + shape + " overflows 64 bits");
      }
    }
    if (expected % Byte.SIZE != 0 || expected / Byte.SIZE != bytes) {
      throw json.bad(
          quoted
              + ": "
              + dtype
              + shape
              + " takes "
              + expected
              + " bits, but its data_offsets span "
              + bytes
              + " bytes");
    }
  }

  /** Bits of an element of every type that the format has had so far. */
  private static OptionalInt bits(String dtype) {
    return switch (dtype) {
      case "F4" -> OptionalInt.of(4);
      case "F6_E2M3", "F6_E3M2" -> OptionalInt.of(6);
      case "BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ" ->
          OptionalInt.of(8);
      case "U16", "I16", "F16", "BF16" -> OptionalInt.of(16);
      case "U32", "I32", "F32" -> OptionalInt.of(32);
      case "U64", "I64", "F64", "C64" -> OptionalInt.of(64);
      default -> OptionalInt.empty();
    };
  }

  /** As the reference does: every byte of the payload belongs to exactly one tensor. */
  private static void checkCover(
      StrictJson json, List<TensorInfo> tensors, long begin, long fileSize) {
    long covered = begin;
    String before = "the header";
    for (TensorInfo tensor : tensors) {
      String quoted = Names.quote(tensor.name());
      if (tensor.begin() < covered) {
        throw json.bad(quoted + " overlaps " + before);
      }
      if (tensor.begin() > covered) {
        throw json.bad(
            (tensor.begin() - covered)
                + " bytes between "
                + before
                + " and "
                + quoted
                + " belong to no tensor");
      }
      covered = tensor.end();
      before = quoted;
    }
    if (covered != fileSize) {
      throw json.bad(
          "the payload has "
              + (fileSize - covered)
              + " bytes after "
              + before
              + " that belong to no tensor");
    }
  }
}
