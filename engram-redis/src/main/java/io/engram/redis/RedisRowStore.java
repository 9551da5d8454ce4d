// SPDX-License-Identifier: Apache-2.0
package io.engram.redis;

import io.engram.EngramException;
import io.engram.store.RowStore;
import io.engram.table.TableIdentity;
import io.lettuce.core.RedisException;
import io.lettuce.core.RedisFuture;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Rows of a table that was published to a Redis or Valkey server or cluster.
 *
 * <p>A read is cut into windows, some of which are under way at once; a window asks each node once,
 * in one write, for all of its rows that are there, each of them once. What a reply brings is
 * checked to be a whole row. Rows of a node that is lost, replaced or silent are asked for again,
 * of whoever owns them by then, until the deadline: see {@link RedisOptions.Builder#timeouts}.
 *
 * <p>The table is pinned when it is opened: after it was deleted or replaced, reads fail.
 *
 * <p>A thread that is interrupted while it waits gets an {@link EngramException} and stays
 * interrupted. A read allocates a few small objects for each node and window, which the client
 * needs.
 */
public final class RedisRowStore implements RowStore {
  private static final int WINDOW_BYTES = 1 << 20;
  private static final int POOLED = 64;

  private static final byte[] START = ascii("*4\r\n$8\r\nGETRANGE\r\n$");
  private static final int MOST_NUMBERS = 2 * 20;

  private final RedisTables tables;
  private final Link link;
  private final RedisTable table;
  private final boolean ownsTables;
  private final Chunks chunks;
  private final char[] slots;
  private final byte[] head;
  private final int rowBytes;
  private final int windowRows;
  private final int windows;
  private final Semaphore outstanding;
  private final ConcurrentLinkedQueue<Window> pool = new ConcurrentLinkedQueue<>();
  private final AtomicLong turns = new AtomicLong();
  private volatile boolean closed;

  RedisRowStore(RedisTables tables, RedisTable table, boolean ownsTables) {
    this.tables = tables;
    this.link = tables.link();
    this.table = table;
    this.ownsTables = ownsTables;
    outstanding = tables.outstanding();
    chunks = table.chunks();
    slots = chunks.slots();
    rowBytes = table.identity().rowBytes();
    RedisOptions options = link.options;
    windowRows = Math.clamp(WINDOW_BYTES / rowBytes, 1, options.rowsPerWindow());
    windows = options.windows();
    head = concat(START, ascii(chunks.keyBytes() + "\r\n"));
  }

  /**
   * Connects and opens one table; closing the store closes the connections. For several tables use
   * {@link RedisTables}.
   *
   * @param options where the servers are and how to talk to them
   * @param name the table's name there
   * @param expected which table it must be; of its contents where a digest is given
   * @return the store
   * @throws IllegalArgumentException if it is no possible name
   * @throws EngramException if there is no such table, its load was not finished, it is another
   *     one, or the server does not answer
   */
  public static RedisRowStore open(RedisOptions options, String name, TableIdentity expected) {
    Objects.requireNonNull(name, "name");
    RedisTables tables = RedisTables.connect(options);
    try {
      return tables.open(name, expected, true);
    } catch (RuntimeException e) {
      tables.close();
      throw e;
    }
  }

  private static byte[] ascii(String text) {
    return text.getBytes(java.nio.charset.StandardCharsets.US_ASCII);
  }

  private static byte[] concat(byte[] a, byte[] b) {
    byte[] both = java.util.Arrays.copyOf(a, a.length + b.length);
    System.arraycopy(b, 0, both, a.length, b.length);
    return both;
  }

  @Override
  public String name() {
    return table.name();
  }

  @Override
  public long rowCount() {
    return table.identity().rowCount();
  }

  @Override
  public int rowBytes() {
    return rowBytes;
  }

  @Override
  public int preferredBatch() {
    return windowRows * windows;
  }

  /**
   * What the server said about the table when it was opened.
   *
   * @return the table
   */
  public RedisTable table() {
    return table;
  }

  @Override
  public void read(long[] rowIds, int from, int count, MemorySegment out, long outOffset) {
    checkOpen();
    checkArguments(rowIds, from, count, out, outOffset);
    List<Window> underway = new ArrayList<>(windows);
    List<Window> finished = new ArrayList<>(windows);
    int sent = 0;
    int received = 0;
    while (received < count) {
      while (sent < count && underway.size() < windows) {
        Window window = finished.isEmpty() ? take() : finished.removeLast();
        int rows = Math.min(windowRows, count - sent);
        window.fill(rowIds, from + sent, rows);
        start(window);
        underway.add(window);
        sent += rows;
      }
      Window window = underway.removeFirst();
      finish(window);
      long at = outOffset + (long) received * rowBytes;
      for (int i = 0; i < window.count(); i++) {
        MemorySegment.copy(
            window.bytes(), window.indexAt(i) * rowBytes, out, ValueLayout.JAVA_BYTE, at, rowBytes);
        at += rowBytes;
      }
      received += window.count();
      finished.add(window);
    }
    // After an exception windows are left to the collector: replies may still be written to them.
    finished.forEach(this::give);
  }

  private Window take() {
    Window window = pool.poll();
    return window == null ? new Window(windowRows, rowBytes, outstanding) : window;
  }

  private void give(Window window) {
    if (pool.size() < POOLED) {
      pool.add(window);
    }
  }

  private void checkArguments(
      long[] rowIds, int from, int count, MemorySegment out, long outOffset) {
    Objects.checkFromIndexSize(from, count, rowIds.length);
    if (outOffset < 0 || (long) count * rowBytes > out.byteSize() - outOffset) {
      throw new IllegalArgumentException(
          name()
              + ": "
              + count
              + " rows of "
              + rowBytes
              + " bytes do not fit an output of "
              + out.byteSize()
              + " bytes at "
              + outOffset);
    }
    if (out.isReadOnly()) {
      throw new IllegalArgumentException(name() + ": the output is read-only");
    }
    for (int i = from; i < from + count; i++) {
      if (rowIds[i] < 0 || rowIds[i] >= rowCount()) {
        throw new IndexOutOfBoundsException(
            name()
                + ": row id "
                + rowIds[i]
                + " at position "
                + i
                + ", expected 0 to "
                + (rowCount() - 1));
      }
    }
  }

  private void checkOpen() {
    if (closed || link.isClosed()) {
      throw new IllegalStateException(name() + ": the row store is closed");
    }
  }

  /** Sends all requests of a window. What cannot be sent is found when it is waited for. */
  private void start(Window window) {
    window.begin(link.options.deadline().toNanos(), turns.getAndIncrement());
    int[] pending = window.pending();
    for (int i = 0; i < window.unique(); i++) {
      pending[i] = i;
    }
    send(window, window.unique(), false);
  }

  /**
   * Sends requests for the rows that are pending.
   *
   * @param ownerOnly whether replicas will not do
   */
  private void send(Window window, int count, boolean ownerOnly) {
    int[] pending = window.pending();
    acquire(window, count);
    window.expect(count);
    // The few owners of a window, each with its batch.
    List<Object> owners = new ArrayList<>();
    List<NodeBatch> batches = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      RowRequest request = window.request(pending[i]);
      Object owner = link.owner(slots[chunks.ofRow(window.row(pending[i]))]);
      int at = 0;
      while (at < owners.size() && !Objects.equals(owners.get(at), owner)) {
        at++;
      }
      if (at == owners.size()) {
        owners.add(owner);
        batches.add(new NodeBatch());
      }
      batches.get(at).requests().add(request);
    }
    byte[] wire =
        window.wire(Math.multiplyExact(count, head.length + chunks.keyBytes() + 16 + MOST_NUMBERS));
    int at = 0;
    for (int b = 0; b < batches.size(); b++) {
      NodeBatch batch = batches.get(b);
      int start = at;
      for (RowRequest request : batch.requests()) {
        at = encode(window.row(request.index()), wire, at);
        request.startIn(batch);
      }
      batch.encoded(wire, start, at - start);
    }
    window.sent(batches);
    InterruptedException interrupted = null;
    for (int b = 0; b < batches.size(); b++) {
      NodeBatch batch = batches.get(b);
      try {
        if (interrupted != null) {
          throw interrupted;
        }
        if (owners.get(b) == null) {
          throw new RedisException("no node owns the slot");
        }
        long patience = nanosFromNow(link.options.attemptTimeout().toNanos());
        Link.Node node =
            link.node(
                owners.get(b), ownerOnly, window.turn(), Math.min(window.deadline(), patience));
        batch.to(node);
        node.connection().dispatch(batch);
      } catch (InterruptedException e) {
        interrupted = e;
        batch.completeExceptionally(e);
      } catch (RuntimeException e) {
        batch.completeExceptionally(e);
      }
    }
    if (interrupted != null) {
      throw Link.interrupted(name(), interrupted);
    }
  }

  private static long nanosFromNow(long nanos) {
    return System.nanoTime() + nanos;
  }

  private void acquire(Window window, int count) {
    try {
      if (!outstanding.tryAcquire(
          count, window.deadline() - System.nanoTime(), TimeUnit.NANOSECONDS)) {
        throw new EngramException(
            name()
                + ": "
                + link.options.maxOutstanding()
                + " rows have been asked for and do not come, for "
                + link.options.deadline()
                + " ("
                + link.options
                + "); check the servers");
      }
    } catch (InterruptedException e) {
      throw Link.interrupted(name(), e);
    }
  }

  private int encode(long row, byte[] out, int start) {
    int chunk = chunks.ofRow(row);
    int first = chunks.offset(row, chunk);
    System.arraycopy(head, 0, out, start, head.length);
    int at = chunks.putKey(chunk, out, start + head.length);
    at = putNumber(first, out, at);
    at = putNumber(first + rowBytes - 1, out, at);
    out[at++] = '\r';
    out[at++] = '\n';
    return at;
  }

  /** The end of the argument before, then the number as an argument. */
  private static int putNumber(int number, byte[] out, int start) {
    int digits = 1;
    for (int rest = number; rest >= 10; rest /= 10) {
      digits++;
    }
    int at = start;
    out[at++] = '\r';
    out[at++] = '\n';
    out[at++] = '$';
    if (digits == 10) {
      out[at++] = '1';
    }
    out[at++] = (byte) ('0' + digits % 10);
    out[at++] = '\r';
    out[at++] = '\n';
    int rest = number;
    for (int i = digits - 1; i >= 0; i--) {
      out[at + i] = (byte) ('0' + rest % 10);
      rest /= 10;
    }
    return at + digits;
  }

  /** Waits for all rows of a window, asking again where that may help. */
  private void finish(Window window) {
    long attempt = link.options.attemptTimeout().toNanos();
    long pause = Link.FIRST_PAUSE;
    String last = "";
    try {
      while (true) {
        long attemptEnd = Math.min(window.deadline(), window.sentAt() + attempt);
        if (!window.await(attemptEnd)) {
          last = giveUp(window);
        }
        int failed = 0;
        int[] pending = window.pending();
        for (NodeBatch batch : window.batches()) {
          for (RowRequest request : batch.requests()) {
            Optional<String> problem = problem(window, batch, request);
            if (problem.isPresent()) {
              last = problem.get();
              pending[failed++] = request.index();
            }
          }
        }
        if (failed == 0) {
          return;
        }
        checkOpen();
        if (System.nanoTime() - window.deadline() >= 0) {
          throw new EngramException(
              name()
                  + ": "
                  + failed
                  + " rows, row "
                  + window.row(pending[0])
                  + " among them, did not come within "
                  + link.options.deadline()
                  + ": "
                  + last
                  + "; check the servers, or allow more time if they are being replaced");
        }
        failed = followAsk(window, failed);
        if (failed == 0) {
          return;
        }
        link.refresh();
        TimeUnit.NANOSECONDS.sleep(pause);
        pause = Math.min(2 * pause, Link.LONGEST_PAUSE);
        send(window, failed, true);
      }
    } catch (InterruptedException e) {
      throw Link.interrupted(name(), e);
    }
  }

  /** The nodes have been silent for too long: what they have not answered fails. */
  private String giveUp(Window window) throws InterruptedException {
    String silent = "";
    for (NodeBatch batch : window.batches()) {
      if (batch.isUnderway()) {
        silent = batch.nodeName() + " was silent for " + link.options.attemptTimeout();
        batch.disconnect();
      }
    }
    // Closing a connection fails what waits on it, which takes no longer than the event loop does.
    long patience = Math.max(window.deadline(), nanosFromNow(TimeUnit.SECONDS.toNanos(1)));
    if (!window.await(patience)) {
      checkOpen();
      throw new EngramException(name() + ": " + silent + ", and its connection does not close");
    }
    return silent;
  }

  /** What is wrong with a reply and may be right next time; throws what will not be. */
  private Optional<String> problem(Window window, NodeBatch batch, RowRequest request) {
    String node = batch.nodeName();
    if (request.failure() != null) {
      String cause = Link.cause(request.failure());
      return Optional.of(node.isEmpty() ? cause : node + ": " + cause);
    }
    if (request.hasError()) {
      if (Link.isTransient(request.getError())) {
        return Optional.of(node + ": " + request.getError());
      }
      throw new EngramException(
          name()
              + ": row "
              + window.row(request.index())
              + ": "
              + node
              + " refuses: "
              + request.getError());
    }
    if (request.length() == rowBytes) {
      return Optional.empty();
    }
    if (batch.isReplica()) {
      return Optional.of(node + ", a replica, has not got the row yet");
    }
    throw missing(window.row(request.index()), request.length(), node);
  }

  /** A server gives an empty string for a key that does not exist, and less for a short value. */
  private EngramException missing(long row, int length, String node) {
    int chunk = chunks.ofRow(row);
    String what =
        name()
            + ": row "
            + row
            + ": "
            + node
            + " has "
            + Math.max(0, length)
            + " of its "
            + rowBytes
            + " bytes in "
            + new String(chunks.key(chunk), java.nio.charset.StandardCharsets.US_ASCII);
    Optional<RedisTable> now = tables.find(name());
    if (now.isEmpty() || !now.get().generation().equals(table.generation())) {
      return new EngramException(
          what
              + (now.isEmpty() ? ": the table was deleted" : ": the table was replaced")
              + " since it was opened; open it again");
    }
    return new EngramException(
        what
            + ": the value was evicted, deleted or cut, or lost with its node; engram unpublish the"
            + " table and publish it again");
  }

  /**
   * Rows of a slot that is being moved are asked for one by one, by the client, which follows.
   *
   * @return how many are still pending
   */
  private int followAsk(Window window, int failed) throws InterruptedException {
    int[] pending = window.pending();
    int left = 0;
    List<RedisFuture<byte[]>> replies = new ArrayList<>();
    List<Integer> asked = new ArrayList<>();
    for (int i = 0; i < failed; i++) {
      RowRequest request = window.request(pending[i]);
      if (request.hasError() && request.getError().startsWith("ASK ")) {
        long row = window.row(request.index());
        int chunk = chunks.ofRow(row);
        int first = chunks.offset(row, chunk);
        replies.add(link.routed().getrange(chunks.key(chunk), first, first + rowBytes - 1L));
        asked.add(request.index());
      } else {
        pending[left++] = pending[i];
      }
    }
    for (int i = 0; i < asked.size(); i++) {
      int index = asked.get(i);
      byte[] row;
      try {
        row = replies.get(i).get(link.options.attemptTimeout().toNanos(), TimeUnit.NANOSECONDS);
      } catch (ExecutionException | TimeoutException e) {
        pending[left++] = index;
        continue;
      }
      if (row == null || row.length != rowBytes) {
        throw missing(
            window.row(index), row == null ? 0 : row.length, "the node that takes over the slot");
      }
      System.arraycopy(row, 0, window.bytes(), index * rowBytes, rowBytes);
    }
    return left;
  }

  /** Closes the store; the connections only if it was opened with its own. */
  @Override
  public void close() {
    closed = true;
    if (ownsTables) {
      tables.close();
    }
  }

  @Override
  public String toString() {
    return name() + ": " + rowCount() + " rows of " + rowBytes + " bytes at " + link.options;
  }
}
