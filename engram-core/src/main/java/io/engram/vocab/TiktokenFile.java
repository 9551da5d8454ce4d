// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

import static java.nio.charset.StandardCharsets.ISO_8859_1;
import static java.nio.charset.StandardCharsets.UTF_8;

import io.engram.EngramFormatException;
import java.io.BufferedInputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;
import java.util.zip.GZIPInputStream;
import java.util.zip.ZipException;

/** Reads tiktoken files. */
final class TiktokenFile {
  private static final int MAX_LINE = 1 << 16;

  /** Far above any vocabulary; a small gzip file can hold endless lines. */
  private static final int MAX_TOKENS = 1 << 24;

  private TiktokenFile() {}

  /** Tokens by id, in byte-level spelling. */
  static String[] read(Path file, Path specialsFile) throws IOException {
    Map<Integer, String> tokens = new HashMap<>();
    readLines(file, tokens);
    Map<String, Integer> ids = new HashMap<>(tokens.size() * 2);
    tokens.forEach((id, token) -> {
      Integer other = ids.put(token, id);
      if (other != null) {
        throw new EngramFormatException(
            file, "ids " + other + " and " + id + " are the same bytes");
      }
    });
    if (specialsFile != null) {
      addSpecials(specialsFile, tokens, ids);
    }
    if (tokens.isEmpty()) {
      throw new EngramFormatException(file, "no token found");
    }
    String[] byId = new String[tokens.size()];
    tokens.forEach((id, token) -> {
      if (id >= byId.length) {
        throw new EngramFormatException(
            specialsFile == null ? file : specialsFile,
            "there are "
                + byId.length
                + " tokens and one has the id "
                + id
                + ": each id from 0 to "
                + (byId.length - 1)
                + " must have a token, special ones included");
      }
      byId[id] = token;
    });
    return byId;
  }

  private static void readLines(Path file, Map<Integer, String> tokens) throws IOException {
    try (InputStream in = open(file)) {
      byte[] line = new byte[MAX_LINE];
      for (int number = 1; ; number++) {
        int length = readLine(in, line, file, number);
        if (length < 0) {
          return;
        }
        if (length > 0) {
          addLine(file, number, new String(line, 0, length, ISO_8859_1), tokens);
        }
      }
    } catch (EOFException | ZipException e) {
      throw new EngramFormatException(file, "the gzip stream is broken: " + e.getMessage(), e);
    }
  }

  private static InputStream open(Path file) throws IOException {
    InputStream in = new BufferedInputStream(Files.newInputStream(file), 1 << 16);
    try {
      in.mark(2);
      boolean gzip = in.read() == 0x1F && in.read() == 0x8B;
      in.reset();
      return gzip ? new BufferedInputStream(new GZIPInputStream(in, 1 << 16), 1 << 16) : in;
    } catch (IOException e) {
      try (in) {
        throw e;
      }
    }
  }

  /** Length of the line without its end, or -1 at the end of the file. */
  private static int readLine(InputStream in, byte[] line, Path file, int number)
      throws IOException {
    int length = 0;
    int b = in.read();
    if (b < 0) {
      return -1;
    }
    for (; b >= 0 && b != '\n'; b = in.read()) {
      if (length == MAX_LINE) {
        throw new EngramFormatException(
            file, "line " + number + " is longer than " + MAX_LINE + " bytes");
      }
      line[length++] = (byte) b;
    }
    return length > 0 && line[length - 1] == '\r' ? length - 1 : length;
  }

  private static void addLine(Path file, int number, String line, Map<Integer, String> tokens) {
    int space = line.indexOf(' ');
    if (space <= 0) {
      throw new EngramFormatException(
          file, "line " + number + " is not \"base64 id\": " + shortened(line));
    }
    byte[] bytes;
    try {
      bytes = Base64.getDecoder().decode(line.substring(0, space));
    } catch (IllegalArgumentException e) {
      throw new EngramFormatException(
          file, "line " + number + " is not base64: " + shortened(line), e);
    }
    int id = TokenizerJson.parseId(line.substring(space + 1));
    if (id < 0) {
      throw new EngramFormatException(
          file,
          "line "
              + number
              + " has the id "
              + shortened(line.substring(space + 1))
              + ", expected 0 to "
              + Integer.MAX_VALUE);
    }
    if (tokens.putIfAbsent(id, ByteAlphabet.spell(bytes)) != null) {
      throw new EngramFormatException(file, "line " + number + " has the id " + id + " again");
    }
    if (tokens.size() > MAX_TOKENS) {
      throw new EngramFormatException(file, "more than " + MAX_TOKENS + " tokens");
    }
  }

  private static String shortened(String text) {
    return text.length() <= 60 ? "'" + text + "'" : "'" + text.substring(0, 60) + "'...";
  }

  private static void addSpecials(Path file, Map<Integer, String> tokens, Map<String, Integer> ids)
      throws IOException {
    TokenizerJson.readIds(file)
        .forEach((text, id) -> {
          String base = tokens.get(id);
          if (base != null && !Arrays.equals(ByteAlphabet.bytesOf(base), text.getBytes(UTF_8))) {
            throw new EngramFormatException(
                file,
                "the special token '"
                    + text
                    + "' has the id "
                    + id
                    + " of the token '"
                    + base
                    + "'");
          }
          Integer other = ids.get(text);
          if (other != null && !other.equals(id)) {
            throw new EngramFormatException(
                file,
                "the special token '" + text + "' has the id " + id + ", but " + other + " too");
          }
          tokens.put(id, text);
        });
  }
}
