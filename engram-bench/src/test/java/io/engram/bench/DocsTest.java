// SPDX-License-Identifier: Apache-2.0
package io.engram.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import io.engram.bench.command.EngramCommand;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import jdk.jshell.JShell;
import jdk.jshell.Snippet;
import jdk.jshell.SnippetEvent;
import jdk.jshell.SourceCodeAnalysis.CompletionInfo;
import org.junit.jupiter.api.DynamicTest;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.TestFactory;

/** What the documentation shows is run: Java as it stands, commands as they stand, links exist. */
@Tag("once")
class DocsTest {
  private static final Path ROOT = Path.of(System.getProperty("engram.root"));

  /** A Java block, and the block of expected output if one follows. */
  private static final Pattern JAVA =
      Pattern.compile("```java\\n(.*?)```(?:\\s*```text\\n(.*?)```)?", Pattern.DOTALL);

  private static final Pattern CONSOLE = Pattern.compile("```console\\n(.*?)```", Pattern.DOTALL);
  private static final Pattern LINK = Pattern.compile("\\]\\(([^)#\\s]+)[^)]*\\)");

  private static List<Path> pages() throws IOException {
    List<Path> pages = new ArrayList<>(List.of(ROOT.resolve("README.md")));
    try (Stream<Path> docs = Files.walk(ROOT.resolve("docs"))) {
      docs.filter(p -> p.toString().endsWith(".md")).sorted().forEach(pages::add);
    }
    return pages;
  }

  @TestFactory
  Stream<DynamicTest> javaBlocksRunAndPrintWhatIsShown() throws IOException {
    List<DynamicTest> tests = new ArrayList<>();
    for (Path page : pages()) {
      Matcher block = JAVA.matcher(Files.readString(page));
      for (int n = 1; block.find(); n++) {
        String code = block.group(1);
        String output = block.group(2);
        tests.add(
            DynamicTest.dynamicTest(
                ROOT.relativize(page) + " block " + n,
                () -> {
                  String printed = run(code);
                  if (output != null) {
                    assertEquals(output.strip(), printed.strip());
                  }
                }));
      }
    }
    assertFalse(tests.isEmpty());
    return tests.stream();
  }

  private static String run(String code) {
    ByteArrayOutputStream printed = new ByteArrayOutputStream();
    PrintStream before = System.out;
    System.setOut(new PrintStream(printed, true, StandardCharsets.UTF_8));
    try (JShell shell = JShell.builder().executionEngine("local").build()) {
      Stream.of(System.getProperty("java.class.path").split(java.io.File.pathSeparator, -1))
          .forEach(shell::addToClasspath);
      String rest = code;
      while (!rest.isBlank()) {
        CompletionInfo next = shell.sourceCodeAnalysis().analyzeCompletion(rest);
        String source = next.source();
        assertTrue(next.completeness().isComplete(), () -> "incomplete: " + code);
        for (SnippetEvent event : shell.eval(source)) {
          if (event.exception() != null) {
            throw new AssertionError(source, event.exception());
          }
          if (event.status() == Snippet.Status.REJECTED) {
            throw new AssertionError(
                source + shell.diagnostics(event.snippet()).map(d -> d.getMessage(null)).toList());
          }
        }
        rest = next.remaining();
      }
    } finally {
      System.setOut(before);
    }
    return printed.toString(StandardCharsets.UTF_8);
  }

  @TestFactory
  Stream<DynamicTest> engramCommandsSucceed() throws IOException {
    List<DynamicTest> tests = new ArrayList<>();
    for (Path page : pages()) {
      Matcher block = CONSOLE.matcher(Files.readString(page));
      while (block.find()) {
        block
            .group(1)
            .lines()
            .filter(line -> line.startsWith("./engram "))
            // The whole demo fills a table of the paper's size; its quick form has a test of its
            // own.
            .filter(line -> !line.equals("./engram demo"))
            .forEach(line ->
                tests.add(
                    DynamicTest.dynamicTest(
                        ROOT.relativize(page) + ": " + line,
                        () -> {
                          StringWriter messages = new StringWriter();
                          String[] words = line.split(" ", -1);
                          assertEquals(
                              0,
                              EngramCommand.run(
                                  new PrintWriter(messages),
                                  new PrintWriter(messages, true),
                                  Stream.of(words).skip(1).toArray(String[]::new)),
                              messages::toString);
                        })));
      }
    }
    assertFalse(tests.isEmpty());
    return tests.stream();
  }

  @Test
  void linksBetweenPagesLeadSomewhere() throws IOException {
    for (Path page : pages()) {
      Matcher link = LINK.matcher(Files.readString(page));
      while (link.find()) {
        String target = link.group(1);
        assertTrue(
            target.startsWith("http") || Files.exists(page.resolveSibling(target)),
            () -> page + " links to " + target + ", which is not there");
      }
    }
  }
}
