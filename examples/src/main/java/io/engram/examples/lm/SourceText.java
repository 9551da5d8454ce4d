// SPDX-License-Identifier: Apache-2.0
package io.engram.examples.lm;

import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.stream.Stream;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;

/**
 * A real text to train on, in documents.
 *
 * @param origin where it is from, for people
 * @param documents its documents, none of them empty
 */
public record SourceText(String origin, List<Document> documents) {
  /** Pieces that a text in one file is cut into, so that some can be held out. */
  private static final int PIECES = 40;

  /** Sources that are read first: the best known part of the library, and the most uniform. */
  private static final String FIRST = "java.base/java/util/";

  private static final String NEXT = "java.base/java/";

  /**
   * One document, which is trained on or held out as a whole.
   *
   * @param name its name, unique
   * @param text its text
   */
  public record Document(String name, String text) {}

  /** Copies the list. */
  public SourceText {
    documents = List.copyOf(documents);
    if (documents.size() < 2) {
      throw new IllegalArgumentException(
          origin
              + " has "
              + documents.size()
              + " documents, expected at least 2: one to train on and one to hold out");
    }
  }

  /**
   * Characters of all documents.
   *
   * @return the sum
   */
  public long characters() {
    return documents.stream().mapToLong(d -> d.text().length()).sum();
  }

  /**
   * A text of one's own: a UTF-8 file, which is cut at line ends into pieces of about the same
   * size, or a directory, in which each UTF-8 file is a document and others are passed over.
   *
   * @param path the file or directory
   * @param characters where to stop, at least 1: the text is at most one document longer
   * @return the text
   * @throws IOException if the path cannot be read, or is a file that is not UTF-8
   * @throws IllegalArgumentException if there is too little text to hold some of it out
   */
  public static SourceText of(Path path, long characters) throws IOException {
    if (!Files.isDirectory(path)) {
      String text;
      try {
        text = Files.readString(path);
      } catch (CharacterCodingException e) {
        throw new IOException(path + " is not UTF-8", e);
      }
      return new SourceText(path.toString(), pieces(text, characters));
    }
    List<Document> documents = new ArrayList<>();
    long read = 0;
    List<Path> files;
    try (Stream<Path> walk = Files.walk(path)) {
      files = walk.filter(Files::isRegularFile).sorted().toList();
    }
    for (Path file : files) {
      if (read >= characters) {
        break;
      }
      // Images and archives lie beside sources everywhere.
      String text = textOrNull(file);
      if (text != null) {
        documents.add(new Document(path.relativize(file).toString(), text));
        read += text.length();
      }
    }
    return new SourceText("the texts under " + path, documents);
  }

  /** A zero byte is what binary files have and texts have not. */
  private static String textOrNull(Path file) throws IOException {
    try {
      String text = Files.readString(file);
      return text.isBlank() || text.indexOf(0) >= 0 ? null : text;
    } catch (CharacterCodingException e) {
      return null;
    }
  }

  private static List<Document> pieces(String text, long characters) {
    int end = (int) Math.min(text.length(), characters);
    int size = Math.max(1, end / PIECES);
    List<Document> documents = new ArrayList<>();
    for (int from = 0; from < end; ) {
      int to = text.indexOf('\n', Math.min(from + size, end) - 1) + 1;
      if (to == 0) {
        to = text.length();
      }
      if (!text.substring(from, to).isBlank()) {
        documents.add(new Document("piece " + (documents.size() + 1), text.substring(from, to)));
      }
      from = to;
    }
    return documents;
  }

  /**
   * The text that is at hand wherever this library runs: the sources of the running JDK's base
   * module, {@code java.util} first, each without the licence that heads it; or, where a JDK comes
   * without {@code lib/src.zip}, its licences, which are short.
   *
   * @param characters where to stop, at least 1: the text is at most one document longer
   * @return the text, the same for the same JDK
   * @throws IOException if they cannot be read
   * @throws IllegalArgumentException if the JDK has neither
   */
  public static SourceText ofJdk(long characters) throws IOException {
    Path home = Path.of(System.getProperty("java.home"));
    Path sources = home.resolve("lib/src.zip");
    String jdk = "JDK " + Runtime.version().feature();
    if (Files.isReadable(sources)) {
      return new SourceText("the sources of " + jdk, ofArchive(sources, characters));
    }
    return new SourceText(
        "the licences of "
            + jdk
            + " (it has no lib/src.zip; name a longer text, such as a directory of sources, with"
            + " --text)",
        licences(home, characters));
  }

  private static List<Document> ofArchive(Path sources, long characters) throws IOException {
    List<Document> documents = new ArrayList<>();
    try (ZipFile zip = new ZipFile(sources.toFile())) {
      List<? extends ZipEntry> entries =
          zip.stream()
              .filter(e ->
                  e.getName().startsWith(NEXT)
                      && e.getName().endsWith(".java")
                      && !e.getName().endsWith("-info.java"))
              .sorted(
                  Comparator.<ZipEntry, Boolean>comparing(e -> !e.getName().startsWith(FIRST))
                      .thenComparing(ZipEntry::getName))
              .toList();
      long read = 0;
      for (ZipEntry entry : entries) {
        if (read >= characters) {
          break;
        }
        try (InputStream in = zip.getInputStream(entry)) {
          String text = new String(in.readAllBytes(), StandardCharsets.UTF_8);
          int code = text.startsWith("/*") ? Math.max(0, text.indexOf("package ")) : 0;
          documents.add(new Document(entry.getName(), text.substring(code)));
          read += text.length() - code;
        }
      }
    }
    return documents;
  }

  private static List<Document> licences(Path home, long characters) throws IOException {
    Path legal = home.resolve("legal");
    StringBuilder text = new StringBuilder();
    if (Files.isDirectory(legal)) {
      // Modules repeat each other's licences.
      Set<String> seen = new HashSet<>();
      try (Stream<Path> walk = Files.walk(legal)) {
        for (Path file : walk.filter(Files::isRegularFile).sorted().toList()) {
          String licence = new String(Files.readAllBytes(file), StandardCharsets.UTF_8);
          if (seen.add(licence)) {
            text.append(licence).append('\n');
          }
        }
      }
    }
    if (text.isEmpty()) {
      throw new IllegalArgumentException(
          home + " has neither lib/src.zip nor licences: name a text with --text");
    }
    return pieces(text.toString(), characters);
  }
}
