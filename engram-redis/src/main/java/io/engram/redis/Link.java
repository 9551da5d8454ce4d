// SPDX-License-Identifier: Apache-2.0
package io.engram.redis;

import io.engram.EngramException;
import io.lettuce.core.AbstractRedisClient;
import io.lettuce.core.ClientOptions;
import io.lettuce.core.RedisClient;
import io.lettuce.core.RedisCommandExecutionException;
import io.lettuce.core.RedisException;
import io.lettuce.core.RedisFuture;
import io.lettuce.core.RedisURI;
import io.lettuce.core.SocketOptions;
import io.lettuce.core.SslOptions;
import io.lettuce.core.api.StatefulRedisConnection;
import io.lettuce.core.cluster.ClusterClientOptions;
import io.lettuce.core.cluster.ClusterTopologyRefreshOptions;
import io.lettuce.core.cluster.RedisClusterClient;
import io.lettuce.core.cluster.api.StatefulRedisClusterConnection;
import io.lettuce.core.cluster.api.async.RedisClusterAsyncCommands;
import io.lettuce.core.cluster.models.partitions.RedisClusterNode;
import io.lettuce.core.codec.ByteArrayCodec;
import io.lettuce.core.protocol.CommandHandler;
import io.lettuce.core.protocol.ConnectionIntent;
import io.lettuce.core.resource.ClientResources;
import io.lettuce.core.resource.Delay;
import io.lettuce.core.resource.NettyCustomizer;
import io.netty.channel.Channel;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.locks.LockSupport;
import java.util.function.Supplier;

/**
 * The connections to a server or a cluster, and who owns which slot.
 *
 * <p>Thread-safe.
 */
abstract sealed class Link implements AutoCloseable {
  /**
   * A node and the way to it.
   *
   * @param name host and port, for messages
   * @param replica whether its copy may lag behind the owner's
   * @param connection takes its commands
   */
  record Node(String name, boolean replica, StatefulRedisConnection<byte[], byte[]> connection) {}

  static final long FIRST_PAUSE = TimeUnit.MILLISECONDS.toNanos(10);
  static final long LONGEST_PAUSE = TimeUnit.MILLISECONDS.toNanos(250);

  private static final Duration CLOSING = Duration.ofSeconds(2);

  /** Less than this is too short for a handshake, however impatient reads are. */
  private static final Duration LEAST_CONNECTING = Duration.ofSeconds(2);

  final RedisOptions options;
  private final ClientResources resources;
  private final AbstractRedisClient client;
  private volatile boolean closed;

  private Link(RedisOptions options, ClientResources resources, AbstractRedisClient client) {
    this.options = options;
    this.resources = resources;
    this.client = client;
  }

  /** Connects, and finds out whether it is a cluster. */
  static Link connect(RedisOptions options) {
    ClientResources resources =
        ClientResources.builder()
            // A node that comes back must be found within a read's deadline.
            .reconnectDelay(
                Delay.exponential(
                    Duration.ofMillis(10), Duration.ofMillis(500), 2, TimeUnit.MILLISECONDS))
            .nettyCustomizer(
                new NettyCustomizer() {
                  @Override
                  public void afterChannelInitialized(Channel channel) {
                    channel
                        .pipeline()
                        .addAfter(
                            channel.pipeline().context(CommandHandler.class).name(),
                            "engram-batches",
                            new NodeBatch.Expander());
                  }
                })
            .build();
    List<AbstractRedisClient> clients = new ArrayList<>();
    try {
      List<RedisURI> uris = uris(options, handshake(options));
      RedisClient single = RedisClient.create(resources);
      clients.add(single);
      single.setOptions(apply(ClientOptions.builder(), options).build());
      RuntimeException unreachable = null;
      for (RedisURI uri : uris) {
        try {
          return connect(options, resources, single, uri, uris, clients);
        } catch (RedisException e) {
          unreachable = e;
        }
      }
      throw unreachable;
    } catch (RuntimeException e) {
      clients.forEach(c -> c.shutdown(Duration.ZERO, CLOSING));
      resources.shutdown(0, CLOSING.toMillis(), TimeUnit.MILLISECONDS).awaitUninterruptibly();
      if (e instanceof RedisException) {
        throw new EngramException(
            options + ": no connection: " + cause(e) + "; check address, password and TLS", e);
      }
      throw e;
    }
  }

  private static Link connect(
      RedisOptions options,
      ClientResources resources,
      RedisClient single,
      RedisURI uri,
      List<RedisURI> uris,
      List<AbstractRedisClient> clients) {
    StatefulRedisConnection<byte[], byte[]> first = single.connect(ByteArrayCodec.INSTANCE, uri);
    // A connection that has just been made may still refuse a command.
    String kind = retry(options, () -> first.sync().info("cluster"));
    if (!kind.contains("cluster_enabled:1")) {
      if (uris.size() > 1) {
        throw new EngramException(
            options
                + ": "
                + uris.size()
                + " addresses, but "
                + name(uri)
                + " is no node of a cluster; give the address of one server");
      }
      List<StatefulRedisConnection<byte[], byte[]>> connections = new ArrayList<>(List.of(first));
      for (int i = 1; i < options.connections(); i++) {
        connections.add(single.connect(ByteArrayCodec.INSTANCE, uri));
      }
      return new Single(options, resources, single, name(uri), connections);
    }
    first.close();
    // Nodes that do not answer hold up a look at the topology for as long as this.
    RedisClusterClient cluster =
        RedisClusterClient.create(resources, uris(options, connecting(options)));
    clients.add(cluster);
    cluster.setOptions(
        apply(ClusterClientOptions.builder(), options)
            .topologyRefreshOptions(
                ClusterTopologyRefreshOptions.builder()
                    .enablePeriodicRefresh(Duration.ofSeconds(10))
                    .adaptiveRefreshTriggersTimeout(Duration.ofSeconds(1))
                    .build())
            .build());
    retry(
        options,
        () -> {
          cluster.refreshPartitions();
          return cluster;
        });
    List<StatefulRedisClusterConnection<byte[], byte[]>> connections = new ArrayList<>();
    for (int i = 0; i < options.connections(); i++) {
      connections.add(retry(options, () -> cluster.connect(ByteArrayCodec.INSTANCE)));
    }
    single.shutdown(Duration.ZERO, CLOSING);
    return new Cluster(options, resources, cluster, connections);
  }

  private static <T> T retry(RedisOptions options, Supplier<T> attempt) {
    long deadline = System.nanoTime() + options.deadline().toNanos();
    while (true) {
      try {
        return attempt.get();
      } catch (RedisException e) {
        if (!isTransient(e) || System.nanoTime() - deadline > 0) {
          throw e;
        }
        LockSupport.parkNanos(FIRST_PAUSE);
      }
    }
  }

  private static Duration handshake(RedisOptions options) {
    Duration all = options.deadline();
    return all.compareTo(LEAST_CONNECTING) < 0 ? LEAST_CONNECTING : all;
  }

  private static Duration connecting(RedisOptions options) {
    Duration attempt = options.attemptTimeout();
    return attempt.compareTo(LEAST_CONNECTING) < 0 ? LEAST_CONNECTING : attempt;
  }

  private static String name(RedisURI uri) {
    return uri.getHost() + ":" + uri.getPort();
  }

  /** The innermost sentence: the outer ones say that something went wrong. */
  static String cause(Throwable e) {
    Throwable at = e;
    while (at.getCause() != null) {
      at = at.getCause();
    }
    return at.getMessage() == null ? at.toString() : at.getMessage();
  }

  private static List<RedisURI> uris(RedisOptions options, Duration timeout) {
    List<RedisURI> uris = new ArrayList<>();
    for (String text : options.uris()) {
      RedisURI uri = RedisURI.create(text);
      RedisURI.Builder builder =
          RedisURI.builder(uri).withTimeout(timeout).withClientName("engram");
      char[] password = options.password();
      if (password.length > 0) {
        if (options.user().isPresent()) {
          builder.withAuthentication(options.user().get(), password);
        } else {
          builder.withPassword(password);
        }
      }
      uris.add(builder.build());
    }
    return uris;
  }

  @SuppressWarnings("unchecked")
  private static <B extends ClientOptions.Builder> B apply(B builder, RedisOptions options) {
    SslOptions.Builder ssl = SslOptions.builder().jdkSslProvider();
    options.trustedCertificates().ifPresent(pem -> ssl.trustManager(pem.toFile()));
    options
        .certificate()
        .ifPresent(pem ->
            ssl.keyManager(pem.toFile(), options.privateKey().orElseThrow().toFile(), new char[0]));
    return (B)
        builder
            // Rows are asked for again by whoever waits for them, at whoever owns them by then.
            .disconnectedBehavior(ClientOptions.DisconnectedBehavior.REJECT_COMMANDS)
            .socketOptions(
                SocketOptions.builder()
                    .connectTimeout(connecting(options))
                    .keepAlive(true)
                    .tcpNoDelay(true)
                    .build())
            .sslOptions(ssl.build());
  }

  /** Whoever owns a slot now, by identity, or null. */
  abstract Object owner(int slot);

  /**
   * The node to read an owner's slots from.
   *
   * @param owner what {@link #owner} gave
   * @param ownerOnly whether a replica will not do
   * @param turn chooses among copies
   * @param deadline by {@link System#nanoTime}
   * @throws RedisException if the node is not reached
   */
  abstract Node node(Object owner, boolean ownerOnly, long turn, long deadline)
      throws InterruptedException;

  /** Nodes that own slots. */
  abstract List<Node> masters();

  /** Part of all slots that each of {@link #masters} owns, in the same order. */
  abstract List<Double> shares();

  /** Asks the cluster anew who owns what, and waits a little for the answer. */
  abstract void refresh() throws InterruptedException;

  /** Commands for single keys, sent to whoever owns them, redirections followed. */
  abstract RedisClusterAsyncCommands<byte[], byte[]> routed();

  /** One try of a command. */
  interface Attempt<T> {
    RedisFuture<T> start();
  }

  /**
   * Runs a command for few keys that may be run again: tries until the deadline as long as its node
   * is not there or is being replaced.
   *
   * @throws EngramException saying what was tried, if the server refuses it or the time is up
   */
  <T> T call(String what, Attempt<T> attempt) {
    long deadline = System.nanoTime() + options.deadline().toNanos();
    long pause = FIRST_PAUSE;
    while (true) {
      Throwable failure;
      try {
        return attempt.start().get(options.attemptTimeout().toNanos(), TimeUnit.NANOSECONDS);
      } catch (ExecutionException e) {
        failure = e.getCause();
      } catch (TimeoutException | RedisException e) {
        failure = e;
      } catch (InterruptedException e) {
        throw interrupted(what, e);
      }
      if (closed) {
        throw new IllegalStateException(what + ": the connection is closed");
      }
      if (!isTransient(failure) || System.nanoTime() - deadline > 0) {
        throw refused(what, failure);
      }
      try {
        refresh();
        TimeUnit.NANOSECONDS.sleep(pause);
      } catch (InterruptedException e) {
        throw interrupted(what, e);
      }
      pause = Math.min(2 * pause, LONGEST_PAUSE);
    }
  }

  EngramException refused(String what, Throwable failure) {
    String why = cause(failure);
    return new EngramException(
        what
            + " ("
            + options
            + "): "
            + why
            + (why.startsWith("OOM")
                ? "; give the servers more memory and resume with the same command"
                : ""),
        failure);
  }

  static EngramException interrupted(String what, InterruptedException e) {
    Thread.currentThread().interrupt();
    return new EngramException(what + ": interrupted", e);
  }

  /** Whether waiting may help: a node that is gone, is being replaced or is loading. */
  static boolean isTransient(Throwable failure) {
    return !(failure instanceof RedisCommandExecutionException)
        || isTransient(failure.getMessage());
  }

  static boolean isTransient(String error) {
    return error.startsWith("MOVED ")
        || error.startsWith("ASK ")
        || error.startsWith("CLUSTERDOWN")
        || error.startsWith("LOADING")
        || error.startsWith("MASTERDOWN")
        || error.startsWith("TRYAGAIN")
        || error.startsWith("READONLY")
        || error.startsWith("BUSY ");
  }

  /** Whether keys are spread over slots with owners. */
  abstract boolean isCluster();

  boolean isClosed() {
    return closed;
  }

  abstract void closeConnections();

  @Override
  public void close() {
    if (closed) {
      return;
    }
    closed = true;
    closeConnections();
    client.shutdown(Duration.ZERO, CLOSING);
    resources.shutdown(0, CLOSING.toMillis(), TimeUnit.MILLISECONDS).awaitUninterruptibly();
  }

  /** One server. */
  static final class Single extends Link {
    private final List<Node> nodes;

    private Single(
        RedisOptions options,
        ClientResources resources,
        RedisClient client,
        String name,
        List<StatefulRedisConnection<byte[], byte[]>> connections) {
      super(options, resources, client);
      nodes = connections.stream().map(c -> new Node(name, false, c)).toList();
    }

    @Override
    Object owner(int slot) {
      return this;
    }

    @Override
    Node node(Object owner, boolean ownerOnly, long turn, long deadline) {
      return nodes.get((int) Long.remainderUnsigned(turn, nodes.size()));
    }

    @Override
    List<Node> masters() {
      return List.of(nodes.getFirst());
    }

    @Override
    List<Double> shares() {
      return List.of(1.0);
    }

    @Override
    void refresh() {}

    @Override
    RedisClusterAsyncCommands<byte[], byte[]> routed() {
      return nodes.getFirst().connection().async();
    }

    @Override
    void closeConnections() {
      nodes.forEach(n -> n.connection().close());
    }

    @Override
    boolean isCluster() {
      return false;
    }
  }

  /** A cluster. */
  static final class Cluster extends Link {
    private static final int SLOTS = 16_384;

    private final RedisClusterClient client;
    private final List<StatefulRedisClusterConnection<byte[], byte[]>> connections;
    private CompletableFuture<Void> refreshing = CompletableFuture.completedFuture(null);

    private Cluster(
        RedisOptions options,
        ClientResources resources,
        RedisClusterClient client,
        List<StatefulRedisClusterConnection<byte[], byte[]>> connections) {
      super(options, resources, client);
      this.client = client;
      this.connections = List.copyOf(connections);
    }

    @Override
    Object owner(int slot) {
      return connections.getFirst().getPartitions().getPartitionBySlot(slot);
    }

    @Override
    Node node(Object owner, boolean ownerOnly, long turn, long deadline)
        throws InterruptedException {
      StatefulRedisClusterConnection<byte[], byte[]> connection =
          connections.get((int) Long.remainderUnsigned(turn, connections.size()));
      RedisClusterNode master = (RedisClusterNode) owner;
      if (ownerOnly || options.readFrom() == RedisOptions.ReadFrom.MASTER) {
        return open(connection, master, false, deadline);
      }
      List<RedisClusterNode> copies = new ArrayList<>();
      if (options.readFrom() == RedisOptions.ReadFrom.ANY) {
        copies.add(master);
      }
      for (RedisClusterNode node : connection.getPartitions()) {
        if (master.getNodeId().equals(node.getSlaveOf())
            && !node.is(RedisClusterNode.NodeFlag.FAIL)) {
          copies.add(node);
        }
      }
      RedisClusterNode chosen =
          copies.isEmpty() ? master : copies.get((int) Long.remainderUnsigned(turn, copies.size()));
      boolean replica = !chosen.getNodeId().equals(master.getNodeId());
      return open(connection, chosen, replica, deadline);
    }

    private static Node open(
        StatefulRedisClusterConnection<byte[], byte[]> connection,
        RedisClusterNode node,
        boolean replica,
        long deadline)
        throws InterruptedException {
      CompletableFuture<StatefulRedisConnection<byte[], byte[]>> opening =
          connection.getConnectionAsync(
              node.getNodeId(), replica ? ConnectionIntent.READ : ConnectionIntent.WRITE);
      String name = name(node.getUri());
      try {
        return new Node(
            name,
            replica,
            opening.get(Math.max(1, deadline - System.nanoTime()), TimeUnit.NANOSECONDS));
      } catch (ExecutionException e) {
        throw new RedisException(name + " is not reached: " + cause(e));
      } catch (TimeoutException e) {
        throw new RedisException(name + " is not reached in time");
      }
    }

    @Override
    List<Node> masters() {
      List<Node> nodes = new ArrayList<>();
      long deadline = System.nanoTime() + options.deadline().toNanos();
      for (RedisClusterNode node : owners()) {
        try {
          nodes.add(open(connections.getFirst(), node, false, deadline));
        } catch (InterruptedException e) {
          Thread.currentThread().interrupt();
          throw new EngramException("interrupted while connecting", e);
        }
      }
      return nodes;
    }

    @Override
    List<Double> shares() {
      return owners().stream().map(n -> (double) n.getSlots().size() / SLOTS).toList();
    }

    private List<RedisClusterNode> owners() {
      return connections.getFirst().getPartitions().stream()
          .filter(n -> n.getRole().isUpstream() && !n.getSlots().isEmpty())
          .toList();
    }

    @Override
    void refresh() throws InterruptedException {
      CompletableFuture<Void> current;
      synchronized (this) {
        if (refreshing.isDone()) {
          refreshing = client.refreshPartitionsAsync().toCompletableFuture();
        }
        current = refreshing;
      }
      try {
        current.get(500, TimeUnit.MILLISECONDS);
      } catch (TimeoutException | ExecutionException e) {
        // The old view stays until a new one is there: whoever waits tries again until its
        // deadline.
        return;
      }
    }

    @Override
    RedisClusterAsyncCommands<byte[], byte[]> routed() {
      return connections.getFirst().async();
    }

    @Override
    void closeConnections() {
      connections.forEach(StatefulRedisClusterConnection::close);
    }

    @Override
    boolean isCluster() {
      return true;
    }
  }
}
