// SPDX-License-Identifier: Apache-2.0
package io.engram.redis;

import io.engram.EngramException;
import io.engram.store.RowStore;
import io.engram.table.RowDigest;
import io.engram.table.TableIdentity;
import io.lettuce.core.RedisException;
import io.lettuce.core.RedisFuture;
import io.lettuce.core.ScriptOutputType;
import java.lang.foreign.MemorySegment;
import java.nio.charset.StandardCharsets;
import java.security.SecureRandom;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.BitSet;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.TreeMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.zip.CRC32C;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Loads a table into a server or cluster: create-only, and atomically.
 *
 * <p>Values are written first, then waited for at the replicas, then read back and compared with
 * the source; only then the table is announced, in one step. A table that is not announced cannot
 * be opened. Whenever the load is interrupted, the process killed included, the same call resumes
 * it: values that are there are not written again. A lock that expires keeps two publishers of one
 * name apart.
 *
 * <p>Not thread-safe; used once.
 */
public final class RedisPublisher {
  private static final Logger LOG = LoggerFactory.getLogger(RedisPublisher.class);

  /** Bytes that are on their way and not acknowledged. */
  private static final int BYTES_AHEAD = 16 << 20;

  private static final int KEYS_AHEAD = 1024;
  private static final int REPORT_MILLIS = 500;

  /** A key, its entry in the server's dictionary and the object around its value. */
  private static final int KEY_BYTES = 160;

  /** Announces a table if this publisher holds the lock and nobody else changed anything. */
  private static final String ANNOUNCE =
      """
      local there = redis.call('GET', KEYS[1])
      if there then return there == ARGV[1] and 'OK' or 'another table has this name by now' end
      if redis.call('GET', KEYS[3]) ~= ARGV[3] then return 'the lock was lost' end
      if redis.call('GET', KEYS[2]) ~= ARGV[2] then return 'the load was given up by another' end
      redis.call('SET', KEYS[1], ARGV[1])
      redis.call('DEL', KEYS[2])
      return 'OK'
      """;

  /** What a deletion starts with: from here on nobody can open or resume the table. */
  private static final String WITHDRAW =
      """
      if redis.call('GET', KEYS[3]) ~= ARGV[2] then return 'the lock was lost' end
      redis.call('SET', KEYS[2], ARGV[1])
      redis.call('DEL', KEYS[1])
      return 'OK'
      """;

  /** What a load starts with; gives back what is there already. */
  private static final String BEGIN =
      """
      if redis.call('EXISTS', KEYS[1]) == 1 then return 'EXISTS' end
      redis.call('SET', KEYS[2], ARGV[1], 'NX')
      return redis.call('GET', KEYS[2])
      """;

  private static final String LOCK =
      """
      local holder = redis.call('GET', KEYS[1])
      if holder and holder ~= ARGV[1] then return 0 end
      redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
      return 1
      """;

  private static final String RELEASE =
      "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end return 1";

  /** What a publisher is at. */
  public enum Phase {
    /** Writing values. */
    LOADING,
    /** Reading values back. */
    VERIFYING
  }

  /** Is told how far a publisher is, by the publishing thread. */
  @FunctionalInterface
  public interface Listener {
    /**
     * Some rows more are done.
     *
     * @param phase what is being done
     * @param rows rows that this phase is done with
     */
    void reached(Phase phase, long rows);
  }

  /**
   * What became of a load.
   *
   * @param table the table, as it was announced
   * @param values number of values
   * @param written values that were written by this call; the others were there already
   * @param warnings sentences about the servers' settings, which decide whether the table stays
   */
  public record Published(RedisTable table, int values, int written, List<String> warnings) {
    /** Copies the list. */
    public Published {
      warnings = List.copyOf(warnings);
    }
  }

  private final Link link;
  private final String name;
  private final TableIdentity identity;
  private final RowStore source;
  private int rowsPerValue;
  private Duration lockTime = Duration.ofSeconds(15);
  private boolean evictionAllowed;
  private Listener listener = (_, _) -> {};

  RedisPublisher(Link link, String name, TableIdentity identity, RowStore source) {
    this.link = link;
    this.name = Objects.requireNonNull(name, "name");
    this.identity = Objects.requireNonNull(identity, "identity");
    this.source = Objects.requireNonNull(source, "source");
    RedisTable.checkName(name);
    if (source.rowCount() != identity.rowCount() || source.rowBytes() != identity.rowBytes()) {
      throw new IllegalArgumentException(
          name
              + ": the source has "
              + source.rowCount()
              + " rows of "
              + source.rowBytes()
              + " bytes, its identity says "
              + identity.rowCount()
              + " of "
              + identity.rowBytes());
    }
    rowsPerValue = Chunks.rowsPerValue(identity.rowBytes());
  }

  /**
   * Rows of one value. By default as many as fill one of the server's allocation sizes, a mebibyte.
   *
   * @param rows at least 1, and no more than 512 MiB of them
   * @return this
   * @throws IllegalArgumentException if it is out of range
   */
  public RedisPublisher rowsPerValue(int rows) {
    if (rows < 1 || (long) rows * identity.rowBytes() > 512L << 20) {
      throw new IllegalArgumentException(
          name + ": " + rows + " rows in a value, expected at least 1 and at most 512 MiB");
    }
    rowsPerValue = rows;
    return this;
  }

  /**
   * How long the name stays locked after a publisher was killed; 15 seconds by default. The lock is
   * renewed at a third of it.
   *
   * @param time at least 100 milliseconds
   * @return this
   */
  public RedisPublisher lockTime(Duration time) {
    if (time.toMillis() < 100) {
      throw new IllegalArgumentException(
          name + ": a lock of " + time + ", expected at least 0.1 s");
    }
    lockTime = time;
    return this;
  }

  /**
   * Loads also into servers that may throw rows away when their memory is full. Reads of such rows
   * fail.
   *
   * @return this
   */
  public RedisPublisher evictionAllowed() {
    evictionAllowed = true;
    return this;
  }

  /**
   * Who is told about progress.
   *
   * @param to is called after some rows each
   * @return this
   */
  public RedisPublisher listener(Listener to) {
    listener = Objects.requireNonNull(to, "to");
    return this;
  }

  /**
   * Loads the table, or the rest of it.
   *
   * @return what was done
   * @throws EngramException if the name is taken, another publisher is at it, another table was
   *     half loaded under it, the server's memory does not suffice or its settings allow it to
   *     throw rows away, the rows that are read back are not those of the source, or the server
   *     does not answer. Where it can be, the load is resumed by calling this again.
   */
  public Published publish() {
    link.call("table " + name, () -> link.routed().get(control("manifest")));
    try (Lock lock = new Lock(link, name, lockTime)) {
      RedisTable table = begin();
      Chunks chunks = table.chunks();
      BitSet present = present(chunks, lock);
      List<String> warnings = checkServers(table, present.cardinality());
      int[] checksums = new int[chunks.count()];
      int written = load(chunks, present, checksums, lock);
      awaitReplicas(lock);
      String digest = verify(chunks, present, checksums, lock);
      identity
          .contentDigest()
          .filter(expected -> !expected.equals(digest))
          .ifPresent(expected -> {
            throw new EngramException(
                "table "
                    + name
                    + ": the digest of the rows is "
                    + digest
                    + ", expected "
                    + expected
                    + "; the source is another table");
          });
      RedisTable complete =
          new RedisTable(
              name, identity.withContent(digest), table.generation(), table.rowsPerValue());
      lock.check();
      String outcome =
          script(
              ANNOUNCE,
              List.of("manifest", "loading", "lock"),
              complete.toJson("complete"),
              table.toJson("loading"),
              lock.token());
      if (!outcome.equals("OK")) {
        throw new EngramException("table " + name + " was not announced: " + outcome);
      }
      try {
        awaitReplicas(lock);
      } catch (EngramException e) {
        // The rows are on the replicas; what may be missing there is the word that they are whole.
        warnings.add("the table is published, but " + e.getMessage());
      }
      return new Published(complete, chunks.count(), written, warnings);
    }
  }

  private byte[] control(String what) {
    return RedisTable.controlKey(name, what);
  }

  private String script(String text, List<String> keys, byte[]... arguments) {
    return script(link, name, text, keys, arguments);
  }

  private static String script(
      Link link, String name, String text, List<String> keys, byte[]... arguments) {
    byte[][] names = keys.stream().map(k -> RedisTable.controlKey(name, k)).toArray(byte[][]::new);
    byte[] outcome =
        link.call(
            "table " + name,
            () -> link.routed().eval(text, ScriptOutputType.VALUE, names, arguments));
    return new String(outcome, StandardCharsets.UTF_8);
  }

  private RedisTable begin() {
    byte[] random = new byte[8];
    new SecureRandom().nextBytes(random);
    RedisTable fresh =
        new RedisTable(name, identity, HexFormat.of().formatHex(random), rowsPerValue);
    byte[] json = fresh.toJson("loading");
    String found = script(BEGIN, List.of("manifest", "loading"), json);
    if (found.equals("EXISTS")) {
      throw new EngramException(
          "table "
              + name
              + " is already at "
              + link.options
              + "; choose another name, or delete it with engram unpublish");
    }
    byte[] there = found.getBytes(StandardCharsets.UTF_8);
    if (Arrays.equals(json, there)) {
      return fresh;
    }
    if (!RedisTable.state(there).equals("loading")) {
      throw new EngramException(
          "table "
              + name
              + " at "
              + link.options
              + " is being deleted; finish with engram unpublish");
    }
    RedisTable begun = RedisTable.fromJson(name, there);
    identity
        .firstDifference(begun.identity())
        .ifPresent(difference -> {
          throw new EngramException(
              "table "
                  + name
                  + " at "
                  + link.options
                  + " was half loaded from another table: "
                  + difference
                  + "; delete it with engram unpublish");
        });
    return new RedisTable(name, identity, begun.generation(), begun.rowsPerValue());
  }

  /** Values that are there whole: a server takes a value as a whole or not at all. */
  private BitSet present(Chunks chunks, Lock lock) {
    BitSet present = new BitSet(chunks.count());
    for (int from = 0; from < chunks.count(); from += KEYS_AHEAD) {
      lock.check();
      int to = Math.min(from + KEYS_AHEAD, chunks.count());
      List<RedisFuture<Long>> lengths = new ArrayList<>();
      for (int chunk = from; chunk < to; chunk++) {
        lengths.add(link.routed().strlen(chunks.key(chunk)));
      }
      for (int chunk = from; chunk < to; chunk++) {
        byte[] key = chunks.key(chunk);
        long length = await(lengths.get(chunk - from), () -> link.routed().strlen(key));
        if (length == chunks.bytes(chunk)) {
          present.set(chunk);
        }
      }
    }
    return present;
  }

  /** The reply to a command that was started, or to one that is started after it failed. */
  private <T> T await(RedisFuture<T> started, Link.Attempt<T> again) {
    return await(link, name, started, again);
  }

  private static <T> T await(
      Link link, String name, RedisFuture<T> started, Link.Attempt<T> again) {
    try {
      return started.get(link.options.attemptTimeout().toNanos(), TimeUnit.NANOSECONDS);
    } catch (InterruptedException e) {
      throw Link.interrupted("table " + name, e);
    } catch (ExecutionException e) {
      if (!Link.isTransient(e.getCause())) {
        throw link.refused("table " + name, e.getCause());
      }
    } catch (TimeoutException | RedisException e) {
      LOG.debug("asking again: {}", e.toString());
    }
    return link.call("table " + name, again);
  }

  /** Refuses servers that are too small or throw rows away. */
  private List<String> checkServers(RedisTable table, int present) {
    List<String> warnings = new ArrayList<>();
    Chunks chunks = table.chunks();
    long missing = chunks.count() - (long) present;
    long each = Chunks.allocated((long) table.rowsPerValue() * identity.rowBytes()) + KEY_BYTES;
    long needed = missing * Math.min(each, Chunks.allocated(chunks.bytes(0)) + KEY_BYTES);
    List<Link.Node> masters = link.masters();
    List<Double> shares = link.shares();
    for (int i = 0; i < masters.size(); i++) {
      Link.Node node = masters.get(i);
      Map<String, String> info = info(node);
      long limit = Long.parseLong(info.getOrDefault("maxmemory", "0"));
      long used = Long.parseLong(info.getOrDefault("used_memory", "0"));
      String policy = info.getOrDefault("maxmemory_policy", "noeviction");
      if (policy.startsWith("allkeys")) {
        String sentence =
            "table "
                + name
                + ": "
                + node.name()
                + " has maxmemory-policy "
                + policy
                + ", so rows may vanish when its memory is full; set it to noeviction";
        if (!evictionAllowed) {
          throw new EngramException(sentence);
        }
        warnings.add(sentence);
      }
      long share = (long) (needed * shares.get(i));
      if (limit > 0 && used + share > limit) {
        throw new EngramException(
            "table "
                + name
                + ": "
                + node.name()
                + " uses "
                + used
                + " bytes and would take about "
                + share
                + " more, beyond its maxmemory of "
                + limit);
      }
      if (!"1".equals(info.get("aof_enabled"))) {
        warnings.add(
            node.name()
                + " writes no append-only file: after a restart without a snapshot, its rows are"
                + " gone");
      }
    }
    return warnings;
  }

  private Map<String, String> info(Link.Node node) {
    Map<String, String> info = new TreeMap<>();
    link.call("asking " + node.name(), () -> node.connection().async().info())
        .lines()
        .forEach(line -> {
          int colon = line.indexOf(':');
          if (colon > 0) {
            info.put(line.substring(0, colon), line.substring(colon + 1).strip());
          }
        });
    return info;
  }

  private byte[] fromSource(Chunks chunks, int chunk) {
    byte[] value = new byte[chunks.bytes(chunk)];
    long[] rows = new long[chunks.rows(chunk)];
    Arrays.setAll(rows, i -> chunks.firstRow(chunk) + i);
    source.read(rows, 0, rows.length, MemorySegment.ofArray(value), 0);
    return value;
  }

  private static int checksum(byte[] bytes) {
    CRC32C crc = new CRC32C();
    crc.update(bytes);
    return (int) crc.getValue();
  }

  /** A value that is on its way. */
  private static final class Pending {
    private final int chunk;
    private final byte[] value;
    private final RedisFuture<String> future;

    Pending(int chunk, byte[] value, RedisFuture<String> future) {
      this.chunk = chunk;
      this.value = value;
      this.future = future;
    }
  }

  private int load(Chunks chunks, BitSet present, int[] checksums, Lock lock) {
    ArrayDeque<Pending> ahead = new ArrayDeque<>();
    int depth = Math.clamp(BYTES_AHEAD / chunks.bytes(0), 1, KEYS_AHEAD);
    int written = 0;
    for (int chunk = 0; chunk < chunks.count(); chunk++) {
      if (!present.get(chunk)) {
        lock.check();
        if (ahead.size() == depth) {
          acknowledge(chunks, ahead.remove());
        }
        byte[] value = fromSource(chunks, chunk);
        checksums[chunk] = checksum(value);
        ahead.add(new Pending(chunk, value, link.routed().set(chunks.key(chunk), value)));
        written++;
      }
      listener.reached(Phase.LOADING, chunks.firstRow(chunk) + chunks.rows(chunk));
    }
    while (!ahead.isEmpty()) {
      acknowledge(chunks, ahead.remove());
    }
    return written;
  }

  private void acknowledge(Chunks chunks, Pending pending) {
    byte[] key = chunks.key(pending.chunk);
    await(pending.future, () -> link.routed().set(key, pending.value));
  }

  /** Waits until the replicas have what their masters have now. */
  private void awaitReplicas(Lock lock) {
    for (Link.Node node : link.masters()) {
      Map<String, String> before = info(node);
      long goal = Long.parseLong(before.getOrDefault("master_repl_offset", "0"));
      int replicas = Integer.parseInt(before.getOrDefault("connected_slaves", "0"));
      if (replicas > 0) {
        // Makes the replicas report now rather than at their next second; the offsets decide.
        link.call(
            "asking " + node.name(),
            () -> node.connection().async().waitForReplication(replicas, REPORT_MILLIS));
      }
      long deadline = System.nanoTime() + link.options.deadline().toNanos();
      long reached = -1;
      while (true) {
        lock.check();
        long behind = Long.MAX_VALUE;
        for (Map.Entry<String, String> entry : info(node).entrySet()) {
          // slave0:ip=127.0.0.1,port=6380,state=online,offset=42,lag=0
          if (entry.getKey().matches("slave\\d+")) {
            long offset = Long.parseLong(entry.getValue().replaceFirst(".*offset=(\\d+).*", "$1"));
            behind = Math.min(behind, offset);
          }
        }
        if (behind >= goal) {
          break;
        }
        long now = System.nanoTime();
        if (behind > reached) {
          reached = behind;
          deadline = now + link.options.deadline().toNanos();
        }
        if (now - deadline > 0) {
          throw new EngramException(
              "table "
                  + name
                  + ": a replica of "
                  + node.name()
                  + " does not catch up (offset "
                  + behind
                  + " of "
                  + goal
                  + "); mend it and resume with the same command");
        }
        try {
          Thread.sleep(20);
        } catch (InterruptedException e) {
          throw Link.interrupted("table " + name, e);
        }
      }
    }
  }

  /** Reads every value back, compares it with the source, and gives the digest of all rows. */
  private String verify(Chunks chunks, BitSet wereThere, int[] checksums, Lock lock) {
    int depth = Math.clamp(BYTES_AHEAD / chunks.bytes(0), 1, KEYS_AHEAD);
    ArrayDeque<RedisFuture<byte[]>> ahead = new ArrayDeque<>();
    int asked = 0;
    int[] blocks = new int[RowDigest.blocks(identity.rowCount())];
    CRC32C block = new CRC32C();
    int blockIndex = 0;
    long inBlock = 0;
    long blockBytes = (long) RowDigest.BLOCK_ROWS * identity.rowBytes();
    for (int chunk = 0; chunk < chunks.count(); chunk++) {
      lock.check();
      while (asked < chunks.count() && ahead.size() < depth) {
        ahead.add(link.routed().get(chunks.key(asked++)));
      }
      byte[] key = chunks.key(chunk);
      byte[] value = await(ahead.remove(), () -> link.routed().get(key));
      if (value == null || value.length != chunks.bytes(chunk)) {
        throw new EngramException(
            "table "
                + name
                + ": value "
                + new String(key, StandardCharsets.US_ASCII)
                + " has "
                + (value == null ? 0 : value.length)
                + " of "
                + chunks.bytes(chunk)
                + " bytes after it was written: evicted, or lost with its node; resume with the"
                + " same command");
      }
      int expected = wereThere.get(chunk) ? checksum(fromSource(chunks, chunk)) : checksums[chunk];
      if (checksum(value) != expected) {
        throw new EngramException(
            "table "
                + name
                + ": rows from "
                + chunks.firstRow(chunk)
                + " in value "
                + new String(key, StandardCharsets.US_ASCII)
                + " are not those of the source: it changed since the load began, or the value"
                + " did; delete the table with engram unpublish and publish it again");
      }
      int at = 0;
      while (at < value.length) {
        int part = (int) Math.min(value.length - at, blockBytes - inBlock);
        block.update(value, at, part);
        at += part;
        inBlock += part;
        if (inBlock == blockBytes) {
          blocks[blockIndex++] = (int) block.getValue();
          block.reset();
          inBlock = 0;
        }
      }
      listener.reached(Phase.VERIFYING, chunks.firstRow(chunk) + chunks.rows(chunk));
    }
    if (inBlock > 0) {
      blocks[blockIndex] = (int) block.getValue();
    }
    return RowDigest.of(identity.rowCount(), identity.rowBytes(), blocks);
  }

  static boolean unpublish(Link link, String name, Duration lockTime) {
    RedisTable.checkName(Objects.requireNonNull(name, "name"));
    try (Lock lock = new Lock(link, name, lockTime)) {
      byte[] description = null;
      for (String key : List.of("loading", "manifest")) {
        if (description == null) {
          description =
              link.call("table " + name, () -> link.routed().get(RedisTable.controlKey(name, key)));
        }
      }
      if (description == null) {
        return false;
      }
      RedisTable table = RedisTable.fromJson(name, description);
      String outcome =
          script(
              link,
              name,
              WITHDRAW,
              List.of("manifest", "loading", "lock"),
              table.toJson("deleting"),
              lock.token());
      if (!outcome.equals("OK")) {
        throw new EngramException("table " + name + " was not deleted: " + outcome);
      }
      Chunks chunks = table.chunks();
      for (int from = 0; from < chunks.count(); from += KEYS_AHEAD) {
        lock.check();
        int to = Math.min(from + KEYS_AHEAD, chunks.count());
        List<RedisFuture<Long>> deleted = new ArrayList<>();
        for (int chunk = from; chunk < to; chunk++) {
          deleted.add(link.routed().unlink(chunks.key(chunk)));
        }
        for (int chunk = from; chunk < to; chunk++) {
          byte[] key = chunks.key(chunk);
          await(link, name, deleted.get(chunk - from), () -> link.routed().unlink(key));
        }
      }
      link.call("table " + name, () -> link.routed().del(RedisTable.controlKey(name, "loading")));
      return true;
    }
  }

  /** A name that is locked, renewed by a thread of its own until it is closed. */
  private static final class Lock implements AutoCloseable {
    private final Link link;
    private final String name;
    private final byte[] key;
    private final byte[] token;
    private final byte[] millis;
    private final Duration time;
    private final Thread renewing;
    private volatile long validUntil;
    private volatile boolean open = true;

    Lock(Link link, String name, Duration time) {
      this.link = link;
      this.name = name;
      this.time = time;
      key = RedisTable.controlKey(name, "lock");
      byte[] random = new byte[8];
      new SecureRandom().nextBytes(random);
      token =
          (ProcessHandle.current().pid() + "-" + HexFormat.of().formatHex(random))
              .getBytes(StandardCharsets.US_ASCII);
      millis = Long.toString(time.toMillis()).getBytes(StandardCharsets.US_ASCII);
      // A publisher that was killed holds its lock for a while; one that lives renews it.
      long giveUp = System.nanoTime() + 2 * time.toNanos();
      while (!renew()) {
        if (System.nanoTime() - giveUp > 0) {
          throw new EngramException(
              "table "
                  + name
                  + " at "
                  + link.options
                  + " is being published or deleted by another process; wait for it");
        }
        try {
          Thread.sleep(Math.min(200, time.toMillis() / 4));
        } catch (InterruptedException e) {
          throw Link.interrupted("table " + name, e);
        }
      }
      renewing = Thread.ofVirtual().name("engram-publish-lock").unstarted(this::renewAlways);
      renewing.start();
    }

    /** Takes the lock if it is free or this one's own, for its whole time. */
    private synchronized boolean renew() {
      long asked = System.nanoTime();
      long kept =
          link.call(
              "locking table " + name,
              () ->
                  link.routed()
                      .<Long>eval(
                          LOCK, ScriptOutputType.INTEGER, new byte[][] {key}, token, millis));
      if (kept == 1) {
        validUntil = asked + time.toNanos();
      }
      return kept == 1;
    }

    private void renewAlways() {
      while (open) {
        try {
          Thread.sleep(time.dividedBy(3));
          if (open && !renew()) {
            return;
          }
        } catch (InterruptedException e) {
          return;
        } catch (RuntimeException e) {
          LOG.debug("the lock of table {} was not renewed: {}", name, e.toString());
        }
      }
    }

    byte[] token() {
      return token.clone();
    }

    /** Fails if the lock expired and another process has it. */
    void check() {
      if (System.nanoTime() - validUntil > 0 && !renew()) {
        throw new EngramException(
            "table "
                + name
                + ": the lock was lost to another process, which publishes or deletes the table");
      }
    }

    @Override
    public void close() {
      open = false;
      renewing.interrupt();
      try {
        link.routed()
            .eval(RELEASE, ScriptOutputType.INTEGER, new byte[][] {key}, token)
            .get(link.options.attemptTimeout().toNanos(), TimeUnit.NANOSECONDS);
      } catch (InterruptedException e) {
        Thread.currentThread().interrupt();
      } catch (ExecutionException | TimeoutException | RuntimeException e) {
        // It expires by itself.
        LOG.debug("the lock of table {} was not released: {}", name, e.toString());
      }
    }
  }
}
