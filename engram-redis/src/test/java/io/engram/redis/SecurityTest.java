// SPDX-License-Identifier: Apache-2.0
package io.engram.redis;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.EngramException;
import io.engram.store.RowStore;
import io.engram.table.TableIdentity;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Optional;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

/** Passwords, users and certificates. */
@Tag("once")
@Timeout(120)
class SecurityTest {
  @TempDir Path directory;

  private final Rows rows = new Rows(500, 1);
  private final TableIdentity identity = RedisTablesTest.identity(500);

  private static String refused(RedisOptions options) {
    return assertThrows(EngramException.class, () -> RedisTables.connect(options)).getMessage();
  }

  @Test
  void passwordsAndUsers() throws IOException {
    try (RedisServers servers = RedisServers.standalone("--requirepass", "top secret")) {
      RedisOptions admin =
          RedisOptions.builder(servers.uri(0))
              .credentials(Optional.empty(), "top secret".toCharArray())
              .build();
      try (RedisTables tables = RedisTables.connect(admin)) {
        tables.publisher("t", identity, rows).publish();
        servers.ask(
            0,
            "-a",
            "top secret",
            "acl",
            "setuser",
            "reader",
            "on",
            ">pass",
            "~engram:*",
            "+get",
            "+getrange",
            "+info",
            "+hello",
            "+client",
            "+ping");
        RedisOptions reader =
            RedisOptions.builder(servers.uri(0))
                .credentials(Optional.of("reader"), "pass".toCharArray())
                .build();
        try (RowStore store = RedisRowStore.open(reader, "t", identity)) {
          rows.checkAll(store);
          servers.ask(0, "-a", "top secret", "acl", "setuser", "reader", "-getrange");
          String message =
              assertThrows(EngramException.class, () -> rows.check(store, 5)).getMessage();
          assertTrue(message.contains("NOPERM") && message.contains("row 5"), message);
        }
        try (RedisTables readOnly = RedisTables.connect(reader)) {
          assertThrows(EngramException.class, () -> readOnly.unpublish("t"));
          assertThrows(EngramException.class, readOnly.publisher("u", identity, rows)::publish);
        }
      }
      assertTrue(refused(RedisOptions.of(servers.uri(0))).contains("NOAUTH"));
      String wrong =
          refused(
              RedisOptions.builder(servers.uri(0))
                  .credentials(Optional.of("reader"), "wrong".toCharArray())
                  .build());
      assertTrue(wrong.contains("WRONGPASS"), wrong);
      assertFalse(wrong.contains("wrong'"), wrong);
    }
  }

  private void openssl(String... arguments) throws Exception {
    String[] command = new String[arguments.length + 1];
    command[0] = RedisServers.binary("openssl");
    System.arraycopy(arguments, 0, command, 1, arguments.length);
    Process process =
        new ProcessBuilder(command).directory(directory.toFile()).redirectErrorStream(true).start();
    String said =
        new String(
            process.getInputStream().readAllBytes(), java.nio.charset.StandardCharsets.UTF_8);
    assertEquals(0, process.waitFor(), said);
  }

  private void authority(String name) throws Exception {
    openssl(
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=" + name,
        "-keyout",
        name + ".key",
        "-out",
        name + ".pem");
  }

  private void certificate(String name, String authority) throws Exception {
    openssl(
        "req",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=" + name,
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-keyout",
        name + ".key",
        "-out",
        name + ".csr");
    openssl(
        "x509",
        "-req",
        "-in",
        name + ".csr",
        "-CA",
        authority + ".pem",
        "-CAkey",
        authority + ".key",
        "-CAcreateserial",
        "-days",
        "2",
        "-copy_extensions",
        "copy",
        "-out",
        name + ".pem");
  }

  private String file(String name) {
    return directory.resolve(name).toString();
  }

  @Test
  void certificates() throws Exception {
    authority("ours");
    authority("theirs");
    certificate("server", "ours");
    certificate("client", "ours");
    try (RedisServers servers =
        RedisServers.standalone(
            "--tls-cert-file",
            file("server.pem"),
            "--tls-key-file",
            file("server.key"),
            "--tls-ca-cert-file",
            file("ours.pem"),
            "--tls-auth-clients",
            "yes")) {
      String uri = "rediss://127.0.0.1:" + servers.port(0);
      RedisOptions right =
          RedisOptions.builder(uri)
              .trustedCertificates(directory.resolve("ours.pem"))
              .clientCertificate(directory.resolve("client.pem"), directory.resolve("client.key"))
              .build();
      try (RedisTables tables = RedisTables.connect(right)) {
        tables.publisher("t", identity, rows).rowsPerValue(50).publish();
        try (RowStore store = tables.open("t", identity)) {
          rows.checkAll(store);
        }
      }
      refused(
          RedisOptions.builder(uri)
              .trustedCertificates(directory.resolve("theirs.pem"))
              .clientCertificate(directory.resolve("client.pem"), directory.resolve("client.key"))
              .build());
      refused(RedisOptions.builder(uri).trustedCertificates(directory.resolve("ours.pem")).build());
      refused(RedisOptions.of(servers.uri(0)));
    }
  }
}
