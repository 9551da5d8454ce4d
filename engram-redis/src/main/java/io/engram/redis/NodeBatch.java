// SPDX-License-Identifier: Apache-2.0
package io.engram.redis;

import io.lettuce.core.codec.ByteArrayCodec;
import io.lettuce.core.output.CommandOutput;
import io.lettuce.core.protocol.CommandArgs;
import io.lettuce.core.protocol.CommandType;
import io.lettuce.core.protocol.ProtocolKeyword;
import io.lettuce.core.protocol.RedisCommand;
import io.netty.buffer.ByteBuf;
import io.netty.channel.Channel;
import io.netty.channel.ChannelHandler;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelOutboundHandlerAdapter;
import io.netty.channel.ChannelPromise;
import java.util.ArrayList;
import java.util.List;

/**
 * The requests of one window that go to one node. It travels through the client as one command, so
 * that a write costs a queue entry, a task and a promise once and not for each row, and is taken
 * apart in front of the client's command handler.
 */
final class NodeBatch implements RedisCommand<byte[], byte[], Void> {
  /** Takes batches apart; added to each connection's pipeline. */
  @ChannelHandler.Sharable
  static final class Expander extends ChannelOutboundHandlerAdapter {
    @Override
    public void write(ChannelHandlerContext context, Object message, ChannelPromise promise) {
      if (!(message instanceof NodeBatch batch)) {
        var _ = context.write(message, promise);
        return;
      }
      batch.channel = context.channel();
      ChannelPromise sent = context.newPromise();
      var _ = context.write(batch.requests, sent);
      // Added last, so that the command handler has forgotten the requests before they fail.
      var _ =
          sent.addListener(future -> {
            if (!future.isSuccess()) {
              batch.completeExceptionally(future.cause());
            }
          });
      promise.trySuccess();
    }
  }

  private volatile Link.Node node;
  private final List<RowRequest> requests = new ArrayList<>();
  private byte[] encoded;
  private int encodedFrom;
  private int encodedBytes;
  private volatile Channel channel;
  private volatile boolean failed;

  void to(Link.Node target) {
    node = target;
  }

  /** For messages; empty while the node has not been reached. */
  String nodeName() {
    return node == null ? "" : node.name();
  }

  boolean isReplica() {
    return node != null && node.replica();
  }

  boolean isUnderway() {
    for (RowRequest request : requests) {
      if (!request.isDone()) {
        return true;
      }
    }
    return false;
  }

  List<RowRequest> requests() {
    return requests;
  }

  RowRequest first() {
    return requests.getFirst();
  }

  /** The bytes of all requests, which stay as they are until the last of them is complete. */
  void encoded(byte[] bytes, int from, int count) {
    encoded = bytes;
    encodedFrom = from;
    encodedBytes = count;
  }

  void encodeAll(ByteBuf buf) {
    buf.writeBytes(encoded, encodedFrom, encodedBytes);
  }

  /** Gives the node up: what it has not answered fails, and the client connects anew. */
  void disconnect() {
    Channel sentOn = channel;
    if (sentOn != null) {
      var _ = sentOn.close();
    }
  }

  @Override
  public boolean completeExceptionally(Throwable throwable) {
    failed = true;
    for (RowRequest request : requests) {
      request.fail(this, throwable);
    }
    return true;
  }

  @Override
  public void cancel() {
    completeExceptionally(new java.util.concurrent.CancellationException());
  }

  @Override
  public boolean isDone() {
    return failed;
  }

  @Override
  public boolean isCancelled() {
    return false;
  }

  @Override
  public void complete() {}

  @Override
  public void encode(ByteBuf buf) {
    throw new IllegalStateException("a batch was not taken apart");
  }

  @Override
  public CommandOutput<byte[], byte[], Void> getOutput() {
    return first();
  }

  @Override
  public void setOutput(CommandOutput<byte[], byte[], Void> output) {
    throw new UnsupportedOperationException("requests are their own outputs");
  }

  @Override
  public CommandArgs<byte[], byte[]> getArgs() {
    return new CommandArgs<>(ByteArrayCodec.INSTANCE);
  }

  @Override
  public ProtocolKeyword getType() {
    return CommandType.GETRANGE;
  }
}
