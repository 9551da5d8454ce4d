// SPDX-License-Identifier: Apache-2.0
package io.engram.redis;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.EngramException;
import io.engram.store.RowStore;
import io.engram.testkit.Seeds;
import java.io.BufferedReader;
import java.io.IOException;
import java.lang.ProcessBuilder.Redirect;
import java.nio.file.Path;
import java.util.Optional;
import java.util.concurrent.TimeUnit;
import java.util.random.RandomGenerator;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** A publisher that is killed at any moment leaves a table that is whole or cannot be opened. */
@Tag("once")
class PublishKillTest {
  @Test
  @Timeout(180)
  void killedThreeTimes() throws Exception {
    killed(3);
  }

  @Test
  @Tag("long")
  void killedFiftyTimes() throws Exception {
    killed(50);
  }

  private static Process child(RedisServers servers, String name) throws IOException {
    return new ProcessBuilder(
            Path.of(System.getProperty("java.home"), "bin", "java").toString(),
            "-Xmx256m",
            "-XX:TieredStopAtLevel=1",
            "-XX:+UseSerialGC",
            "--enable-native-access=ALL-UNNAMED",
            "--sun-misc-unsafe-memory-access=allow",
            "-cp",
            System.getProperty("java.class.path"),
            PublishingChild.class.getName(),
            servers.uri(0),
            name)
        .redirectError(Redirect.INHERIT)
        .start();
  }

  private static void killed(int times) throws Exception {
    RandomGenerator random = Seeds.random("PublishKillTest");
    int midway = 0;
    int whole = 0;
    try (RedisServers servers = RedisServers.standalone();
        RedisTables tables = RedisTables.connect(RedisOptions.of(servers.uri(0)))) {
      int round = 0;
      for (int kills = 0; kills < times; kills++) {
        String name = "table-" + round;
        Process process = child(servers, name);
        try (BufferedReader said = process.inputReader()) {
          // Anywhere from the first value to the announcement: at one of its words, or a little
          // later.
          int words = 1 + random.nextInt(2 * PublishingChild.WORDS + 1);
          for (int i = 0; i < words && said.readLine() != null; i++) {}
          TimeUnit.MICROSECONDS.sleep(random.nextLong(20_000));
          process.destroyForcibly();
        }
        process.waitFor();
        Optional<RedisTable> found = tables.find(name);
        if (found.isPresent()) {
          whole++;
          try (RowStore store = tables.open(name, PublishingChild.IDENTITY)) {
            PublishingChild.ROWS.checkAll(store);
          }
          round++;
          tables.unpublish(name);
        } else {
          midway++;
          String message =
              assertThrows(EngramException.class, () -> tables.open(name, PublishingChild.IDENTITY))
                  .getMessage();
          assertTrue(message.contains(name), message);
        }
      }
      // What was interrupted last is finished here.
      String name = "table-" + round;
      RedisPublisher.Published published = PublishingChild.publisher(tables, name).publish();
      try (RowStore store = tables.open(name, PublishingChild.IDENTITY)) {
        PublishingChild.ROWS.checkAll(store);
      }
      System.out.println(
          times
              + " kills: "
              + midway
              + " left a table that cannot be opened, "
              + whole
              + " a whole one; the last resumption wrote "
              + published.written()
              + " of "
              + published.values()
              + " values");
      assertTrue(midway > 0, "no kill met the load");
      tables.unpublish(name);
      assertEquals("0", servers.ask(0, "dbsize"), "keys are left over");
    }
  }
}
