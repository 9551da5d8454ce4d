// SPDX-License-Identifier: Apache-2.0
package io.engram.redis;

import io.engram.EngramException;
import io.engram.store.RowStore;
import io.engram.table.TableIdentity;
import java.time.Duration;
import java.util.Objects;
import java.util.Optional;
import java.util.concurrent.Semaphore;

/**
 * The tables of one server or cluster: the connections, from which any number of stores read.
 *
 * <p>Thread-safe. Close the stores first; a store that is still open afterwards says that it is
 * closed.
 */
public final class RedisTables implements AutoCloseable {
  private static final Duration LOCK_TIME = Duration.ofSeconds(15);

  private final Link link;
  private final Semaphore outstanding;

  private RedisTables(Link link) {
    this.link = link;
    outstanding = new Semaphore(link.options.maxOutstanding());
  }

  /**
   * Connects to a server or a cluster; which of the two it is, it says itself.
   *
   * @param options where it is and how to talk to it
   * @return the tables there
   * @throws EngramException if it cannot be reached, or refuses user, password or certificate
   */
  public static RedisTables connect(RedisOptions options) {
    return new RedisTables(Link.connect(options));
  }

  /**
   * What a name stands for.
   *
   * @param name a table's name
   * @return the table, if it has been published and is complete
   * @throws IllegalArgumentException if it is no possible name
   * @throws EngramException if the server does not answer
   */
  public Optional<RedisTable> find(String name) {
    RedisTable.checkName(Objects.requireNonNull(name, "name"));
    byte[] json =
        link.call(
            "looking for table " + name,
            () -> link.routed().get(RedisTable.controlKey(name, "manifest")));
    return Optional.ofNullable(json).map(bytes -> RedisTable.fromJson(name, bytes));
  }

  /**
   * Opens a table for reading.
   *
   * @param name its name
   * @param expected which table it must be; of its contents where a digest is given
   * @return its rows; closing it leaves these connections open
   * @throws IllegalArgumentException if it is no possible name
   * @throws EngramException if there is no such table, its load was not finished, it is another
   *     one, or the server does not answer
   */
  public RedisRowStore open(String name, TableIdentity expected) {
    return open(name, expected, false);
  }

  RedisRowStore open(String name, TableIdentity expected, boolean owns) {
    Objects.requireNonNull(expected, "expected");
    RedisTable table = find(name).orElseThrow(() -> absent(name));
    expected
        .firstDifference(table.identity())
        .ifPresent(difference -> {
          throw new EngramException(
              "table " + name + " at " + link.options + " is another one: " + difference);
        });
    return new RedisRowStore(this, table, owns);
  }

  private EngramException absent(String name) {
    byte[] loading =
        link.call(
            "looking for table " + name,
            () -> link.routed().get(RedisTable.controlKey(name, "loading")));
    return new EngramException(
        "table "
            + name
            + (loading == null
                ? " is not at " + link.options + "; load it with engram publish"
                : " at "
                    + link.options
                    + " is not complete ("
                    + RedisTable.state(loading)
                    + "); finish with engram publish or engram unpublish"));
  }

  /**
   * Loads a table, or what is missing of one whose load was interrupted.
   *
   * @param name its name there, which must be free
   * @param identity which table it is
   * @param source its rows
   * @return a publisher, to be started
   * @throws IllegalArgumentException if it is no possible name, or rows and identity do not fit
   */
  public RedisPublisher publisher(String name, TableIdentity identity, RowStore source) {
    return new RedisPublisher(link, name, identity, source);
  }

  /**
   * Deletes a table, or what there is of one. Stores that read it fail from then on.
   *
   * @param name its name
   * @return whether there was anything
   * @throws EngramException if it is being loaded at this moment, or the server does not answer;
   *     call it again to delete the rest
   */
  public boolean unpublish(String name) {
    return RedisPublisher.unpublish(link, name, LOCK_TIME);
  }

  Link link() {
    return link;
  }

  /** Permits for rows that have been asked for. */
  Semaphore outstanding() {
    return outstanding;
  }

  /** Closes the connections. Does nothing at a second call. */
  @Override
  public void close() {
    link.close();
  }
}
