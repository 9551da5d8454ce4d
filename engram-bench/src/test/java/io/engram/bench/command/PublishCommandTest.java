// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonArray;
import com.google.gson.JsonParser;
import io.engram.checkpoint.Checkpoint;
import io.engram.redis.RedisOptions;
import io.engram.redis.RedisRowStore;
import io.engram.redis.RedisServers;
import io.engram.table.EngramTable;
import io.engram.table.TableIdentity;
import io.engram.testkit.Golden;
import java.io.IOException;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;

@Tag("once")
class PublishCommandTest {
  @Test
  void publishedTablesAreReadAndDeleted() throws IOException {
    String directory = Golden.path("v41_mini").toString();
    try (RedisServers servers = RedisServers.standalone()) {
      String uri = servers.uri(0);
      Run json =
          Run.of("publish", "--checkpoint", directory, "--to", uri, "--name", "mini", "--json");
      assertEquals(0, json.exitCode(), json.err());
      assertTrue(json.err().contains("append-only"), json.err());
      JsonArray loaded = JsonParser.parseString(json.out()).getAsJsonArray();
      try (Checkpoint checkpoint = Checkpoint.open(Golden.path("v41_mini"))) {
        assertEquals(checkpoint.config().layerIds().size(), loaded.size());
        int layer = checkpoint.config().layerIds().getFirst();
        try (EngramTable table = checkpoint.table(layer);
            EngramTable remote =
                table.over(
                    RedisRowStore.open(
                        RedisOptions.of(uri),
                        "mini." + layer,
                        TableIdentity.of(checkpoint.layout(layer), table)))) {
          long[] ids = {0, 1, table.rowCount() - 1};
          assertArrayEquals(table.gather(ids), remote.gather(ids));
        }
      }
      Run taken = Run.of("publish", "--checkpoint", directory, "--to", uri, "--name", "mini");
      assertEquals(1, taken.exitCode());
      assertTrue(taken.err().contains("already"), taken.err());
      Run other = Run.of("publish", "--checkpoint", directory, "--to", uri, "--layers", "1");
      assertEquals(0, other.exitCode(), other.err());
      assertTrue(other.out().startsWith("v41_mini.1: "), other.out());
      assertEquals(
          "v41_mini.1: deleted", Run.of("unpublish", "--to", uri, "v41_mini.1").out().strip());
      assertEquals(1, Run.of("unpublish", "--to", uri, "v41_mini.1").exitCode());
      assertEquals(
          1,
          Run.of("publish", "--checkpoint", directory, "--to", "redis://127.0.0.1:1").exitCode());
      assertEquals(
          1, Run.of("publish", "--checkpoint", directory, "--to", "http://127.0.0.1").exitCode());
    }
  }
}
