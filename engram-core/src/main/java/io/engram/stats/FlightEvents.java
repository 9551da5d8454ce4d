// SPDX-License-Identifier: Apache-2.0
package io.engram.stats;

import java.util.Objects;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Supplier;
import jdk.jfr.FlightRecorder;
import jdk.jfr.FlightRecorderListener;

/**
 * The tie to Java Flight Recorder. The first event class that a JVM touches costs it some hundred
 * milliseconds, so nothing here touches one before somebody records.
 */
public final class FlightEvents implements AutoCloseable {
  private final Supplier<MemoryStatistics> statistics;
  private final int memory;
  private final AtomicReference<Runnable> hook = new AtomicReference<>();
  private final FlightRecorderListener listener;

  private FlightEvents(Supplier<MemoryStatistics> statistics) {
    this.statistics = Objects.requireNonNull(statistics, "statistics");
    memory = System.identityHashCode(this);
    listener =
        new FlightRecorderListener() {
          @Override
          public void recorderInitialized(FlightRecorder recorder) {
            start();
          }
        };
  }

  /**
   * Whether Java Flight Recorder was started in this JVM: to be asked before an event is made.
   *
   * @return whether an event can be of use
   */
  public static boolean recording() {
    return FlightRecorder.isInitialized();
  }

  /**
   * Emits the event {@code engram.Layer} for each layer of a memory, once a second unless the
   * recording says otherwise, whenever somebody records.
   *
   * @param statistics called for each period, on a thread of the recorder
   * @return to be closed with the memory
   */
  public static FlightEvents of(Supplier<MemoryStatistics> statistics) {
    FlightEvents events = new FlightEvents(statistics);
    FlightRecorder.addListener(events.listener);
    return events;
  }

  private void start() {
    Runnable emit = this::emit;
    if (hook.compareAndSet(null, emit)) {
      FlightRecorder.addPeriodicEvent(LayerEvent.class, emit);
    }
  }

  private void emit() {
    for (LayerStatistics layer : statistics.get().layers()) {
      LayerEvent.of(memory, layer).commit();
    }
  }

  @Override
  public void close() {
    FlightRecorder.removeListener(listener);
    Runnable emit = hook.getAndSet(() -> {});
    if (emit != null) {
      FlightRecorder.removePeriodicEvent(emit);
    }
  }
}
