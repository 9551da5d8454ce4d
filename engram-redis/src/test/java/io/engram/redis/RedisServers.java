// SPDX-License-Identifier: Apache-2.0
package io.engram.redis;

import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.io.IOException;
import java.net.ServerSocket;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.stream.Stream;

/** Real servers on loopback, one or a cluster of six, which end with the test or the JVM. */
public final class RedisServers implements AutoCloseable {
  private final Path directory;
  private final List<Process> processes = new ArrayList<>();
  private final List<Integer> ports = new ArrayList<>();
  private final Thread hook = new Thread(this::kill);

  private RedisServers(Path directory) {
    this.directory = directory;
    Runtime.getRuntime().addShutdownHook(hook);
  }

  /** The program, which Debian's package redis-server has. */
  static String binary(String name) {
    for (String place : System.getenv("PATH").split(":", -1)) {
      Path file = Path.of(place, name);
      if (Files.isExecutable(file)) {
        return file.toString();
      }
    }
    assumeTrue(false, name + " is not installed (Debian: apt-get install redis-server)");
    throw new AssertionError();
  }

  /** One server, with further options. */
  public static RedisServers standalone(String... options) throws IOException {
    RedisServers servers = new RedisServers(Files.createTempDirectory("engram-redis"));
    servers.start(options);
    servers.awaitReady();
    return servers;
  }

  /** Three masters with a replica each. */
  static RedisServers cluster(String... options) throws IOException {
    RedisServers servers = new RedisServers(Files.createTempDirectory("engram-redis"));
    List<String> all =
        new ArrayList<>(List.of("--cluster-enabled", "yes", "--cluster-node-timeout", "2000"));
    all.addAll(Arrays.asList(options));
    for (int i = 0; i < 6; i++) {
      servers.start(all.toArray(String[]::new));
    }
    servers.awaitReady();
    List<String> create = new ArrayList<>(List.of("--cluster", "create"));
    servers.ports.forEach(port -> create.add("127.0.0.1:" + port));
    create.addAll(List.of("--cluster-replicas", "1", "--cluster-yes"));
    cli(create.toArray(String[]::new));
    long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(90);
    for (int node = 0; node < 6; node++) {
      while (!cli("-p", "" + servers.ports.get(node), "cluster", "info")
              .contains("cluster_state:ok")
          || cli("-p", "" + servers.ports.get(node), "info", "replication")
              .contains("master_link_status:down")) {
        if (System.nanoTime() > deadline) {
          throw new IllegalStateException("the cluster does not come up: " + servers.directory);
        }
        sleep(50);
      }
    }
    return servers;
  }

  private static int freePort() throws IOException {
    while (true) {
      try (ServerSocket socket = new ServerSocket(0)) {
        // A cluster's nodes talk to each other 10,000 ports above.
        if (socket.getLocalPort() < 55_000) {
          return socket.getLocalPort();
        }
      }
    }
  }

  private void start(String... options) throws IOException {
    int port;
    do {
      port = freePort();
    } while (ports.contains(port));
    ports.add(port);
    processes.add(launch(port, options));
  }

  private Process launch(int port, String... options) throws IOException {
    Path home = Files.createDirectories(directory.resolve("" + port));
    List<String> command =
        new ArrayList<>(
            List.of(
                binary("redis-server"),
                "--bind",
                "127.0.0.1",
                "--dir",
                home.toString(),
                "--save",
                "",
                "--appendonly",
                "no",
                "--repl-diskless-sync-delay",
                "0"));
    List<String> given = Arrays.asList(options);
    if (given.contains("--tls-cert-file")) {
      command.addAll(List.of("--port", "0", "--tls-port", "" + port));
    } else {
      command.addAll(List.of("--port", "" + port));
    }
    command.addAll(given);
    return new ProcessBuilder(command)
        .redirectErrorStream(true)
        .redirectOutput(home.resolve("log").toFile())
        .start();
  }

  private void awaitReady() throws IOException {
    long deadline = System.nanoTime() + TimeUnit.SECONDS.toNanos(60);
    for (int i = 0; i < ports.size(); i++) {
      Path log = directory.resolve("" + ports.get(i)).resolve("log");
      while (!Files.exists(log) || !Files.readString(log).contains("Ready to accept connections")) {
        if (System.nanoTime() > deadline || !processes.get(i).isAlive()) {
          throw new IllegalStateException("redis-server does not start: " + Files.readString(log));
        }
        sleep(10);
      }
    }
  }

  private static void sleep(long millis) {
    try {
      Thread.sleep(millis);
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    }
  }

  /** What redis-cli prints. */
  static String cli(String... arguments) throws IOException {
    List<String> command = new ArrayList<>(List.of(binary("redis-cli")));
    command.addAll(Arrays.asList(arguments));
    Process process = new ProcessBuilder(command).redirectErrorStream(true).start();
    return new String(
        process.getInputStream().readAllBytes(), java.nio.charset.StandardCharsets.UTF_8);
  }

  /** What redis-cli prints about a node. */
  String ask(int node, String... arguments) throws IOException {
    List<String> all = new ArrayList<>(List.of("-p", "" + ports.get(node)));
    all.addAll(Arrays.asList(arguments));
    return cli(all.toArray(String[]::new)).strip();
  }

  int port(int node) {
    return ports.get(node);
  }

  int size() {
    return ports.size();
  }

  /** Address of a node. */
  public String uri(int node) {
    return "redis://127.0.0.1:" + ports.get(node);
  }

  /** Nodes that are masters now, by what they say of themselves. */
  List<Integer> masters() throws IOException {
    List<Integer> masters = new ArrayList<>();
    for (int node = 0; node < ports.size(); node++) {
      if (processes.get(node).isAlive() && ask(node, "role").startsWith("master")) {
        masters.add(node);
      }
    }
    return masters;
  }

  /** Ends a node as a power failure does. */
  void kill(int node) throws IOException {
    processes.get(node).destroyForcibly();
    try {
      processes.get(node).waitFor();
    } catch (InterruptedException e) {
      throw new IOException(e);
    }
  }

  /** Sends a signal such as STOP or CONT. */
  void signal(int node, String signal) throws IOException {
    try {
      new ProcessBuilder("kill", "-" + signal, "" + processes.get(node).pid()).start().waitFor();
    } catch (InterruptedException e) {
      throw new IOException(e);
    }
  }

  long pid(int node) {
    return processes.get(node).pid();
  }

  private void kill() {
    processes.forEach(Process::destroyForcibly);
  }

  @Override
  public void close() throws IOException {
    kill();
    for (Process process : processes) {
      try {
        process.waitFor();
      } catch (InterruptedException e) {
        throw new IOException(e);
      }
    }
    Runtime.getRuntime().removeShutdownHook(hook);
    try (Stream<Path> files = Files.walk(directory)) {
      for (Path file : files.sorted(Comparator.reverseOrder()).toList()) {
        Files.delete(file);
      }
    }
  }
}
