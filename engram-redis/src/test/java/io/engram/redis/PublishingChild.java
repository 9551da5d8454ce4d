// SPDX-License-Identifier: Apache-2.0
package io.engram.redis;

import io.engram.table.TableIdentity;
import java.time.Duration;

/** A process that publishes a table and may be killed at it. */
final class PublishingChild {
  static final int COUNT = 30_000;

  /** How often a child says how far it is, in each of its two phases. */
  static final int WORDS = 25;

  static final Rows ROWS = new Rows(COUNT, 6);
  static final TableIdentity IDENTITY = RedisTablesTest.identity(COUNT);
  static final Duration LOCK = Duration.ofMillis(1500);

  private PublishingChild() {}

  /** Publishes to a server as a table: two arguments. */
  public static void main(String[] arguments) {
    try (RedisTables tables = RedisTables.connect(RedisOptions.of(arguments[0]))) {
      System.out.println("begun");
      publisher(tables, arguments[1])
          .listener((_, rows) -> {
            if (rows % (COUNT / WORDS) == 0) {
              System.out.println(rows);
            }
          })
          .publish();
      System.out.println("done");
    }
  }

  static RedisPublisher publisher(RedisTables tables, String name) {
    return tables.publisher(name, IDENTITY, ROWS).rowsPerValue(20).lockTime(LOCK);
  }
}
