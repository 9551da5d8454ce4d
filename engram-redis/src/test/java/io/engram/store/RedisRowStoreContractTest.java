// SPDX-License-Identifier: Apache-2.0
package io.engram.store;

import io.engram.redis.RedisFixture;
import java.io.IOException;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Nested;
import org.junit.jupiter.api.Tag;

/** What every tier promises, over one server and over a cluster of six. */
@Tag("once")
class RedisRowStoreContractTest {
  abstract static class OverServers extends RowStoreContract {
    private static RedisFixture fixture;

    static void use(RedisFixture servers) {
      fixture = servers;
    }

    @AfterAll
    static void end() throws IOException {
      if (fixture != null) {
        fixture.close();
      }
    }

    @Override
    RowStore create(String name, byte[][] rows, int rowBytes, int scaleBytes) {
      return fixture.publish(name, rows, rowBytes);
    }

    @Override
    protected boolean allocatesNothing() {
      return false;
    }

    @Override
    protected boolean interruptsEndReads() {
      return true;
    }
  }

  @Nested
  class OneServer extends OverServers {
    @BeforeAll
    static void begin() throws IOException {
      use(RedisFixture.standalone());
    }
  }

  @Nested
  class Cluster extends OverServers {
    @BeforeAll
    static void begin() throws IOException {
      use(RedisFixture.cluster());
    }
  }
}
