// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import com.google.gson.GsonBuilder;
import com.google.gson.JsonObject;
import io.engram.EngramConfig;
import io.engram.EngramException;
import io.engram.checkpoint.CheckpointTensors;
import io.engram.checkpoint.MemoryDescriptor;
import io.engram.checkpoint.SafetensorsWriter;
import io.engram.checkpoint.SaveManifest;
import io.engram.train.TrainingState.Section;
import java.io.IOException;
import java.io.InputStream;
import java.lang.foreign.MemorySegment;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.function.LongConsumer;
import java.util.zip.CRC32C;

/** Writes the files of one save and sums up what it writes. */
final class SaveWriter {
  private final Path directory;
  private final LongConsumer progress;
  private final List<SaveManifest.File> files = new ArrayList<>();
  private long written;

  SaveWriter(Path directory, LongConsumer progress) {
    this.directory = directory;
    this.progress = progress;
  }

  /** What makes the save a checkpoint: the descriptor, and where its tensors are. */
  void describe(EngramConfig config, Map<String, List<Section>> contents) {
    JsonObject index = new JsonObject();
    JsonObject map = new JsonObject();
    contents.forEach((file, sections) -> {
      if (file.equals(TrainingState.MEMORY) || file.startsWith("table-")) {
        sections.forEach(section -> map.addProperty(section.name(), file));
      }
    });
    index.add("metadata", new JsonObject());
    index.add("weight_map", map);
    text(SaveReader.CONFIG, MemoryDescriptor.json(config));
    text(
        CheckpointTensors.INDEX,
        new GsonBuilder().setPrettyPrinting().disableHtmlEscaping().create().toJson(index) + "\n");
  }

  private void text(String name, String text) {
    byte[] bytes = text.getBytes(StandardCharsets.UTF_8);
    try {
      Files.write(directory.resolve(name), bytes);
    } catch (IOException e) {
      throw new EngramException(directory.resolve(name) + ": cannot be written: " + e, e);
    }
    files.add(new SaveManifest.File(name, bytes.length, crc32c(bytes), List.of()));
  }

  void write(String name, List<Section> sections) {
    SafetensorsWriter writer = new SafetensorsWriter();
    List<Summed> summed = new ArrayList<>();
    for (Section section : sections) {
      Summed bytes = new Summed(section);
      summed.add(bytes);
      writer.add(section.name(), section.dtype(), section.sizes(), bytes);
    }
    Path file = directory.resolve(name);
    writer.write(file);
    try {
      List<SaveManifest.Entry> entries = new ArrayList<>();
      for (Summed each : summed) {
        entries.add(entry(each.section, (int) each.crc.getValue()));
      }
      files.add(new SaveManifest.File(name, Files.size(file), header(file), entries));
    } catch (IOException e) {
      throw new EngramException(file + ": cannot be read back: " + e, e);
    }
  }

  static SaveManifest.Entry entry(Section section, int crc32c) {
    return new SaveManifest.Entry(section.name(), section.dtype(), section.shape(), crc32c);
  }

  private static int header(Path file) throws IOException {
    try (InputStream in = Files.newInputStream(file)) {
      byte[] length = in.readNBytes(Long.BYTES);
      long rest = ByteBuffer.wrap(length).order(ByteOrder.LITTLE_ENDIAN).getLong();
      CRC32C crc = new CRC32C();
      crc.update(length);
      crc.update(in.readNBytes(Math.toIntExact(rest)));
      return (int) crc.getValue();
    }
  }

  SaveManifest manifest(TrainingState state) {
    return new SaveManifest(
        state.step(),
        files,
        state.optimizers().entrySet().stream()
            .map(e ->
                new SaveManifest.Optimizer(
                    e.getKey(),
                    e.getValue().name(),
                    e.getValue().steps(),
                    e.getValue().learningRate()))
            .toList());
  }

  private static int crc32c(byte[] bytes) {
    CRC32C crc = new CRC32C();
    crc.update(bytes, 0, bytes.length);
    return (int) crc.getValue();
  }

  /** Hands out the bytes of a section and sums up exactly what it handed out. */
  private final class Summed implements SafetensorsWriter.Bytes {
    private final Section section;
    private final CRC32C crc = new CRC32C();
    private int part;
    private long at;

    Summed(Section section) {
      this.section = section;
    }

    @Override
    public void read(long offset, MemorySegment out) {
      if (Thread.currentThread().isInterrupted()) {
        throw new EngramException("interrupted while " + section.name() + " was written");
      }
      long done = 0;
      while (done < out.byteSize()) {
        MemorySegment from = section.parts().get(part);
        long count = Math.min(out.byteSize() - done, from.byteSize() - at);
        MemorySegment.copy(from, at, out, done, count);
        done += count;
        at += count;
        if (at == from.byteSize()) {
          part++;
          at = 0;
        }
      }
      crc.update(out.asByteBuffer());
      written += out.byteSize();
      progress.accept(written);
    }
  }
}
