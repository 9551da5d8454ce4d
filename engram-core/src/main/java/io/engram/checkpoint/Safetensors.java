// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import io.engram.Dtype;
import io.engram.EngramException;
import io.engram.EngramFormatException;
import io.engram.Tensor;
import io.engram.store.FileRegion;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.Arrays;
import java.util.Collection;
import java.util.Map;
import java.util.Objects;

/**
 * One safetensors file, mapped and read in place.
 *
 * <p>Opening reads and checks the header: the rules of the reference implementation (a header of at
 * most 100 MB, tensors that cover the payload without holes and without overlap, sizes that match
 * dtype and shape), and beyond them no name twice, no unknown key, no number that is not a whole
 * one. Tensors of any size can be read; of the element types those of {@link Dtype}. Others are
 * listed, so that a checkpoint with tensors that nobody needs here opens, and refused by name when
 * asked for.
 *
 * <p>The bytes of a tensor need not be aligned in memory: read them with unaligned layouts. They
 * live as long as the arena. What becomes of them when the file changes is said in {@link
 * io.engram.store.MappedRowStore}; {@link #checkUnchanged} finds out.
 *
 * <p>Immutable and thread-safe; the arena decides from which threads the memory can be read.
 * Source: the format's description and its reference implementation, huggingface/safetensors.
 */
public final class Safetensors {
  private final Path file;
  private final SafetensorsHeader header;
  private final MemorySegment mapping;
  private final BasicFileAttributes attributes;

  private Safetensors(
      Path file, SafetensorsHeader header, MemorySegment mapping, BasicFileAttributes attributes) {
    this.file = file;
    this.header = header;
    this.mapping = mapping;
    this.attributes = attributes;
  }

  /**
   * Opens a file.
   *
   * @param file the file
   * @param arena owns the mapping
   * @return the open file
   * @throws EngramFormatException if there is no such file, or it breaks a rule of the format
   * @throws EngramException if it cannot be read or mapped
   */
  public static Safetensors open(Path file, Arena arena) {
    Objects.requireNonNull(arena, "arena");
    try {
      BasicFileAttributes attributes = attributes(file);
      if (!attributes.isRegularFile()) {
        throw new EngramFormatException(
            file,
            attributes.isDirectory()
                ? "is a directory, expected a safetensors file"
                : "is not a regular file");
      }
      try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
        long size = channel.size();
        SafetensorsHeader header = SafetensorsHeader.read(file, channel, size);
        if (size != attributes.size()) {
          throw new EngramFormatException(file, "the file changed while it was opened");
        }
        MemorySegment mapping = channel.map(FileChannel.MapMode.READ_ONLY, 0, size, arena);
        return new Safetensors(file, header, mapping, attributes);
      }
    } catch (NoSuchFileException e) {
      throw new EngramFormatException(file, "there is no such file", e);
    } catch (IOException e) {
      throw new EngramException(file + ": cannot be read: " + e, e);
    }
  }

  private static BasicFileAttributes attributes(Path file) throws IOException {
    return Files.readAttributes(file, BasicFileAttributes.class);
  }

  /**
   * The file.
   *
   * @return its path as given
   */
  public Path file() {
    return file;
  }

  /**
   * All tensors, those of unreadable types included.
   *
   * @return in the order of their bytes; immutable
   */
  public Collection<TensorInfo> tensors() {
    return header.tensors().values();
  }

  /**
   * The texts under {@code __metadata__}.
   *
   * @return in the order of the file, empty if there are none; immutable
   */
  public Map<String, String> metadata() {
    return header.metadata();
  }

  /**
   * Whether there is a tensor of that name.
   *
   * @param name its name
   * @return true if there is, of whatever type
   */
  public boolean contains(String name) {
    return header.tensors().containsKey(name);
  }

  /**
   * What the header says of one tensor.
   *
   * @param name its name
   * @return its entry
   * @throws EngramFormatException if there is no tensor of that name
   */
  public TensorInfo info(String name) {
    TensorInfo info = header.tensors().get(name);
    if (info == null) {
      throw new EngramFormatException(
          file,
          "the tensor "
              + Names.quote(name)
              + " is not among its "
              + header.tensors().size()
              + " tensors");
    }
    return info;
  }

  /**
   * A tensor in place: a view of the mapping.
   *
   * @param name its name
   * @return the tensor, read-only
   * @throws EngramFormatException if there is no tensor of that name, or its type is none of {@link
   *     Dtype}
   */
  public Tensor tensor(String name) {
    TensorInfo info = info(name);
    return new Tensor(dtype(info), sizes(info), bytes(info));
  }

  /**
   * A copy of a tensor, which no change of the file can reach. Vector kernels must be given copies.
   *
   * @param name its name
   * @param memory owns the copy
   * @return the tensor, aligned to 64 bytes
   * @throws EngramFormatException as {@link #tensor}
   * @throws EngramException if the file is now shorter than it was
   */
  public Tensor load(String name, Arena memory) {
    TensorInfo info = info(name);
    Dtype dtype = dtype(info);
    MemorySegment copy = memory.allocate(info.byteSize(), 64);
    region(name).copyTo(copy, 0);
    return new Tensor(dtype, sizes(info), copy);
  }

  /**
   * The bytes of a tensor of whatever type, with their place in the file.
   *
   * @param name its name
   * @return the bytes, read-only
   * @throws EngramFormatException if there is no tensor of that name
   */
  public FileRegion region(String name) {
    TensorInfo info = info(name);
    return new FileRegion(file, info.begin(), bytes(info));
  }

  /**
   * Makes sure that the file is the one that was opened: the same size, time of modification and,
   * where the file system has one, identity. Neither a file overwritten in place nor a replaced one
   * is noticed otherwise: the mapping of the former shows the new bytes, that of the latter the old
   * ones.
   *
   * @throws EngramFormatException if it is another one
   * @throws EngramException if that cannot be found out
   */
  public void checkUnchanged() {
    BasicFileAttributes now;
    try {
      now = attributes(file);
    } catch (NoSuchFileException e) {
      throw new EngramFormatException(file, "the file has been removed since it was opened", e);
    } catch (IOException e) {
      throw new EngramException(file + ": cannot be inspected: " + e, e);
    }
    if (now.size() != attributes.size()
        || !now.lastModifiedTime().equals(attributes.lastModifiedTime())
        || !Objects.equals(now.fileKey(), attributes.fileKey())) {
      throw new EngramFormatException(
          file,
          "the file has changed since it was opened: it had "
              + describe(attributes)
              + ", it has "
              + describe(now));
    }
  }

  private static String describe(BasicFileAttributes attributes) {
    return attributes.size()
        + " bytes of "
        + attributes.lastModifiedTime()
        + " and key "
        + attributes.fileKey();
  }

  private Dtype dtype(TensorInfo info) {
    return info.knownDtype()
        .orElseThrow(() ->
            new EngramFormatException(
                file,
                "the tensor "
                    + info
                    + " has a type that is not read here, which are "
                    + Arrays.toString(Dtype.values())));
  }

  private static long[] sizes(TensorInfo info) {
    return info.shape().stream().mapToLong(Long::longValue).toArray();
  }

  private MemorySegment bytes(TensorInfo info) {
    return mapping.asSlice(info.begin(), info.byteSize());
  }

  @Override
  public String toString() {
    return file + " with " + header.tensors().size() + " tensors";
  }
}
