// SPDX-License-Identifier: Apache-2.0
import com.google.googlejavaformat.java.Formatter;
import com.google.googlejavaformat.java.ImportOrderer;
import com.google.googlejavaformat.java.JavaFormatterOptions;
import com.google.googlejavaformat.java.RemoveUnusedImports;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.Stream;

/** Checks ({@code check}) or rewrites ({@code write}) every Java source of the project. */
final class Format {
  private static final String HEADER = "// SPDX-License-Identifier: Apache-2.0\n";

  private Format() {}

  public static void main(String[] args) throws Exception {
    boolean write =
        switch (args.length == 1 ? args[0] : "") {
          case "check" -> false;
          case "write" -> true;
          default -> throw new IllegalArgumentException("usage: Format check|write");
        };
    Formatter formatter = new Formatter(JavaFormatterOptions.defaultOptions());
    List<Path> changed = new ArrayList<>();
    for (Path file : sources(Path.of(""))) {
      String before = Files.readString(file);
      String text = before.startsWith(HEADER) ? before : HEADER + before;
      String after;
      try {
        after =
            formatter.formatSource(
                ImportOrderer.reorderImports(
                    RemoveUnusedImports.removeUnusedImports(text),
                    JavaFormatterOptions.Style.GOOGLE));
      } catch (Exception e) {
        throw new IllegalStateException(file + ": " + e.getMessage(), e);
      }
      if (!after.equals(before)) {
        changed.add(file);
        if (write) {
          Files.writeString(file, after);
        }
      }
    }
    for (Path file : changed) {
      System.out.println((write ? "formatted " : "not in the house format: ") + file);
    }
    if (!write && !changed.isEmpty()) {
      System.out.println("Run: mvn -N validate -Dformat=write");
      System.exit(1);
    }
  }

  private static List<Path> sources(Path root) throws IOException {
    try (Stream<Path> all = Files.walk(root)) {
      return all.filter(p -> p.toString().endsWith(".java"))
          .filter(p -> !p.toString().contains("target/") && !p.toString().startsWith(".git"))
          .sorted()
          .toList();
    }
  }
}
