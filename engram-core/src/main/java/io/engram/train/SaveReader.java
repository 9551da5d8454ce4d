// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import io.engram.EngramConfig;
import io.engram.EngramException;
import io.engram.EngramFormatException;
import io.engram.Tensor;
import io.engram.checkpoint.MemoryDescriptor;
import io.engram.checkpoint.NumberedSaves;
import io.engram.checkpoint.Safetensors;
import io.engram.checkpoint.SaveManifest;
import io.engram.checkpoint.TensorInfo;
import io.engram.store.FileRegion;
import io.engram.train.TrainingState.Section;
import io.engram.vocab.TokenMap;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.LongConsumer;
import java.util.zip.CRC32C;

/** Reads one save: verifies it, and fills memory from it. */
final class SaveReader {
  static final String CONFIG = "config.json";

  private static final int CHUNK = 1 << 20;

  private final Path directory;
  private final SaveManifest manifest;
  private final Map<String, SaveManifest.File> files = new LinkedHashMap<>();
  private final Map<String, Safetensors> tensors = new LinkedHashMap<>();
  private final MemorySegment buffer;

  private SaveReader(Path directory, SaveManifest manifest, Arena arena) {
    this.directory = directory;
    this.manifest = manifest;
    buffer = arena.allocate(CHUNK, 64);
    for (SaveManifest.File file : manifest.files()) {
      files.put(file.name(), file);
      Path path = directory.resolve(file.name());
      checkSize(path, file);
      if (file.tensors().isEmpty()) {
        checkWhole(path, file);
      } else {
        tensors.put(file.name(), opened(path, file, arena));
      }
    }
  }

  /** Opens a save: everything but the bytes of its tensors is verified. */
  static SaveReader open(Path directory, Arena arena) {
    Path save =
        NumberedSaves.last(directory)
            .orElseThrow(
                () -> new EngramFormatException(directory, "holds no save of a training run"));
    return new SaveReader(save, SaveManifest.read(save), arena);
  }

  Path directory() {
    return directory;
  }

  SaveManifest manifest() {
    return manifest;
  }

  /** The configuration of the memory, if the save has one. */
  Optional<EngramConfig> config() {
    return files.containsKey(CONFIG)
        ? Optional.of(MemoryDescriptor.read(directory.resolve(CONFIG)))
        : Optional.empty();
  }

  private static void checkSize(Path path, SaveManifest.File file) {
    try {
      long size = Files.size(path);
      if (size != file.bytes()) {
        throw new EngramFormatException(
            path, "has " + size + " bytes, expected " + file.bytes() + " as the manifest says");
      }
    } catch (NoSuchFileException e) {
      throw new EngramFormatException(path, "is missing, but the manifest names it", e);
    } catch (IOException e) {
      throw new EngramException(path + ": cannot be read: " + e, e);
    }
  }

  private static void checkWhole(Path path, SaveManifest.File file) {
    check(path, "its content", firstBytes(path, file.bytes()), file.crc32c());
  }

  private static int firstBytes(Path path, long count) {
    CRC32C crc = new CRC32C();
    try (InputStream in = Files.newInputStream(path)) {
      byte[] some = new byte[1 << 16];
      for (long left = count; left > 0; ) {
        int read = in.read(some, 0, (int) Math.min(some.length, left));
        if (read < 0) {
          throw new EngramFormatException(path, "ended " + left + " bytes too early");
        }
        crc.update(some, 0, read);
        left -= read;
      }
    } catch (IOException e) {
      throw new EngramException(path + ": cannot be read: " + e, e);
    }
    return (int) crc.getValue();
  }

  private static void check(Path path, String what, int found, int expected) {
    if (found != expected) {
      throw new EngramFormatException(
          path,
          "the crc32c of %s is %s, expected %s: the file has changed since it was saved; an earlier save may be whole"
              .formatted(what, SaveManifest.hex(found), SaveManifest.hex(expected)));
    }
  }

  private static Safetensors opened(Path path, SaveManifest.File file, Arena arena) {
    long payload = file.bytes();
    for (SaveManifest.Entry entry : file.tensors()) {
      payload -= Tensor.byteSize(entry.dtype(), sizes(entry.shape()));
    }
    if (payload < 0) {
      throw new EngramFormatException(
          path, "has " + file.bytes() + " bytes, fewer than its tensors take");
    }
    check(path, "its header", firstBytes(path, payload), file.crc32c());
    Safetensors opened = Safetensors.open(path, arena);
    for (SaveManifest.Entry entry : file.tensors()) {
      TensorInfo info = opened.info(entry.name());
      String found = info.dtype() + info.shape();
      if (!found.equals(entry.toString())) {
        throw new EngramFormatException(
            path,
            "the tensor "
                + entry.name()
                + " is "
                + found
                + ", expected "
                + entry
                + " as the manifest says");
      }
    }
    return opened;
  }

  private static long[] sizes(List<Long> shape) {
    return shape.stream().mapToLong(Long::longValue).toArray();
  }

  /** Verifies the bytes of all tensors. */
  void verify(LongConsumer progress) {
    long[] done = {0};
    for (SaveManifest.File file : manifest.files()) {
      for (SaveManifest.Entry entry : file.tensors()) {
        read(
            file.name(),
            entry,
            (at, chunk) -> {
              if (Thread.currentThread().isInterrupted()) {
                throw new EngramException(
                    directory + ": interrupted while it was verified; nothing has been changed");
              }
              done[0] += chunk.byteSize();
              progress.accept(done[0]);
            });
      }
    }
  }

  @FunctionalInterface
  private interface Chunks {
    void take(long at, MemorySegment chunk);
  }

  /** Hands out the bytes of a tensor in order, and refuses it at its end if they are not right. */
  private void read(String file, SaveManifest.Entry entry, Chunks chunks) {
    FileRegion region = tensors.get(file).region(entry.name());
    CRC32C crc = new CRC32C();
    long size = region.bytes().byteSize();
    for (long at = 0; at < size; at += CHUNK) {
      long count = Math.min(CHUNK, size - at);
      MemorySegment chunk = buffer.asSlice(0, count);
      new FileRegion(region.file(), region.offset() + at, region.bytes().asSlice(at, count))
          .copyTo(chunk, 0);
      crc.update(chunk.asByteBuffer());
      chunks.take(at, chunk);
    }
    check(region.file(), "the tensor " + entry.name(), (int) crc.getValue(), entry.crc32c());
  }

  private SaveManifest.Entry entry(String file, String name) {
    return files.get(file).tensors().stream()
        .filter(t -> t.name().equals(name))
        .findFirst()
        .orElseThrow();
  }

  /** Fills the memory of a section. */
  void fill(String file, Section section) {
    int[] part = {0};
    long[] inPart = {0};
    read(
        file,
        entry(file, section.name()),
        (_, chunk) -> {
          for (long done = 0; done < chunk.byteSize(); ) {
            MemorySegment to = section.parts().get(part[0]);
            long count = Math.min(chunk.byteSize() - done, to.byteSize() - inPart[0]);
            // Rows that were never touched take no memory, and shall not after this.
            if (MemorySegment.mismatch(chunk, done, done + count, to, inPart[0], inPart[0] + count)
                >= 0) {
              MemorySegment.copy(chunk, done, to, inPart[0], count);
            }
            done += count;
            inPart[0] += count;
            if (inPart[0] == to.byteSize()) {
              part[0]++;
              inPart[0] = 0;
            }
          }
        });
  }

  byte[] bytes(String file, SaveManifest.Entry entry) {
    byte[] bytes = new byte[Math.toIntExact(entry.shape().getFirst())];
    read(
        file,
        entry,
        (at, chunk) ->
            MemorySegment.copy(chunk, 0, MemorySegment.ofArray(bytes), at, chunk.byteSize()));
    return bytes;
  }

  /** Refuses a token map with other numbers: they would give the table's rows other meanings. */
  void requireTokenMap(TokenMap expected) {
    ValueLayout.OfInt int32 = ValueLayout.JAVA_INT_UNALIGNED.withOrder(ByteOrder.LITTLE_ENDIAN);
    String file = TrainingState.MEMORY;
    read(
        file,
        entry(file, MemoryDescriptor.TOKEN_MAP),
        (at, chunk) -> {
          for (long i = 0; i < chunk.byteSize(); i += Integer.BYTES) {
            int id = Math.toIntExact((at + i) / Integer.BYTES);
            int found = chunk.get(int32, i);
            if (found != expected.get(id)) {
              throw new EngramFormatException(
                  directory.resolve(file),
                  "the token map has "
                      + found
                      + " for token id "
                      + id
                      + ", expected "
                      + expected.get(id)
                      + ": it is that of another vocabulary");
            }
          }
        });
  }
}
