// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import io.engram.redis.RedisOptions;
import java.nio.file.Path;
import java.util.Optional;
import picocli.CommandLine.Option;

/** How to talk to a Redis or Valkey server. */
final class RedisConnectionOptions {
  /** A password on a command line is seen by everybody on the machine. */
  private static final String PASSWORD = "ENGRAM_REDIS_PASSWORD";

  @Option(
      names = "--to",
      required = true,
      split = ",",
      paramLabel = "URI",
      description =
          "A server, or some nodes of a cluster: redis://host:port, with TLS rediss://host:port. The"
              + " password is read from the environment variable "
              + PASSWORD
              + ".")
  private String[] uris;

  @Option(
      names = "--user",
      paramLabel = "NAME",
      description = "A user of the server's access list.")
  private String user;

  @Option(
      names = "--tls-ca",
      paramLabel = "PEM",
      description = "Certificates to trust instead of the JVM's.")
  private Path authorities;

  @Option(names = "--tls-cert", paramLabel = "PEM", description = "A certificate of one's own.")
  private Path certificate;

  @Option(names = "--tls-key", paramLabel = "PEM", description = "Its private key.")
  private Path key;

  RedisOptions options() {
    RedisOptions.Builder builder = RedisOptions.builder(uris);
    String password = System.getenv(PASSWORD);
    if (password != null || user != null) {
      builder.credentials(
          Optional.ofNullable(user), password == null ? new char[0] : password.toCharArray());
    }
    if (authorities != null) {
      builder.trustedCertificates(authorities);
    }
    if ((certificate == null) != (key == null)) {
      throw new IllegalArgumentException("--tls-cert and --tls-key need each other");
    }
    if (certificate != null) {
      builder.clientCertificate(certificate, key);
    }
    return builder.build();
  }
}
