// SPDX-License-Identifier: Apache-2.0
package io.engram.train;

import io.engram.Dtype;
import io.engram.EngramConfig;
import io.engram.EngramMemory;
import io.engram.LayerWeights;
import io.engram.Tensor;
import io.engram.checkpoint.MemoryDescriptor;
import io.engram.store.RamRowStore;
import io.engram.table.RowFormat;
import io.engram.vocab.TokenMap;
import java.io.ByteArrayOutputStream;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.nio.ByteBuffer;
import java.util.SplittableRandom;
import java.util.random.RandomGenerator;
import java.util.stream.IntStream;
import java.util.zip.CRC32C;

/** A small training run: a memory, the state of an optimiser, tensors and bytes of the caller. */
final class Runs implements AutoCloseable {
  final EngramMemory memory;
  final TableOptimizer optimizer;
  final float[] heap;
  byte[] random;
  long step;

  private Runs(EngramMemory memory, int heap) {
    this.memory = memory;
    this.optimizer = TableOptimizer.adam(memory.table(1), AdamOptions.DEFAULT);
    this.heap = new float[heap];
    this.random = new byte[0];
  }

  static EngramConfig config(RowFormat format, long slots) {
    return EngramConfig.paper()
        .vocabulary(50, 40)
        .layers(1, 3)
        .slotsPerHead(slots)
        .headsPerOrder(2)
        .headDim(8)
        .streams(2)
        .width(12)
        .rowFormat(format)
        .seed(Long.MAX_VALUE / 3)
        .build();
  }

  static TokenMap map(int size, int compressed) {
    return TokenMap.of(IntStream.range(0, size).map(i -> i % compressed).toArray());
  }

  static Runs of(RowFormat format, long slots, int heap, long seed) {
    return new Runs(EngramMemory.create(config(format, slots), map(50, 40), seed), heap);
  }

  /** Changes everything that a save holds. */
  void train(long seed) {
    RandomGenerator generator = new SplittableRandom(seed);
    for (int layer : memory.config().layerIds()) {
      for (MemorySegment shard : Rows.of(memory.table(layer)).shards()) {
        fill(shard, generator);
      }
      for (Tensor tensor : MemoryDescriptor.weights(layer, memory.weights(layer)).values()) {
        fill(tensor.data(), generator);
      }
    }
    for (RamRowStore rows : optimizer.state().values()) {
      rows.shards().forEach(shard -> fill(shard, generator));
    }
    for (int i = 0; i < heap.length; i++) {
      heap[i] = generator.nextFloat(-1, 1);
    }
    random = new byte[generator.nextInt(1, 100)];
    generator.nextBytes(random);
    step = seed;
    optimizer.restore(generator.nextLong(Long.MAX_VALUE));
    optimizer.learningRate(generator.nextDouble());
  }

  /** Takes real steps, each with other gradients. */
  void steps(int count) {
    int headDim = memory.config().headDim();
    for (int i = 0; i < count; i++, step++) {
      RandomGenerator generator = new SplittableRandom(step);
      float[] gradient = new float[8 * headDim];
      long[] rows = generator.longs(8, 0, memory.table(1).rowCount()).toArray();
      for (int g = 0; g < gradient.length; g++) {
        gradient[g] = generator.nextFloat(-1, 1);
      }
      TableGradients gradients = new TableGradients(memory.table(1), 1);
      gradients.add(rows, 0, rows.length, MemorySegment.ofArray(gradient));
      optimizer.learningRate(1e-2 / (step + 1));
      optimizer.step(gradients);
    }
  }

  private static void fill(MemorySegment segment, RandomGenerator generator) {
    for (long at = 0; at + 4 <= segment.byteSize(); at += 4) {
      segment.set(ValueLayout.JAVA_FLOAT_UNALIGNED, at, generator.nextFloat(-1, 1));
    }
  }

  TrainingState state() {
    return TrainingState.builder()
        .memory(memory)
        .optimizer(1, optimizer)
        .tensor(
            "embedding",
            new Tensor(Dtype.F32, new long[] {heap.length}, MemorySegment.ofArray(heap)))
        .bytes("random", random)
        .step(step)
        .build();
  }

  /** A checksum of all that training can change. */
  int fingerprint() {
    CRC32C crc = new CRC32C();
    for (int layer : memory.config().layerIds()) {
      Rows.of(memory.table(layer)).shards().forEach(s -> crc.update(s.asByteBuffer()));
      LayerWeights weights = memory.weights(layer);
      MemoryDescriptor.weights(layer, weights)
          .values()
          .forEach(t -> crc.update(t.data().asByteBuffer()));
    }
    optimizer
        .state()
        .values()
        .forEach(rows -> rows.shards().forEach(s -> crc.update(s.asByteBuffer())));
    ByteBuffer floats = ByteBuffer.allocate(heap.length * 4);
    floats.asFloatBuffer().put(heap);
    crc.update(floats);
    ByteArrayOutputStream rest = new ByteArrayOutputStream();
    rest.writeBytes(random);
    rest.writeBytes(
        ByteBuffer.allocate(24)
            .putLong(step)
            .putLong(optimizer.steps())
            .putDouble(optimizer.learningRate())
            .array());
    crc.update(rest.toByteArray());
    return (int) crc.getValue();
  }

  void take(TrainingCheckpoint.Restored restored) {
    step = restored.step();
    random = restored.bytes().get("random");
  }

  @Override
  public void close() {
    optimizer.close();
    memory.close();
  }
}
