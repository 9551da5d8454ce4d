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
import java.util.Map;
import java.util.random.RandomGenerator;
import java.util.stream.IntStream;
import java.util.zip.CRC32C;

/** A small training run: a memory, the state of an optimiser, tensors and bytes of the caller. */
final class Runs implements AutoCloseable {
  final EngramMemory memory;
  final FakeOptimizer optimizer;
  final float[] heap;
  byte[] random;
  long step;

  private Runs(EngramMemory memory, int heap) {
    this.memory = memory;
    this.optimizer = new FakeOptimizer(memory.table(1).rowCount());
    this.heap = new float[heap];
    this.random = new byte[0];
  }

  /** An optimiser whose state anybody can change. */
  static final class FakeOptimizer implements TrainedTable {
    final RamRowStore moments;
    long steps;
    double rate;

    FakeOptimizer(long rows) {
      moments = RamRowStore.create("moments", rows, 24, 64);
    }

    @Override
    public String name() {
      return "fake";
    }

    @Override
    public double learningRate() {
      return rate;
    }

    @Override
    public void learningRate(double to) {
      rate = to;
    }

    @Override
    public long steps() {
      return steps;
    }

    @Override
    public Map<String, RamRowStore> state() {
      return Map.of("moments", moments);
    }

    @Override
    public void restore(long taken) {
      steps = taken;
    }
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
    RandomGenerator generator = new java.util.SplittableRandom(seed);
    for (int layer : memory.config().layerIds()) {
      for (MemorySegment shard : TableRows.of(memory.table(layer)).shards()) {
        fill(shard, generator);
      }
      for (Tensor tensor : MemoryDescriptor.weights(layer, memory.weights(layer)).values()) {
        fill(tensor.data(), generator);
      }
    }
    for (MemorySegment shard : optimizer.moments.shards()) {
      fill(shard, generator);
    }
    for (int i = 0; i < heap.length; i++) {
      heap[i] = (float) generator.nextGaussian();
    }
    random = new byte[generator.nextInt(1, 100)];
    generator.nextBytes(random);
    step = seed;
    optimizer.steps = generator.nextLong(Long.MAX_VALUE);
    optimizer.rate = generator.nextDouble();
  }

  private static void fill(MemorySegment segment, RandomGenerator generator) {
    for (long at = 0; at + 4 <= segment.byteSize(); at += 4) {
      segment.set(ValueLayout.JAVA_FLOAT_UNALIGNED, at, (float) generator.nextGaussian());
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
      TableRows.of(memory.table(layer)).shards().forEach(s -> crc.update(s.asByteBuffer()));
      LayerWeights weights = memory.weights(layer);
      MemoryDescriptor.weights(layer, weights)
          .values()
          .forEach(t -> crc.update(t.data().asByteBuffer()));
    }
    optimizer.moments.shards().forEach(s -> crc.update(s.asByteBuffer()));
    ByteBuffer floats = ByteBuffer.allocate(heap.length * 4);
    floats.asFloatBuffer().put(heap);
    crc.update(floats);
    ByteArrayOutputStream rest = new ByteArrayOutputStream();
    rest.writeBytes(random);
    rest.writeBytes(
        ByteBuffer.allocate(24)
            .putLong(step)
            .putLong(optimizer.steps)
            .putDouble(optimizer.rate)
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
    memory.close();
    optimizer.moments.close();
  }
}
