// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;

/**
 * A real text that is at hand everywhere: the prose of the API documentation in the source archive
 * of the JDK that runs, or its licence where a JDK comes without sources.
 *
 * @param text the text
 * @param origin where it is from, for people
 */
public record DemoText(String text, String origin) {
  private static final Pattern DOC_COMMENT = Pattern.compile("/\\*\\*(.*?)\\*/", Pattern.DOTALL);
  private static final Pattern MARKUP =
      Pattern.compile("^\\s*\\* ?|<[^>]{1,300}>|\\{@\\w+\\s|[{}]|^\\s*@\\w+", Pattern.MULTILINE);
  private static final Pattern BLANK_LINES = Pattern.compile("\\n\\s*\\n\\s*(\\n\\s*)+");

  static DemoText of(Path file) throws IOException {
    return new DemoText(utf8(file), file.toString());
  }

  /** The text of a file, or a sentence that names the file. */
  static String utf8(Path file) throws IOException {
    try {
      return Files.readString(file);
    } catch (CharacterCodingException e) {
      throw new IOException(file + " is not UTF-8", e);
    }
  }

  /**
   * The text that every JDK brings.
   *
   * @param characters where to stop, at least 1: the text is at most one comment longer
   * @return the text, the same for the same JDK
   * @throws IOException if the JDK has neither sources nor a licence
   */
  public static DemoText ofJdk(int characters) throws IOException {
    Path home = Path.of(System.getProperty("java.home"));
    Path sources = home.resolve("lib/src.zip");
    if (Files.isReadable(sources)) {
      return new DemoText(
          prose(sources, characters),
          "the documentation of java.util, from the sources of JDK " + Runtime.version().feature());
    }
    Path licence = home.resolve("legal/java.base/LICENSE");
    if (Files.isReadable(licence)) {
      return new DemoText(
          Files.readString(licence),
          "the licence of JDK " + Runtime.version().feature() + " (it has no lib/src.zip)");
    }
    throw new IOException(
        home + " has neither lib/src.zip nor legal/java.base/LICENSE: name a text with --text");
  }

  private static String prose(Path sources, int characters) throws IOException {
    StringBuilder text = new StringBuilder();
    try (ZipFile zip = new ZipFile(sources.toFile())) {
      List<? extends ZipEntry> entries =
          zip.stream()
              .filter(e -> e.getName().matches("(java\\.base/)?java/util/[A-Za-z]+\\.java"))
              .toList();
      for (ZipEntry entry : entries) {
        try (InputStream in = zip.getInputStream(entry)) {
          String source = new String(in.readAllBytes(), StandardCharsets.UTF_8);
          Matcher comment = DOC_COMMENT.matcher(source);
          while (comment.find() && text.length() < characters) {
            String prose = MARKUP.matcher(comment.group(1)).replaceAll("");
            text.append(BLANK_LINES.matcher(prose).replaceAll("\n\n").strip()).append("\n\n");
          }
        }
      }
    }
    return text.toString();
  }
}
