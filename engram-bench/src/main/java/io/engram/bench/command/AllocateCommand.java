// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import com.google.gson.GsonBuilder;
import io.engram.EngramConfig;
import io.engram.checkpoint.ExpertKeys;
import io.engram.hash.HashLayout;
import io.engram.plan.Allocation;
import io.engram.plan.AllocationPlan;
import io.engram.plan.SparseBackbone;
import io.engram.table.RowFormat;
import java.io.PrintWriter;
import java.math.BigDecimal;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import picocli.CommandLine.ArgGroup;
import picocli.CommandLine.Command;
import picocli.CommandLine.Model.CommandSpec;
import picocli.CommandLine.Option;
import picocli.CommandLine.ParameterException;
import picocli.CommandLine.Spec;

/** {@code engram allocate}: how experts and a memory may share a model's sparse parameters. */
@Command(
    name = "allocate",
    mixinStandardHelpOptions = true,
    sortOptions = false,
    description =
        "Shares the sparse parameters of a mixture of experts (total less active ones) between"
            + " routed experts and the slots of a memory: at a ratio rho, top-k + rho * (experts -"
            + " top-k) experts stay, and what the others had becomes rows of tables. Prints for"
            + " each rho the experts, the tables with their prime moduli, and bytes by row format,"
            + " and marks where the paper's loss is lowest.")
final class AllocateCommand implements Callable<Integer> {
  private static final int BAR_WIDTH = 28;
  private static final List<RowFormat> FORMATS =
      List.of(RowFormat.F32, RowFormat.BF16, RowFormat.FP8_BLOCK32);
  private static final Pattern COUNT = Pattern.compile("(\\d+(?:\\.\\d+)?)([kKmMbBtT]?)");

  @ArgGroup(heading = "%nThe model without a memory, one of:%n", multiplicity = "1")
  private Source source;

  private static final class Source {
    @ArgGroup(exclusive = false)
    private Totals totals;

    @ArgGroup(exclusive = false)
    private Shapes shapes;

    @Option(
        names = "--config",
        paramLabel = "FILE",
        description =
            "Its config.json: hidden_size, num_hidden_layers, n_routed_experts (or num_experts,"
                + " num_local_experts), num_experts_per_tok, moe_intermediate_size.")
    private Path config;
  }

  private static final class Totals {
    @Option(
        names = "--total",
        required = true,
        paramLabel = "N",
        description = "All parameters, such as 27B.")
    private String total;

    @Option(
        names = "--active",
        required = true,
        paramLabel = "N",
        description = "Parameters that a token uses, such as 3.8B.")
    private String active;
  }

  private static final class Shapes {
    @Option(
        names = "--expert-layers",
        required = true,
        paramLabel = "N",
        description = "Layers with experts.")
    private int layers;

    @Option(
        names = "--hidden",
        required = true,
        paramLabel = "N",
        description = "Size of the hidden state.")
    private int width;

    @Option(
        names = "--expert-width",
        required = true,
        paramLabel = "N",
        description = "Inner size of an expert of three matrices.")
    private int expertWidth;
  }

  @ArgGroup(exclusive = false, heading = "%nIts experts (with --config: from there):%n")
  private Experts experts;

  private static final class Experts {
    @Option(
        names = "--experts",
        required = true,
        paramLabel = "N",
        description = "Routed experts of a layer at rho = 1.")
    private int experts;

    @Option(
        names = "--top-k",
        required = true,
        paramLabel = "K",
        description = "Routed experts that a token uses.")
    private int active;
  }

  @ArgGroup(exclusive = false, heading = "%nThe memory (default: that of the paper's 27B):%n")
  private Memory memory = new Memory();

  private static final class Memory {
    @Option(
        names = "--preset",
        paramLabel = "NAME",
        description = "paper, v41 or qwen: orders, heads, values of a row, layers.")
    private Preset preset;

    @Option(
        names = {"--layers", "--layer"},
        split = ",",
        paramLabel = "L",
        description = "Layers with a memory, instead of the preset's.")
    private Integer[] layers;

    @Option(
        names = "--orders",
        split = ",",
        paramLabel = "N",
        description = "N-gram orders, instead of the preset's.")
    private Integer[] orders;

    @Option(
        names = "--heads",
        paramLabel = "N",
        description = "Heads of each order, instead of the preset's.")
    private Integer heads;

    @Option(
        names = "--head-dim",
        paramLabel = "N",
        description = "Values of a row, instead of the preset's.")
    private Integer headDim;
  }

  @ArgGroup(heading = "%nWhich allocations:%n")
  private Which which = new Which();

  private static final class Which {
    @Option(
        names = "--rho",
        split = ",",
        paramLabel = "R",
        description = "Ratios from 0 to 1 (default: 1 to 0.4).")
    private double[] ratios;

    @Option(
        names = "--slots",
        paramLabel = "N",
        description = "The ratio at which so many slots a head are paid for.")
    private Long slots;
  }

  @Option(names = "--json", description = "Prints everything as JSON, moduli included.")
  private boolean json;

  @Spec private CommandSpec spec;

  @Override
  public Integer call() {
    AllocationPlan plan = new AllocationPlan(backbone(), memory());
    PrintWriter out = spec.commandLine().getOut();
    if (which.slots != null) {
      slots(out, plan);
      return 0;
    }
    double[] ratios =
        which.ratios == null
            ? new double[] {1, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.6, 0.5, 0.4}
            : which.ratios;
    List<Allocation> allocations = Arrays.stream(ratios).mapToObj(plan::at).toList();
    if (json) {
      Map<String, Object> facts = facts(plan);
      facts.put("allocations", allocations.stream().map(AllocateCommand::asMap).toList());
      print(out, facts);
    } else {
      print(out, plan, ratios, allocations);
    }
    return 0;
  }

  private SparseBackbone backbone() {
    if (source.config != null) {
      if (experts != null) {
        throw wrong("--config has the experts: leave --experts and --top-k out");
      }
      return ExpertKeys.read(source.config);
    }
    if (experts == null) {
      throw wrong("How many experts are there? Add --experts and --top-k");
    }
    return source.totals != null
        ? SparseBackbone.ofTotals(
            count("--total", source.totals.total),
            count("--active", source.totals.active),
            experts.experts,
            experts.active)
        : SparseBackbone.ofShapes(
            source.shapes.layers,
            source.shapes.width,
            source.shapes.expertWidth,
            experts.experts,
            experts.active);
  }

  private long count(String option, String text) {
    Matcher parts = COUNT.matcher(text.strip());
    if (!parts.matches()) {
      throw wrong(option + " is \"" + text + "\", expected a number such as 27B, 560M or 1000000");
    }
    int power =
        switch (parts.group(2).toUpperCase(Locale.ROOT)) {
          case "K" -> 3;
          case "M" -> 6;
          case "B" -> 9;
          case "T" -> 12;
          default -> 0;
        };
    try {
      return new BigDecimal(parts.group(1)).scaleByPowerOfTen(power).longValueExact();
    } catch (ArithmeticException e) {
      throw new ParameterException(
          spec.commandLine(), option + " is " + text + ", expected a whole number of 63 bits", e);
    }
  }

  private EngramConfig memory() {
    EngramConfig.Builder builder;
    if (memory.preset == null) {
      // Paper, table 5: 640 values for each order, layers 2 and 15 counted from 1, width 2560.
      builder = EngramConfig.paper().layers(1, 14).headDim(80).width(2560);
    } else {
      builder = memory.preset.config();
    }
    if (memory.layers != null) {
      builder.layers(memory.layers);
    }
    if (memory.orders != null) {
      builder.orders(memory.orders);
    }
    if (memory.heads != null) {
      builder.headsPerOrder(memory.heads);
    }
    if (memory.headDim != null) {
      builder.headDim(memory.headDim);
    }
    if (source.shapes != null) {
      builder.width(source.shapes.width);
    }
    return builder.build();
  }

  private void slots(PrintWriter out, AllocationPlan plan) {
    double ratio = plan.ratioFor(which.slots);
    long parameters = plan.tableParameters(which.slots);
    if (ratio < 0) {
      throw new IllegalArgumentException(
          "tables of %,d slots a head have %,d parameters, more than the %,d sparse ones"
              .formatted(which.slots, parameters, plan.backbone().sparseParameters()));
    }
    SparseBackbone backbone = plan.backbone();
    double left =
        backbone.activeExperts() + ratio * (backbone.experts() - backbone.activeExperts());
    long rows = parameters / plan.memory().headDim();
    if (json) {
      Map<String, Object> facts = facts(plan);
      facts.put("slotsPerHead", which.slots);
      facts.put("rows", rows);
      facts.put("tableParameters", parameters);
      facts.put("rho", ratio);
      facts.put("experts", left);
      facts.put("bytes", bytes(rows, plan.memory().headDim()));
      print(out, facts);
      return;
    }
    head(out, plan);
    out.printf("%n%,d slots a head: %,d rows, %s parameters%n", which.slots, rows, big(parameters));
    bytes(rows, plan.memory().headDim())
        .forEach((format, bytes) -> out.printf("  %-12s %s%n", format, Sizes.bytes(bytes)));
    out.printf(
        "paid for at rho = %.3f, which leaves %.1f of %d experts%n%s%n",
        ratio, left, backbone.experts(), place(ratio));
  }

  private static String place(double ratio) {
    if (best(ratio)) {
      return "That is where the paper's loss is lowest: " + optimum() + ".";
    }
    return "The paper's optimum has more "
        + (ratio > AllocationPlan.OPTIMUM_TO ? "memory" : "experts")
        + ": "
        + optimum()
        + ".";
  }

  private static String optimum() {
    return "rho from %.2f to %.2f"
        .formatted(AllocationPlan.OPTIMUM_FROM, AllocationPlan.OPTIMUM_TO);
  }

  private static void head(PrintWriter out, AllocationPlan plan) {
    SparseBackbone backbone = plan.backbone();
    EngramConfig memory = plan.memory();
    out.printf(
        "model      %s sparse parameters: %d experts, of which a token uses %d; %s in one%n",
        big(backbone.sparseParameters()),
        backbone.experts(),
        backbone.activeExperts(),
        big(Math.round(backbone.parametersPerExpert())));
    out.printf(
        "memory     layers %s, orders %s, %d heads each, %d values a row%n",
        memory.layerIds(),
        memory.hashing().orders(),
        memory.hashing().headsPerOrder(),
        memory.headDim());
    out.printf(
        "its gate   %s parameters, used by every token and not in the share (%d streams of %,d)%n",
        big(plan.gateParameters()), memory.gate().streams(), memory.gate().width());
  }

  private static void print(
      PrintWriter out, AllocationPlan plan, double[] ratios, List<Allocation> allocations) {
    head(out, plan);
    out.printf(
        "%n%5s %8s %12s %12s %11s %9s %9s %9s  %s%n",
        "rho",
        "experts",
        "slots/head",
        "rows",
        "parameters",
        "F32",
        "BF16",
        "FP8",
        "experts █ memory ░");
    BarChart chart = new BarChart(1, BAR_WIDTH);
    for (int i = 0; i < ratios.length; i++) {
      Allocation allocation = allocations.get(i);
      double share = (double) allocation.tableParameters() / plan.backbone().sparseParameters();
      double rho = allocation.ratio();
      out.printf(
          "%5.3f %8d %12s %12s %11s %9s %9s %9s  %s%s%n",
          rho,
          allocation.experts(),
          count(allocation.slotsPerHead()),
          count(allocation.rows()),
          allocation.rows() == 0 ? "-" : big(allocation.tableParameters()),
          size(allocation, RowFormat.F32),
          size(allocation, RowFormat.BF16),
          size(allocation, RowFormat.FP8_BLOCK32),
          chart.bar(1 - share, share),
          best(rho) ? " ◀" : "");
    }
    out.printf(
        "%nrho is that of a whole number of experts. ◀ marks where the paper's loss is lowest, %s.%n"
            + "Slots are the most that the freed parameters pay for; moduli are primes from there"
            + " upwards.%n",
        optimum());
    for (Allocation allocation : allocations) {
      if (allocations.size() == 1) {
        for (HashLayout layout : allocation.layouts()) {
          out.printf("%nlayer %d, %,d rows; moduli%n", layout.layerId(), layout.rowCount());
          int heads = layout.headsPerOrder();
          for (int o = 0; o < layout.orders().size(); o++) {
            out.println(
                "  order %d  %s"
                    .formatted(
                        layout.orders().get(o),
                        String.join(
                            " ",
                            Arrays.stream(layout.moduli(), o * heads, (o + 1) * heads)
                                .mapToObj(Long::toString)
                                .toList())));
          }
        }
      }
    }
  }

  /** Where the paper's loss is lowest, to the digits in which it says so. */
  private static boolean best(double rho) {
    return rho >= AllocationPlan.OPTIMUM_FROM - 0.005 && rho <= AllocationPlan.OPTIMUM_TO + 0.005;
  }

  private static String count(long value) {
    return value == 0 ? "-" : "%,d".formatted(value);
  }

  private static String size(Allocation allocation, RowFormat format) {
    return allocation.rows() == 0 ? "-" : Sizes.bytes(allocation.bytes(format));
  }

  private static String big(long parameters) {
    double value = parameters;
    String[] units = {"", " k", " M", " B", " T"};
    int unit = 0;
    while (value >= 999.5 && unit < units.length - 1) {
      value /= 1000;
      unit++;
    }
    return unit == 0 ? Long.toString(parameters) : "%.4g%s".formatted(value, units[unit]);
  }

  private static Map<String, Object> facts(AllocationPlan plan) {
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("sparseParameters", plan.backbone().sparseParameters());
    facts.put("expertsAtOne", plan.backbone().experts());
    facts.put("activeExperts", plan.backbone().activeExperts());
    facts.put("parametersPerExpert", plan.backbone().parametersPerExpert());
    facts.put("gateParameters", plan.gateParameters());
    facts.put("layers", plan.memory().layerIds());
    facts.put("orders", plan.memory().hashing().orders());
    facts.put("headsPerOrder", plan.memory().hashing().headsPerOrder());
    facts.put("headDim", plan.memory().headDim());
    facts.put("paperOptimum", List.of(AllocationPlan.OPTIMUM_FROM, AllocationPlan.OPTIMUM_TO));
    return facts;
  }

  private static Map<String, Long> bytes(long rows, int headDim) {
    Map<String, Long> bytes = new LinkedHashMap<>();
    FORMATS.forEach(format -> bytes.put(format.name(), rows * format.rowBytes(headDim)));
    return bytes;
  }

  private static Map<String, Object> asMap(Allocation allocation) {
    Map<String, Object> facts = new LinkedHashMap<>();
    facts.put("rho", allocation.ratio());
    facts.put("experts", allocation.experts());
    facts.put("freedParameters", allocation.freedParameters());
    facts.put("slotsPerHead", allocation.slotsPerHead());
    facts.put("rows", allocation.rows());
    facts.put("tableParameters", allocation.tableParameters());
    facts.put("bytes", bytes(allocation.rows(), allocation.headDim()));
    List<Map<String, Object>> tables = new ArrayList<>();
    for (HashLayout layout : allocation.layouts()) {
      Map<String, Object> table = new LinkedHashMap<>();
      table.put("layer", layout.layerId());
      table.put("rows", layout.rowCount());
      table.put("moduli", layout.moduli());
      tables.add(table);
    }
    facts.put("tables", tables);
    return facts;
  }

  private static void print(PrintWriter out, Map<String, Object> facts) {
    out.println(new GsonBuilder().setPrettyPrinting().create().toJson(facts));
  }

  private ParameterException wrong(String message) {
    return new ParameterException(spec.commandLine(), message);
  }
}
