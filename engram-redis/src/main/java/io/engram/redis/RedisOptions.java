// SPDX-License-Identifier: Apache-2.0
package io.engram.redis;

import java.nio.file.Path;
import java.time.Duration;
import java.util.Arrays;
import java.util.List;
import java.util.Objects;
import java.util.Optional;

/**
 * Where a server or cluster is and how to talk to it. Immutable; made by {@link #of} or a {@link
 * Builder}.
 */
public final class RedisOptions {
  /** Which copies of a table are read. */
  public enum ReadFrom {
    /** Only the node that owns a key. */
    MASTER,
    /** Replicas of the owner where there are any, each in turn; the owner where one fails. */
    REPLICAS,
    /** The owner and its replicas, each in turn; the owner where a replica fails. */
    ANY
  }

  private final List<String> uris;
  private final Optional<String> user;
  private final char[] password;
  private final Optional<Path> trustedCertificates;
  private final Optional<Path> certificate;
  private final Optional<Path> privateKey;
  private final ReadFrom readFrom;
  private final int connections;
  private final int rowsPerWindow;
  private final int windows;
  private final int maxOutstanding;
  private final Duration attemptTimeout;
  private final Duration deadline;

  private RedisOptions(Builder b) {
    uris = List.copyOf(b.uris);
    user = b.user;
    password = b.password.clone();
    trustedCertificates = b.trustedCertificates;
    certificate = b.certificate;
    privateKey = b.privateKey;
    readFrom = b.readFrom;
    connections = b.connections;
    rowsPerWindow = b.rowsPerWindow;
    windows = b.windows;
    maxOutstanding = b.maxOutstanding;
    attemptTimeout = b.attemptTimeout;
    deadline = b.deadline;
    if (uris.isEmpty()) {
      throw new IllegalArgumentException("no address of a server, expected redis://host:port");
    }
    for (String uri : uris) {
      if (!uri.startsWith("redis://") && !uri.startsWith("rediss://")) {
        throw new IllegalArgumentException(
            "an address is redis://host:port, or rediss://host:port with TLS; found "
                + uri.replaceFirst("//.*@", "//...@"));
      }
    }
    range("connections", connections, 1, 64);
    range("rowsPerWindow", rowsPerWindow, 1, 1 << 14);
    range("windows", windows, 1, 64);
    range("maxOutstanding", maxOutstanding, rowsPerWindow, 1 << 20);
    if (attemptTimeout.toMillis() < 1 || deadline.compareTo(attemptTimeout) < 0) {
      throw new IllegalArgumentException(
          "attemptTimeout is "
              + attemptTimeout
              + " and deadline "
              + deadline
              + ", expected at least a millisecond, and no shorter deadline");
    }
    if (certificate.isPresent() != privateKey.isPresent()) {
      throw new IllegalArgumentException("a client certificate needs its private key, and only it");
    }
  }

  private static void range(String name, int value, int least, int most) {
    if (value < least || value > most) {
      throw new IllegalArgumentException(
          name + " is " + value + ", expected " + least + " to " + most);
    }
  }

  /**
   * Everything as it is by default.
   *
   * @param uris one server, or some nodes of a cluster: {@code redis://[user:password@]host:port},
   *     {@code rediss://} with TLS
   * @return the options
   * @throws IllegalArgumentException if there is none, or one is no such address
   */
  public static RedisOptions of(String... uris) {
    return builder(uris).build();
  }

  /**
   * Options to be changed.
   *
   * @param uris as in {@link #of}
   * @return a builder with the defaults
   */
  public static Builder builder(String... uris) {
    return new Builder(Arrays.asList(uris));
  }

  /**
   * Where the servers are.
   *
   * @return addresses, without what a builder was told besides
   */
  List<String> uris() {
    return uris;
  }

  Optional<String> user() {
    return user;
  }

  char[] password() {
    return password.clone();
  }

  Optional<Path> trustedCertificates() {
    return trustedCertificates;
  }

  Optional<Path> certificate() {
    return certificate;
  }

  Optional<Path> privateKey() {
    return privateKey;
  }

  /**
   * Which copies are read.
   *
   * @return the choice
   */
  public ReadFrom readFrom() {
    return readFrom;
  }

  /**
   * Connections to each node.
   *
   * @return at least 1
   */
  public int connections() {
    return connections;
  }

  /**
   * Rows that are asked for together.
   *
   * @return at least 1
   */
  public int rowsPerWindow() {
    return rowsPerWindow;
  }

  /**
   * Windows of one read that are under way at once.
   *
   * @return at least 1
   */
  public int windows() {
    return windows;
  }

  /**
   * Rows that all reads together may have asked for and not received.
   *
   * @return at least {@link #rowsPerWindow}
   */
  public int maxOutstanding() {
    return maxOutstanding;
  }

  /**
   * How long a node may be silent before its connection is given up.
   *
   * @return at least a millisecond
   */
  public Duration attemptTimeout() {
    return attemptTimeout;
  }

  /**
   * How long a window of rows is tried for.
   *
   * @return no less than {@link #attemptTimeout}
   */
  public Duration deadline() {
    return deadline;
  }

  /** The addresses, without passwords. */
  @Override
  public String toString() {
    return String.join(",", uris.stream().map(u -> u.replaceFirst("//.*@", "//")).toList());
  }

  /** Changes some options. Not thread-safe. */
  public static final class Builder {
    private final List<String> uris;
    private Optional<String> user = Optional.empty();
    private char[] password = new char[0];
    private Optional<Path> trustedCertificates = Optional.empty();
    private Optional<Path> certificate = Optional.empty();
    private Optional<Path> privateKey = Optional.empty();
    private ReadFrom readFrom = ReadFrom.MASTER;
    private int connections = 1;
    private int rowsPerWindow = 256;
    private int windows = 4;
    private int maxOutstanding = 1 << 14;
    private Duration attemptTimeout = Duration.ofSeconds(2);
    private Duration deadline = Duration.ofSeconds(10);

    private Builder(List<String> uris) {
      this.uris = uris;
    }

    /**
     * Who to be, instead of what the addresses say: a password on a command line is seen by
     * everybody on the machine.
     *
     * @param name a user of the server's access list, or nothing for its default user
     * @param secret the password
     * @return this
     */
    public Builder credentials(Optional<String> name, char[] secret) {
      user = Objects.requireNonNull(name, "name");
      password = secret.clone();
      return this;
    }

    /**
     * Whose certificates are trusted, instead of the JVM's authorities.
     *
     * @param pem certificates
     * @return this
     */
    public Builder trustedCertificates(Path pem) {
      trustedCertificates = Optional.of(pem);
      return this;
    }

    /**
     * A certificate to show to servers that ask for one.
     *
     * @param pem the certificate and those it rests on
     * @param key its private key, PKCS#8 in PEM, without a password
     * @return this
     */
    public Builder clientCertificate(Path pem, Path key) {
      certificate = Optional.of(pem);
      privateKey = Optional.of(key);
      return this;
    }

    /**
     * Which copies are read; the owner's by default.
     *
     * @param choice the choice
     * @return this
     */
    public Builder readFrom(ReadFrom choice) {
      readFrom = Objects.requireNonNull(choice, "choice");
      return this;
    }

    /**
     * Connections to each node, each served by one thread of the client; 1 by default.
     *
     * @param count 1 to 64
     * @return this
     */
    public Builder connections(int count) {
      connections = count;
      return this;
    }

    /**
     * How a read is cut: rows that are asked for together, and how many such windows of one read
     * are under way at once; 256 and 4 by default. Fewer rows where they are large.
     *
     * @param rows 1 to 16,384
     * @param count 1 to 64
     * @return this
     */
    public Builder windows(int rows, int count) {
      rowsPerWindow = rows;
      windows = count;
      return this;
    }

    /**
     * Rows that all reads together may have asked for and not received; 16,384 by default.
     *
     * @param rows no fewer than a window has, at most 2^20
     * @return this
     */
    public Builder maxOutstanding(int rows) {
      maxOutstanding = rows;
      return this;
    }

    /**
     * How long a node may be silent before its connection is given up and its rows are asked for
     * again, and how long rows are tried for in all; 2 and 10 seconds by default. The second must
     * outlast what the cluster takes to replace a lost node.
     *
     * @param attempt at least a millisecond
     * @param all no less than that
     * @return this
     */
    public Builder timeouts(Duration attempt, Duration all) {
      attemptTimeout = attempt;
      deadline = all;
      return this;
    }

    /**
     * The options.
     *
     * @return them
     * @throws IllegalArgumentException if a value is out of its range
     */
    public RedisOptions build() {
      return new RedisOptions(this);
    }
  }
}
