// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.management.ThreadMXBean;
import io.engram.Dtype;
import io.engram.EngramException;
import io.engram.EngramFormatException;
import io.engram.Tensor;
import io.engram.testkit.Golden;
import java.io.IOException;
import java.lang.foreign.Arena;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.ValueLayout;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

@Tag("once")
class SafetensorsTest {
  @TempDir Path directory;

  /** A file with this header, unpadded, and a payload of 0, 1, 2 and so on. */
  static byte[] file(String header, int payload) {
    byte[] json = header.getBytes(StandardCharsets.UTF_8);
    ByteBuffer bytes =
        ByteBuffer.allocate(8 + json.length + payload)
            .order(ByteOrder.LITTLE_ENDIAN)
            .putLong(json.length)
            .put(json);
    for (int i = 0; i < payload; i++) {
      bytes.put((byte) i);
    }
    return bytes.array();
  }

  private Path write(byte[] bytes) throws IOException {
    return Files.write(directory.resolve("x.safetensors"), bytes);
  }

  private Path write(String header, int payload) throws IOException {
    return write(file(header, payload));
  }

  static long[] longs(Tensor tensor) {
    return tensor.data().toArray(ValueLayout.JAVA_LONG_UNALIGNED);
  }

  @Test
  void readsTheGoldenCheckpointOfV41() {
    try (Arena arena = Arena.ofConfined()) {
      Safetensors file =
          Safetensors.open(
              Golden.path("v41_mini").resolve("model-00001-of-00002.safetensors"), arena);
      assertEquals(
          List.of(
              new TensorInfo("layers.1.engram.k_weight", "BF16", List.of(4L, 96L), 568, 1336),
              new TensorInfo("layers.1.engram.q_weight", "BF16", List.of(4L, 96L), 1336, 2104),
              new TensorInfo(
                  "layers.1.engram.embed.scale", "F8_E8M0", List.of(6568L, 2L), 2104, 15240),
              new TensorInfo(
                  "layers.1.engram.wkv.scale", "F8_E8M0", List.of(15L, 24L), 15240, 15600),
              new TensorInfo(
                  "layers.1.engram.embed.weight", "F8_E4M3", List.of(6568L, 64L), 15600, 435952),
              new TensorInfo(
                  "layers.1.engram.wkv.weight", "F8_E4M3", List.of(480L, 768L), 435952, 804592)),
          List.copyOf(file.tensors()));
      Tensor weight = file.tensor("layers.1.engram.embed.weight");
      assertEquals(Dtype.F8_E4M3, weight.dtype());
      assertTrue(weight.hasShape(6568, 64));
      assertEquals(15600, file.region("layers.1.engram.embed.weight").offset());
      assertEquals(435952, file.region("layers.1.engram.embed.weight").end());
      file.checkUnchanged();
    }
  }

  @Test
  void theNumbersOfAGoldenFileAgreeWithEachOther() {
    try (Arena arena = Arena.ofConfined()) {
      Safetensors file =
          Safetensors.open(Golden.path("v41_mini").resolve("expected.safetensors"), arena);
      long[] primes = longs(file.tensor("primes"));
      long[] offsets = longs(file.tensor("offsets"));
      assertEquals(24, primes.length);
      for (int i = 0; i < primes.length; i++) {
        assertEquals(i % 12 == 0 ? 0 : offsets[i - 1] + primes[i - 1], offsets[i]);
      }
      Tensor copy = file.load("offsets", arena);
      assertArrayEquals(offsets, longs(copy));
      assertFalse(copy.data().isMapped());
      assertEquals(0, copy.data().address() % 64);
    }
  }

  @Test
  void readsWhatTheFormatAllows() throws IOException {
    Path path =
        write(
            "{\"b\\u00e9\uD83D\uDE00\":{\"shape\":[2,2],\"dtype\":\"I32\",\"data_offsets\":[8,24]},"
                + " \"__metadata__\":{\"format\":\"pt\",\"\":\"\\n\"},\n"
                + "\"scalar\":{\"dtype\":\"F64\",\"shape\":[],\"data_offsets\":[0,8]},"
                + "\"none\":{\"dtype\":\"F32\",\"shape\":[4294967296,0,4294967296],"
                + "\"data_offsets\":[24,24]},"
                + "\"bool\":{\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[24,25]}}   \n",
            25);
    try (Arena arena = Arena.ofConfined()) {
      Safetensors file = Safetensors.open(path, arena);
      assertEquals(
          List.of("scalar", "b\u00e9\uD83D\uDE00", "none", "bool"),
          file.tensors().stream().map(TensorInfo::name).toList());
      assertEquals(Map.of("format", "pt", "", "\n"), file.metadata());
      assertEquals(1, file.tensor("scalar").count());
      assertEquals(
          0x0B0A0908,
          file.tensor("b\u00e9\uD83D\uDE00").data().get(ValueLayout.JAVA_INT_UNALIGNED, 0));
      assertEquals(0, file.tensor("none").count());
      assertEquals(0, file.load("none", arena).count());
      assertEquals(24, file.tensor("bool").data().get(ValueLayout.JAVA_BYTE, 0));
      assertTrue(file.tensor("bool").data().isReadOnly());
      assertFalse(file.contains("format"));
    }
  }

  @Test
  void readsAFileWithoutTensors() throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      assertTrue(Safetensors.open(write("{}", 0), arena).tensors().isEmpty());
    }
  }

  @Test
  void listsTensorsOfForeignTypesAndRefusesThemByName() throws IOException {
    Path path =
        write(
            "{\"a\":{\"dtype\":\"F8_E5M2\",\"shape\":[4],\"data_offsets\":[0,4]},"
                + "\"b\":{\"dtype\":\"U16\",\"shape\":[1],\"data_offsets\":[4,6]},"
                + "\"c\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[6,8]},"
                + "\"d\":{\"dtype\":\"X9\",\"shape\":[3,3],\"data_offsets\":[8,13]},"
                + "\"e\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[13,15]}}",
            15);
    try (Arena arena = Arena.ofConfined()) {
      Safetensors file = Safetensors.open(path, arena);
      for (String name : List.of("a", "b", "c", "d")) {
        assertTrue(file.info(name).knownDtype().isEmpty());
        String message =
            assertThrows(EngramFormatException.class, () -> file.tensor(name)).getMessage();
        assertTrue(message.contains("'" + name + "' " + file.info(name).dtype()), () -> message);
        assertThrows(EngramFormatException.class, () -> file.load(name, arena));
      }
      assertEquals(5, file.region("d").bytes().byteSize());
      assertEquals(13, file.tensor("e").data().get(ValueLayout.JAVA_BYTE, 0));
    }
  }

  @Test
  void saysWhichTensorIsMissingFromWhichFile() throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      Safetensors file = Safetensors.open(write("{}", 0), arena);
      String message =
          assertThrows(EngramFormatException.class, () -> file.tensor("embed")).getMessage();
      assertTrue(message.contains("x.safetensors") && message.contains("'embed'"), message);
    }
  }

  private static final String A = "\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}";

  private static String tensor(String dtype, String shape, String offsets) {
    return "{\"a\":{\"dtype\":\""
        + dtype
        + "\",\"shape\":"
        + shape
        + ",\"data_offsets\":"
        + offsets
        + "}}";
  }

  static Stream<Arguments> badHeaders() {
    String deep = "[".repeat(1000) + "]".repeat(1000);
    return Stream.of(
        Arguments.of("", 0, "does not start with '{'"),
        Arguments.of(" {}", 0, "does not start with '{'"),
        Arguments.of("[]", 0, "does not start with '{'"),
        Arguments.of("\uFEFF{}", 0, "does not start with '{'"),
        Arguments.of("{", 0, "is not the JSON it should be"),
        Arguments.of("{}x", 0, "is not the JSON it should be"),
        Arguments.of("{}{}", 0, "is not the JSON it should be"),
        Arguments.of("{}\0", 0, "is not the JSON it should be"),
        Arguments.of("{" + A + "} \0", 4, "is not the JSON it should be"),
        Arguments.of("{'a':1}", 0, "is not the JSON it should be"),
        Arguments.of("{/*x*/}", 0, "is not the JSON it should be"),
        Arguments.of("{" + A + ",}", 4, "is not the JSON it should be"),
        Arguments.of("{\"\n\":1}", 0, "is not the JSON it should be"),
        Arguments.of("{\"a\":null}", 0, "expected BEGIN_OBJECT"),
        Arguments.of("{\"a\":[]}", 0, "expected BEGIN_OBJECT"),
        Arguments.of("{\"a\":{}}", 0, "has no dtype"),
        Arguments.of("{\"a\":{\"dtype\":\"U8\"}}", 0, "has no shape"),
        Arguments.of("{\"a\":{\"dtype\":\"U8\",\"shape\":[]}}", 0, "has no data_offsets"),
        Arguments.of("{\"a\":" + deep + "}", 0, "expected BEGIN_OBJECT"),
        Arguments.of(tensor("U8", deep, "[0,4]"), 4, "expected NUMBER"),
        Arguments.of("{\"__metadata__\":{\"k\":" + deep + "}}", 0, "expected STRING"),
        Arguments.of("{\"__metadata__\":{\"k\":1}}", 0, "expected STRING"),
        Arguments.of("{\"__metadata__\":null}", 0, "expected BEGIN_OBJECT"),
        Arguments.of("{\"__metadata__\":{\"k\":\"\",\"k\":\"\"}}", 0, "'k' occurs twice"),
        Arguments.of("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "'__metadata__' occurs twice"),
        Arguments.of("{" + A + "," + A + "}", 4, "'a' occurs twice"),
        Arguments.of("{" + A + ",\"\\u0061\":{}}", 4, "'a' occurs twice"),
        Arguments.of("{\"\\ud800\":{}}", 0, "half a surrogate pair"),
        Arguments.of(
            "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4],\"dtype\":\"I8\"}}",
            4,
            "has the key dtype twice"),
        Arguments.of(
            "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4],\"strides\":[1]}}",
            4,
            "has the key 'strides'"),
        Arguments.of(tensor("U8", "[4]", "[4,0]"), 4, "bytes 4 to 0"),
        Arguments.of(tensor("U8", "[4]", "[0,5]"), 4, "bytes 0 to 5 of a payload of 4"),
        Arguments.of(tensor("U8", "[4]", "[0,9223372036854775807]"), 4, "of a payload of 4"),
        Arguments.of(tensor("U8", "[4]", "[0,9223372036854775808]"), 4, "2^63 or more"),
        Arguments.of(tensor("U8", "[4]", "[0," + "9".repeat(100) + "]"), 4, "2^63 or more"),
        Arguments.of(
            tensor("U8", "[4]", "[0,1" + "0".repeat(5000) + "]"),
            4,
            "is not the JSON it should be"),
        Arguments.of(tensor("U8", "[4]", "[-1,4]"), 4, "expected a whole number"),
        Arguments.of(tensor("U8", "[4]", "[-0,4]"), 4, "expected a whole number"),
        Arguments.of(tensor("U8", "[4]", "[0,4.0]"), 4, "expected a whole number"),
        Arguments.of(tensor("U8", "[4]", "[0,4e0]"), 4, "expected a whole number"),
        Arguments.of(tensor("U8", "[4]", "[0,04]"), 4, "is not the JSON it should be"),
        Arguments.of(tensor("U8", "[4]", "[0,\"4\"]"), 4, "expected NUMBER"),
        Arguments.of(tensor("U8", "[4]", "[0,NaN]"), 4, "is not the JSON it should be"),
        Arguments.of(tensor("U8", "[4]", "[0]"), 4, "has 1 data_offsets"),
        Arguments.of(tensor("U8", "[4]", "[0,4,4]"), 4, "more than 2"),
        Arguments.of(tensor("U8", "[4]", "4"), 4, "expected BEGIN_ARRAY"),
        Arguments.of(tensor("U8", "[1.5]", "[0,4]"), 4, "expected a whole number"),
        Arguments.of(tensor("U8", "[-4]", "[0,4]"), 4, "expected a whole number"),
        Arguments.of(tensor("U8", "[" + "1,".repeat(64) + "4]", "[0,4]"), 4, "more than 64"),
        Arguments.of(tensor("U8", "[5]", "[0,4]"), 4, "takes 40 bits"),
        Arguments.of(tensor("F32", "[4]", "[0,4]"), 4, "takes 128 bits"),
        Arguments.of(tensor("F8_E5M2", "[5]", "[0,4]"), 4, "takes 40 bits"),
        Arguments.of(tensor("F4", "[7]", "[0,4]"), 4, "takes 28 bits"),
        Arguments.of(tensor("F32", "[4294967296,4294967296]", "[0,4]"), 4, "overflows 64 bits"),
        Arguments.of(tensor("F64", "[2305843009213693952]", "[0,0]"), 0, "overflows 64 bits"),
        Arguments.of(tensor("U8", "[0]", "[0,4]"), 4, "takes 0 bits"),
        Arguments.of(tensor("U8", "[3]", "[1,4]"), 4, "1 bytes between the header and 'a'"),
        Arguments.of(tensor("U8", "[4]", "[0,4]"), 6, "2 bytes after 'a'"),
        Arguments.of("{}", 1, "1 bytes after the header"),
        Arguments.of(
            "{" + A + ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[3,7]}}",
            7,
            "'b' overlaps 'a'"),
        Arguments.of(
            "{" + A + ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
            4,
            "'b' overlaps 'a'"),
        Arguments.of(
            "{" + A + ",\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[2,2]}}",
            4,
            "'b' overlaps 'a'"),
        Arguments.of(
            "{" + A + ",\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[5,8]}}",
            8,
            "1 bytes between 'a' and 'b'"));
  }

  @ParameterizedTest
  @MethodSource("badHeaders")
  void refusesHeadersThatBreakARule(String header, int payload, String expected)
      throws IOException {
    refused(write(header, payload), expected);
  }

  private static void refused(Path path, String expected) {
    try (Arena arena = Arena.ofConfined()) {
      String message =
          assertThrows(EngramFormatException.class, () -> Safetensors.open(path, arena))
              .getMessage();
      assertTrue(message.startsWith(path.toString()) && message.contains(expected), () -> message);
      assertTrue(message.length() < 2000, "a message that nobody can read");
    }
  }

  @Test
  void refusesFilesThatEndTooEarly() throws IOException {
    byte[] good = file("{" + A + "}", 4);
    assertEquals(1, open(write(good)));
    for (int length = 0; length < good.length; length++) {
      refused(write(java.util.Arrays.copyOf(good, length)), "");
    }
    refused(write(new byte[0]), "has at least 8 bytes, this one has 0");
  }

  private static int open(Path path) {
    try (Arena arena = Arena.ofConfined()) {
      return Safetensors.open(path, arena).tensors().size();
    }
  }

  @Test
  void refusesTextThatIsNotUtf8() throws IOException {
    byte[] bytes = file("{\"abc\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4);
    bytes[10] = (byte) 0xC0;
    refused(write(bytes), "is not UTF-8");
    bytes[10] = (byte) 0xED;
    bytes[11] = (byte) 0xA0;
    bytes[12] = (byte) 0x80;
    refused(write(bytes), "is not UTF-8");
  }

  @Test
  void refusesClaimedHeadersWithoutTakingMemoryForThem() throws IOException {
    Path path = directory.resolve("sparse.safetensors");
    try (FileChannel channel =
        FileChannel.open(path, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
      channel.write(ByteBuffer.wrap(new byte[1]), 300_000_000);
    }
    Map<Long, String> claims =
        Map.of(
            -1L,
            "18446744073709551615",
            Long.MIN_VALUE,
            "9223372036854775808",
            Long.MAX_VALUE,
            "at most 100000000",
            100_000_001L,
            "at most 100000000",
            100_000_000L,
            "is not the JSON");
    ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
    for (Map.Entry<Long, String> claim : claims.entrySet()) {
      try (FileChannel channel = FileChannel.open(path, StandardOpenOption.WRITE)) {
        ByteBuffer start = ByteBuffer.allocate(9).order(ByteOrder.LITTLE_ENDIAN);
        channel.write(start.putLong(claim.getKey()).put((byte) '{').flip(), 0);
      }
      long before = threads.getCurrentThreadAllocatedBytes();
      refused(path, claim.getValue());
      long allocated = threads.getCurrentThreadAllocatedBytes() - before;
      assertTrue(allocated < 4_000_000, () -> claim + " took " + allocated + " bytes");
    }
  }

  @Test
  void refusesWhatIsNoFile() {
    refused(directory, "is a directory");
    refused(directory.resolve("absent"), "there is no such file");
  }

  @Test
  void readsTensorsBeyondFourGiB() throws IOException {
    long big = (5L << 30) + 3;
    String header =
        "{\"big\":{\"dtype\":\"U8\",\"shape\":["
            + big
            + "],\"data_offsets\":[0,"
            + big
            + "]},\"last\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":["
            + big
            + ","
            + (big + 4)
            + "]}}";
    byte[] start = file(header, 0);
    Path path = directory.resolve("big.safetensors");
    try (FileChannel channel =
        FileChannel.open(path, StandardOpenOption.CREATE_NEW, StandardOpenOption.WRITE)) {
      channel.write(ByteBuffer.wrap(start));
      channel.write(ByteBuffer.wrap(new byte[] {9, 1, 2, 3, 4}), start.length + big - 1);
    }
    try (Arena arena = Arena.ofConfined()) {
      Safetensors file = Safetensors.open(path, arena);
      assertEquals(9, file.tensor("big").data().get(ValueLayout.JAVA_BYTE, big - 1));
      assertEquals(0x04030201, file.load("last", arena).data().get(ValueLayout.JAVA_INT, 0));
      assertEquals(start.length + big, file.info("last").begin());
    } finally {
      Files.delete(path);
    }
  }

  @Test
  void noticesThatTheFileIsAnotherOne() throws IOException {
    byte[] first = file("{" + A + "}", 4);
    Path path = write(first);
    Path other = directory.resolve("other");
    try (Arena arena = Arena.ofConfined()) {
      Safetensors file = Safetensors.open(path, arena);
      file.checkUnchanged();
      // Replaced, by bytes and even a time that are the same.
      Files.write(other, first);
      Files.setLastModifiedTime(other, Files.getLastModifiedTime(path));
      Files.move(other, path, StandardCopyOption.REPLACE_EXISTING);
      assertThrows(EngramFormatException.class, file::checkUnchanged);
      assertEquals(3, file.tensor("a").data().get(ValueLayout.JAVA_BYTE, 3));
    }
    try (Arena arena = Arena.ofConfined()) {
      Safetensors file = Safetensors.open(path, arena);
      // Overwritten in place: the mapping shows it, so that somebody must ask.
      byte[] second = first.clone();
      second[second.length - 1] = 77;
      Files.write(path, second);
      Files.setLastModifiedTime(
          path, java.nio.file.attribute.FileTime.fromMillis(System.currentTimeMillis() + 5000));
      assertEquals(77, file.tensor("a").data().get(ValueLayout.JAVA_BYTE, 3));
      String message = assertThrows(EngramFormatException.class, file::checkUnchanged).getMessage();
      assertTrue(message.contains("has changed since it was opened"), message);
      Files.delete(path);
      assertThrows(EngramFormatException.class, file::checkUnchanged);
    }
  }

  @Test
  void aCopyOfATruncatedFileIsRefused() throws IOException {
    Path path =
        write("{\"a\":{\"dtype\":\"U8\",\"shape\":[40000],\"data_offsets\":[0,40000]}}", 40000);
    try (Arena arena = Arena.ofConfined()) {
      Safetensors file = Safetensors.open(path, arena);
      assertEquals(
          39999, (file.load("a", arena).data().get(ValueLayout.JAVA_BYTE, 39999) & 0xFF) + 39936);
      for (long size : new long[] {39999, 20000, 0}) {
        try (FileChannel channel = FileChannel.open(path, StandardOpenOption.WRITE)) {
          channel.truncate(size);
        }
        String message =
            assertThrows(EngramException.class, () -> file.load("a", arena)).getMessage();
        assertTrue(message.contains("it has " + size + " now"), message);
      }
    }
  }

  @Test
  void regionsCheckTheirArguments() throws IOException {
    try (Arena arena = Arena.ofConfined()) {
      Safetensors file = Safetensors.open(write("{" + A + "}", 4), arena);
      MemorySegment out = MemorySegment.ofArray(new byte[5]);
      file.region("a").copyTo(out, 1);
      assertArrayEquals(new byte[] {0, 0, 1, 2, 3}, out.toArray(ValueLayout.JAVA_BYTE));
      assertThrows(IllegalArgumentException.class, () -> file.region("a").copyTo(out, 2));
      assertThrows(IllegalArgumentException.class, () -> file.region("a").copyTo(out, -1));
    }
  }
}
