// SPDX-License-Identifier: Apache-2.0
package io.engram.redis;

import io.engram.store.RamRowStore;
import io.engram.store.RowStore;
import io.engram.table.RowFormat;
import io.engram.table.TableIdentity;
import java.io.IOException;
import java.lang.foreign.MemorySegment;
import java.util.Optional;

/** Servers with the connections to them, and tables of any bytes. */
public final class RedisFixture implements AutoCloseable {
  private final RedisServers servers;
  private final RedisTables tables;

  private RedisFixture(RedisServers servers, RedisOptions options) {
    this.servers = servers;
    tables = RedisTables.connect(options);
  }

  /** One server. */
  public static RedisFixture standalone() throws IOException {
    RedisServers servers = RedisServers.standalone();
    return new RedisFixture(servers, RedisOptions.of(servers.uri(0)));
  }

  /** Six nodes, three of them masters. */
  public static RedisFixture cluster() throws IOException {
    RedisServers servers = RedisServers.cluster();
    return new RedisFixture(servers, RedisOptions.of(servers.uri(0), servers.uri(1)));
  }

  /** Rows of bytes under a name, in place of what it stood for. */
  public RowStore publish(String name, byte[][] rows, int rowBytes) {
    TableIdentity identity = identity(rows.length, rowBytes);
    try (RamRowStore source = ram(rows, rowBytes)) {
      RedisPublisher publisher = tables.publisher(name, identity, source).rowsPerValue(7);
      tables.unpublish(name);
      publisher.publish();
    }
    return tables.open(name, identity);
  }

  static RamRowStore ram(byte[][] rows, int rowBytes) {
    RamRowStore ram = RamRowStore.create("source", rows.length, rowBytes);
    for (int i = 0; i < rows.length; i++) {
      ram.write(i, 1, MemorySegment.ofArray(rows[i]), 0);
    }
    return ram;
  }

  /** The identity of a table whose rows have so many bytes, whatever they mean. */
  static TableIdentity identity(long rowCount, int rowBytes) {
    return new TableIdentity(
        3, RowFormat.FP8_TENSOR, rowBytes, rowCount, "layout", Optional.empty());
  }

  @Override
  public void close() throws IOException {
    tables.close();
    servers.close();
  }
}
