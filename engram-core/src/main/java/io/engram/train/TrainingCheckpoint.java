// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import io.engram.Dtype;
import io.engram.EngramConfig;
import io.engram.EngramException;
import io.engram.EngramFormatException;
import io.engram.checkpoint.MemoryDescriptor;
import io.engram.checkpoint.NumberedSaves;
import io.engram.checkpoint.SaveManifest;
import io.engram.checkpoint.StagedDirectory;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.function.LongConsumer;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Saves training runs, and restores them to the bit.
 *
 * <p>A run has a directory, and each save a numbered one in it. A save is written under another
 * name, forced to the disk, and takes its own name in one step; older ones are taken away after
 * that. Whatever ends a save, a kill, a power cut, a full disk, an interrupt, an exception of the
 * caller's listener: the last complete save is there and untouched, and the next save removes what
 * was left. Every byte of a save is covered by a CRC-32C, which restoring verifies before it
 * changes anything.
 *
 * <p>The files are safetensors and JSON; a save that has a memory is opened by {@link
 * io.engram.EngramMemory#open(Path)} as well.
 */
public final class TrainingCheckpoint {
  private static final Logger LOG = LoggerFactory.getLogger(TrainingCheckpoint.class);

  /** Saves that stay: should the last one be damaged by a failing disk, there is one before it. */
  public static final int KEPT = 2;

  private TrainingCheckpoint() {}

  /**
   * What was restored beside the objects of the state.
   *
   * @param directory the save
   * @param step the step at which it was made
   * @param bytes the caller's bytes, by name
   */
  public record Restored(Path directory, long step, Map<String, byte[]> bytes) {
    /** Copies the map. */
    public Restored {
      bytes = Map.copyOf(bytes);
    }
  }

  /**
   * Saves a run, keeping the last {@link #KEPT} saves.
   *
   * @param directory the directory of the run; made if it is not there
   * @param state what to save; nothing of it may change meanwhile
   * @return the directory of the save
   * @throws EngramException if it cannot be saved, or another process saves there; the last
   *     complete save is as it was
   */
  public static Path save(Path directory, TrainingState state) {
    return save(directory, state, KEPT, bytes -> {});
  }

  /**
   * Saves a run. An interrupt of the caller ends the save, and is kept.
   *
   * @param directory the directory of the run; made if it is not there
   * @param state what to save; nothing of it may change meanwhile
   * @param keep how many saves stay, this one included, at least 1. The oldest go after this one is
   *     complete, so that there is room for one more needed
   * @param progress told the bytes written so far, of {@link TrainingState#byteSize}; what it
   *     throws ends the save
   * @return the directory of the save
   * @throws IllegalArgumentException if keep is less than 1
   * @throws EngramException if it cannot be saved, it was interrupted, or another process saves
   *     there; the last complete save is as it was
   */
  public static Path save(Path directory, TrainingState state, int keep, LongConsumer progress) {
    if (keep < 1) {
      throw new IllegalArgumentException("keep is " + keep + ", expected at least 1");
    }
    try (StagedDirectory staged = NumberedSaves.begin(directory)) {
      try {
        staged.requireSpace(state.byteSize());
        SaveWriter writer = new SaveWriter(staged.path(), progress);
        state.memory().ifPresent(m -> writer.describe(m.config(), state.files()));
        state.files().forEach(writer::write);
        if (!state.bytes().isEmpty()) {
          writer.write(TrainingState.BYTES, sections(state.bytes()));
        }
        writer.manifest(state).write(staged.path());
      } catch (IOException e) {
        throw failed(directory, e);
      } catch (EngramException e) {
        throw failed(directory, e);
      }
      Path saved = staged.commit();
      try {
        NumberedSaves.keep(directory, keep);
      } catch (IOException e) {
        LOG.warn("{}: an old save cannot be removed: {}", directory, e.toString());
      }
      return directory.resolve(saved.getFileName());
    }
  }

  private static List<TrainingState.Section> sections(Map<String, byte[]> bytes) {
    List<TrainingState.Section> sections = new ArrayList<>();
    bytes.forEach((name, value) ->
        sections.add(
            new TrainingState.Section(
                name,
                Dtype.U8,
                List.of((long) value.length),
                List.of(MemorySegment.ofArray(value)))));
    return sections;
  }

  private static EngramException failed(Path directory, Exception e) {
    Optional<Path> last = NumberedSaves.last(directory);
    return new EngramException(
        directory
            + ": could not be saved to; "
            + last.map(l -> "the last complete save, " + l.getFileName() + ", is as it was")
                .orElse("there is no earlier save")
            + ": "
            + e.getMessage(),
        e);
  }

  /**
   * The saves of a run.
   *
   * @param directory the directory of the run; one that is not there has none
   * @return oldest first
   * @throws EngramException if the directory cannot be read
   */
  public static List<Path> saves(Path directory) {
    return NumberedSaves.list(directory);
  }

  /**
   * Restores the last save of a run.
   *
   * @param directory the directory of the run, or of one save
   * @param into the objects to fill: the same memory, optimisers and tensors as were saved. Its
   *     step is not looked at; bytes that it names must have been saved
   * @return where it stands, and the caller's bytes
   * @throws EngramFormatException if there is no save, it is damaged, or it is one of other
   *     objects, naming everything that differs; nothing has been changed then
   */
  public static Restored restore(Path directory, TrainingState into) {
    return restore(directory, into, bytes -> {});
  }

  /**
   * Restores the last save of a run.
   *
   * <p>All of it is read twice: once to verify it, during which nothing changes and an interrupt or
   * an exception of the listener ends it, and once to fill the objects, which goes on to its end.
   *
   * @param directory the directory of the run, or of one save
   * @param into the objects to fill, as for {@link #restore(Path, TrainingState)}
   * @param progress told the bytes verified so far, of {@link TrainingState#byteSize}
   * @return where it stands, and the caller's bytes
   * @throws EngramFormatException if there is no save, it is damaged, or it is one of other
   *     objects, naming everything that differs; nothing has been changed then
   * @throws EngramException if it was interrupted; nothing has been changed then. Also if a file
   *     changes while the objects are filled; they must not be used any more then
   */
  public static Restored restore(Path directory, TrainingState into, LongConsumer progress) {
    try (Arena arena = Arena.ofShared()) {
      SaveReader reader = SaveReader.open(directory, arena);
      SaveManifest manifest = reader.manifest();
      List<String> differences = new ArrayList<>();
      compareMemory(reader, into, differences);
      compareTensors(manifest, into, differences);
      compareOptimizers(manifest, into, differences);
      if (!differences.isEmpty()) {
        throw new EngramFormatException(
            reader.directory(),
            "holds another run than the one to be restored: " + String.join("; ", differences));
      }
      reader.verify(progress);
      into.memory().ifPresent(m -> reader.requireTokenMap(m.tokenMap()));
      Map<String, byte[]> bytes = new LinkedHashMap<>();
      for (SaveManifest.Entry entry : entries(manifest, TrainingState.BYTES)) {
        bytes.put(entry.name(), reader.bytes(TrainingState.BYTES, entry));
      }
      for (Map.Entry<String, List<TrainingState.Section>> file : into.files().entrySet()) {
        for (TrainingState.Section section : file.getValue()) {
          if (!isTokenMap(file.getKey(), section.name())) {
            reader.fill(file.getKey(), section);
          }
        }
      }
      for (SaveManifest.Optimizer saved : manifest.optimizers()) {
        TableOptimizer optimizer = into.optimizers().get(saved.layer());
        optimizer.learningRate(saved.learningRate());
        optimizer.restore(saved.steps());
      }
      return new Restored(reader.directory(), manifest.step(), bytes);
    }
  }

  /**
   * Verifies every checksum of the last save of a run.
   *
   * @param directory the directory of the run, or of one save
   * @param progress told the bytes verified so far; what it throws ends it
   * @return what the save consists of
   * @throws EngramFormatException if there is no save, or it is damaged, naming file and tensor
   * @throws EngramException if it cannot be read, or this thread is interrupted
   */
  public static SaveManifest verify(Path directory, LongConsumer progress) {
    try (Arena arena = Arena.ofShared()) {
      SaveReader reader = SaveReader.open(directory, arena);
      reader.verify(progress);
      return reader.manifest();
    }
  }

  private static void compareMemory(
      SaveReader reader, TrainingState into, List<String> differences) {
    Optional<EngramConfig> saved = reader.config();
    Optional<EngramConfig> expected = into.memory().map(m -> m.config());
    if (saved.isPresent() != expected.isPresent()) {
      differences.add(
          saved.isPresent()
              ? "it has a memory, but the run has none"
              : "it has no memory, but the run has one");
    } else if (saved.isPresent()) {
      differences.addAll(MemoryDescriptor.differences(expected.orElseThrow(), saved.orElseThrow()));
    }
  }

  private static List<SaveManifest.Entry> entries(SaveManifest manifest, String file) {
    return manifest.files().stream()
        .filter(f -> f.name().equals(file))
        .findFirst()
        .map(SaveManifest.File::tensors)
        .orElse(List.of());
  }

  private static void compareTensors(
      SaveManifest manifest, TrainingState into, List<String> differences) {
    Map<String, String> saved = new LinkedHashMap<>();
    for (SaveManifest.File file : manifest.files()) {
      if (!file.name().equals(TrainingState.BYTES)) {
        file.tensors().forEach(t -> saved.put(file.name() + " " + t.name(), t.toString()));
      }
    }
    into.files()
        .forEach((file, sections) ->
            sections.forEach(section -> {
              String name = file + " " + section.name();
              String wanted = section.toString();
              String found = saved.remove(name);
              if (found == null) {
                differences.add(name + " is missing, expected " + wanted);
              } else if (!found.equals(wanted)) {
                differences.add(name + " is " + found + ", expected " + wanted);
              } else if (!isTokenMap(file, section.name())
                  && section.parts().stream().anyMatch(MemorySegment::isReadOnly)) {
                differences.add(name + " cannot be restored into read-only memory");
              }
            }));
    saved.forEach((name, found) -> differences.add(name + " is " + found + ", expected none"));
    List<String> bytes =
        entries(manifest, TrainingState.BYTES).stream().map(SaveManifest.Entry::name).toList();
    for (String name : into.bytes().keySet()) {
      if (!bytes.contains(name)) {
        differences.add("the bytes " + name + " are missing; there are " + bytes);
      }
    }
  }

  /** It is compared and not filled: a map cannot change. */
  private static boolean isTokenMap(String file, String tensor) {
    return file.equals(TrainingState.MEMORY) && tensor.equals(MemoryDescriptor.TOKEN_MAP);
  }

  private static void compareOptimizers(
      SaveManifest manifest, TrainingState into, List<String> differences) {
    Map<Integer, String> saved = new LinkedHashMap<>();
    manifest.optimizers().forEach(o -> saved.put(o.layer(), o.name()));
    into.optimizers()
        .forEach((layer, optimizer) -> {
          String found = saved.remove(layer);
          if (!optimizer.name().equals(found)) {
            differences.add(
                "the optimiser of layer %d is %s, expected %s"
                    .formatted(layer, found == null ? "missing" : found, optimizer.name()));
          }
        });
    saved.forEach((layer, found) ->
        differences.add("layer %d has an optimiser %s, expected none".formatted(layer, found)));
  }
}
