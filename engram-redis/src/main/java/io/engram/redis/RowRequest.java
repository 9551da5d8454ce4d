// SPDX-License-Identifier: Apache-2.0
package io.engram.redis;

import io.lettuce.core.codec.ByteArrayCodec;
import io.lettuce.core.output.CommandOutput;
import io.lettuce.core.protocol.CommandArgs;
import io.lettuce.core.protocol.CommandType;
import io.lettuce.core.protocol.ProtocolKeyword;
import io.lettuce.core.protocol.RedisCommand;
import io.netty.buffer.ByteBuf;
import java.nio.ByteBuffer;
import java.util.concurrent.atomic.AtomicReference;

/**
 * One row asked of a server, and its reply, which goes straight into the window's bytes: request,
 * command and output in one object, used again and again.
 *
 * <p>A thread sends it; the client's event loop completes it; then the thread looks at it. What the
 * event loop wrote is visible once the window has counted the request down.
 */
final class RowRequest extends CommandOutput<byte[], byte[], Void>
    implements RedisCommand<byte[], byte[], Void> {
  /** No bulk string came: an error, nothing, or a reply of another kind. */
  static final int NO_BYTES = -1;

  private final Window window;
  private final int index;

  /** The batch that the request is under way in, or null: whoever takes it out completes it. */
  private final AtomicReference<NodeBatch> underway = new AtomicReference<>();

  private int length;
  private Throwable failure;

  RowRequest(Window window, int index) {
    super(ByteArrayCodec.INSTANCE, null);
    this.window = window;
    this.index = index;
  }

  /** Which row of the window this is. */
  int index() {
    return index;
  }

  void startIn(NodeBatch batch) {
    length = NO_BYTES;
    failure = null;
    error = null;
    underway.set(batch);
  }

  /** Completes the request if it is still under way in this batch. */
  void fail(NodeBatch batch, Throwable cause) {
    if (underway.compareAndSet(batch, null)) {
      failure = cause;
      window.arrived();
    }
  }

  /** Bytes of the reply, or {@link #NO_BYTES}. */
  int length() {
    return length;
  }

  /** Why no reply came, or null. */
  Throwable failure() {
    return failure;
  }

  @Override
  public void set(ByteBuffer bytes) {
    if (bytes == null) {
      return;
    }
    length = bytes.remaining();
    // An output that throws would leave the connection out of step: the length says it all.
    if (length == window.rowBytes()) {
      bytes.get(window.bytes(), index * length, length);
    }
  }

  @Override
  public void setSingle(ByteBuffer bytes) {
    length = NO_BYTES;
  }

  @Override
  public void set(long integer) {
    length = NO_BYTES;
  }

  @Override
  public void set(double number) {
    length = NO_BYTES;
  }

  @Override
  public void set(boolean value) {
    length = NO_BYTES;
  }

  @Override
  public void complete() {
    if (underway.getAndSet(null) != null) {
      window.arrived();
    }
  }

  @Override
  public boolean completeExceptionally(Throwable throwable) {
    NodeBatch batch = underway.get();
    if (batch != null) {
      fail(batch, throwable);
    }
    return batch != null;
  }

  @Override
  public void cancel() {
    completeExceptionally(new java.util.concurrent.CancellationException());
  }

  /** The first request of a batch carries the bytes of all. */
  @Override
  public void encode(ByteBuf buf) {
    NodeBatch batch = underway.get();
    if (batch != null && batch.first() == this) {
      batch.encodeAll(buf);
    }
  }

  @Override
  public CommandOutput<byte[], byte[], Void> getOutput() {
    return this;
  }

  @Override
  public void setOutput(CommandOutput<byte[], byte[], Void> output) {
    throw new UnsupportedOperationException("a row request is its own output");
  }

  @Override
  public CommandArgs<byte[], byte[]> getArgs() {
    return new CommandArgs<>(codec);
  }

  @Override
  public ProtocolKeyword getType() {
    return CommandType.GETRANGE;
  }

  @Override
  public boolean isCancelled() {
    return false;
  }

  /**
   * Never before a reply or a failure: bytes of a batch that are sent have as many requests waiting
   * for replies.
   */
  @Override
  public boolean isDone() {
    return underway.get() == null;
  }
}
