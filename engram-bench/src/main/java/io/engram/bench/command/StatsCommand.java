// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import com.google.gson.GsonBuilder;
import com.sun.tools.attach.AttachNotSupportedException;
import com.sun.tools.attach.VirtualMachine;
import io.engram.EngramException;
import java.io.IOException;
import java.io.PrintWriter;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.ConcurrentHashMap;
import javax.management.MBeanServerConnection;
import javax.management.remote.JMXConnector;
import javax.management.remote.JMXConnectorFactory;
import javax.management.remote.JMXServiceURL;
import jdk.jfr.consumer.RecordedEvent;
import jdk.jfr.consumer.RecordingFile;
import jdk.management.jfr.RemoteRecordingStream;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;
import picocli.CommandLine.Spec;

/** {@code engram stats}: what the memories of a running JVM do, or did while it was recorded. */
@Command(
    name = "stats",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Prints what the open memories of a JVM do: rows, bytes, tiers, waits, prefetch, cache,"
            + " residency.")
final class StatsCommand implements Callable<Integer> {
  private static final String EVENT = "engram.Layer";

  @Parameters(
      paramLabel = "PID|FILE",
      description =
          "A running JVM of the same user, or a recording of one (-XX:StartFlightRecording or jcmd"
              + " PID JFR.dump).")
  private String source;

  @Option(
      names = "--seconds",
      paramLabel = "N",
      defaultValue = "2",
      description = "How long to watch a running JVM; default ${DEFAULT-VALUE}.")
  private int seconds;

  @Option(names = "--json", description = "Prints the last statistics of each layer as JSON.")
  private boolean json;

  @Spec private CommandSpec spec;

  /** First and last event of a layer: counters run from the opening of the memory. */
  private record Span(RecordedEvent first, RecordedEvent last) {
    double perSecond(String counter) {
      double time = Duration.between(first.getStartTime(), last.getStartTime()).toNanos() / 1e9;
      return time > 0 ? (last.getLong(counter) - first.getLong(counter)) / time : Double.NaN;
    }
  }

  @Override
  public Integer call() throws IOException, InterruptedException {
    List<RecordedEvent> events =
        source.matches("\\d+") && !Files.exists(Path.of(source))
            ? watch(source)
            : recorded(Path.of(source));
    if (events.isEmpty()) {
      throw new EngramException(
          source
              + ": no memory was open, or its JVM does not run this version: there is no event "
              + EVENT);
    }
    Map<Long, Span> layers = new TreeMap<>();
    events.sort(Comparator.comparing(RecordedEvent::getStartTime));
    for (RecordedEvent event : events) {
      long key = ((long) event.getInt("memory") << Integer.SIZE) + event.getInt("layer");
      layers.merge(key, new Span(event, event), (a, b) -> new Span(a.first(), b.last()));
    }
    PrintWriter out = spec.commandLine().getOut();
    if (json) {
      List<Map<String, Object>> all = layers.values().stream().map(StatsCommand::fields).toList();
      out.println(new GsonBuilder().serializeSpecialFloatingPointValues().create().toJson(all));
    } else {
      layers.values().forEach(span -> print(span, out));
    }
    return 0;
  }

  private static List<RecordedEvent> recorded(Path file) throws IOException {
    List<RecordedEvent> found = new ArrayList<>();
    try (RecordingFile recording = new RecordingFile(file)) {
      while (recording.hasMoreEvents()) {
        RecordedEvent event = recording.readEvent();
        if (event.getEventType().getName().equals(EVENT)) {
          found.add(event);
        }
      }
    }
    return found;
  }

  private List<RecordedEvent> watch(String pid) throws IOException, InterruptedException {
    Map<RecordedEvent, Instant> seen = new ConcurrentHashMap<>();
    try (JMXConnector connector = connect(pid)) {
      MBeanServerConnection connection = connector.getMBeanServerConnection();
      try (RemoteRecordingStream stream = new RemoteRecordingStream(connection);
          Progress progress = Progress.start("watching " + pid, seconds, "s")) {
        stream.enable(EVENT).withPeriod(Duration.ofMillis(500));
        stream.setReuse(false);
        stream.onEvent(EVENT, event -> seen.put(event, event.getStartTime()));
        stream.startAsync();
        // A recording delivers its events about a second after they happened.
        for (int i = 0; i < Math.max(1, seconds) + 1; i++) {
          Thread.sleep(Duration.ofSeconds(1));
          progress.reached(i);
        }
      }
    }
    return new ArrayList<>(seen.keySet());
  }

  /**
   * The address comes from a JVM of the same user, through the attach API, and not from outside.
   */
  @SuppressWarnings("BanJNDI")
  private static JMXConnector connect(String pid) throws IOException {
    try {
      VirtualMachine machine = VirtualMachine.attach(pid);
      try {
        return JMXConnectorFactory.connect(new JMXServiceURL(machine.startLocalManagementAgent()));
      } finally {
        machine.detach();
      }
    } catch (AttachNotSupportedException e) {
      throw new EngramException(pid + ": no JVM to attach to: " + e.getMessage(), e);
    }
  }

  private static Map<String, Object> fields(Span span) {
    Map<String, Object> fields = new LinkedHashMap<>();
    span.last().getFields().stream()
        .map(jdk.jfr.ValueDescriptor::getName)
        .filter(name -> !List.of("startTime", "duration", "eventThread").contains(name))
        .forEach(name -> fields.put(name, span.last().getValue(name)));
    fields.put("rowsPerSecond", span.perSecond("rows"));
    fields.put("bytesPerSecond", span.perSecond("bytes"));
    return fields;
  }

  private static void print(Span span, PrintWriter out) {
    RecordedEvent last = span.last();
    out.printf(
        "memory %08x, layer %d: %s, table of %s%n",
        last.getInt("memory"),
        last.getInt("layer"),
        last.getString("tier"),
        Sizes.bytes(last.getLong("tableBytes")));
    out.printf(
        "  tier      %,d rows, %s in %,d reads, %,d failed; now %,.0f rows/s%n",
        last.getLong("rows"),
        Sizes.bytes(last.getLong("bytes")),
        last.getLong("reads"),
        last.getLong("failures"),
        span.perSecond("rows"));
    times(last, "read", "read time", out);
    times(last, "lookup", "lookups", out);
    double resident = last.getDouble("resident");
    if (!Double.isNaN(resident)) {
      out.printf("  files     %.1f %% in the page cache%n", 100 * resident);
    }
    if (last.getLong("asks") > 0) {
      out.printf(
          "  prefetch  %,d rows, %,d distinct, on %,d pages; %,d of %,d asks late, %,d synchronous,"
              + " %,d failed%n",
          last.getLong("prefetchRows"),
          last.getLong("prefetchDistinct"),
          last.getLong("prefetchPages"),
          last.getLong("late"),
          last.getLong("asks"),
          last.getLong("synchronous"),
          last.getLong("prefetchFailures"));
      times(last, "wait", "waits", out);
      times(last, "lateness", "lateness", out);
    }
    if (!last.getString("cacheHits").isEmpty()) {
      out.printf("  cache     hits by order: %s%n", last.getString("cacheHits"));
    }
  }

  private static void times(RecordedEvent event, String field, String name, PrintWriter out) {
    Duration p99 = event.getDuration(field + "P99");
    if (p99.isPositive()) {
      out.printf(
          "  %-9s p50 %.3f ms, p99 %.3f ms%n",
          name, event.getDuration(field + "P50").toNanos() / 1e6, p99.toNanos() / 1e6);
    }
  }
}
