// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.lang.System.Logger;
import java.lang.System.Logger.Level;
import java.lang.foreign.Arena;
import java.lang.foreign.SymbolLookup;
import java.net.JarURLConnection;
import java.net.URL;
import java.net.URLConnection;
import java.nio.channels.FileChannel;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.PosixFileAttributes;
import java.nio.file.attribute.PosixFilePermission;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.zip.CRC32;
import java.util.zip.CheckedInputStream;

/**
 * A library in machine code that lies in a jar of the class path, as JavaCPP's presets have it. Its
 * files are unpacked once into a directory named after their content and opened from there; no
 * class of the preset is needed, nor anything of the preset's own dependencies.
 *
 * <p>The directory lies in {@code engram-USER} below {@code java.io.tmpdir}, which must belong to
 * the user alone, or in the one that the system property {@code engram.cache} names. Several
 * processes may unpack at once: each file appears whole or not at all.
 *
 * @param name what users call it
 * @param artifact group, artifact and version that it is taken from
 * @param folder where the jar has it, without the platform
 * @param library its file
 * @param companions files that must be open before it, in order; those that the jar lacks are left
 *     out
 * @param siblings files that it finds beside itself
 */
record BundledLibrary(
    String name,
    String artifact,
    String folder,
    String library,
    List<String> companions,
    List<String> siblings) {
  /** The system property that names the directory for unpacked libraries. */
  static final String CACHE = "engram.cache";

  private static final Set<PosixFilePermission> OWNER_ONLY =
      PosixFilePermissions.fromString("rwx------");

  /**
   * Opens the library, for good.
   *
   * @return its functions, and those of what it depends on
   * @throws IllegalStateException if it cannot be had, with what to do about it
   */
  SymbolLookup open() {
    String platform = platform();
    ClassLoader loader = BundledLibrary.class.getClassLoader();
    if (resource(loader, platform, library) == null) {
      throw new IllegalStateException(
          name
              + " is not on the class path: add the artifact "
              + artifact
              + " with the classifier "
              + platform);
    }
    Path directory;
    try {
      directory = unpack(loader, platform, cache());
    } catch (IOException e) {
      throw new IllegalStateException(
          name
              + " cannot be unpacked ("
              + e
              + "): name a directory for it with -D"
              + CACHE
              + "=DIRECTORY",
          e);
    }
    SymbolLookup symbols;
    try {
      for (String companion : companions) {
        Path file = directory.resolve(companion);
        if (Files.exists(file)) {
          SymbolLookup.libraryLookup(file, Arena.global());
        }
      }
      symbols = SymbolLookup.libraryLookup(directory.resolve(library), Arena.global());
    } catch (IllegalCallerException e) {
      Module module = BundledLibrary.class.getModule();
      throw new IllegalStateException(
          name
              + " cannot be called, because native access is denied: add --enable-native-access="
              + (module.isNamed() ? module.getName() : "ALL-UNNAMED"),
          e);
    } catch (IllegalArgumentException e) {
      throw new IllegalStateException(
          name
              + " was unpacked, but the system does not open "
              + directory.resolve(library)
              + ": if no code may run from that file system, name another directory with -D"
              + CACHE
              + "=DIRECTORY",
          e);
    }
    Logger log = System.getLogger("io.engram");
    log.log(Level.DEBUG, "{0}: opened {1}", name, directory.resolve(library));
    return symbols;
  }

  private String platform() {
    String system = System.getProperty("os.name");
    String processor = System.getProperty("os.arch");
    if (!system.equals("Linux")) {
      throw new IllegalStateException(
          name + " is used on Linux alone, and this is " + system + " on " + processor);
    }
    return switch (processor) {
      case "amd64" -> "linux-x86_64";
      case "aarch64" -> "linux-arm64";
      default -> "linux-" + processor;
    };
  }

  private URL resource(ClassLoader loader, String platform, String file) {
    return loader.getResource(folder + "/" + platform + "/" + file);
  }

  /** Where unpacked libraries go; not checked if the user has named it. */
  private static Path cache() throws IOException {
    String named = System.getProperty(CACHE);
    if (named != null) {
      return Files.createDirectories(Path.of(named));
    }
    Path cache =
        Path.of(
            System.getProperty("java.io.tmpdir"), "engram-" + System.getProperty("user.name", ""));
    if (!Files.exists(cache, LinkOption.NOFOLLOW_LINKS)) {
      try {
        Files.createDirectory(cache, PosixFilePermissions.asFileAttribute(OWNER_ONLY));
      } catch (FileAlreadyExistsException e) {
        // Another process was faster; what it made is checked like any other.
      }
    }
    checkPrivate(cache);
    return cache;
  }

  /** In a directory that all can write to, somebody else may have put theirs first. */
  static void checkPrivate(Path cache) throws IOException {
    PosixFileAttributes found =
        Files.readAttributes(cache, PosixFileAttributes.class, LinkOption.NOFOLLOW_LINKS);
    if (!found.isDirectory()
        || !found.owner().equals(Files.getOwner(Path.of("/proc/self")))
        || found.permissions().contains(PosixFilePermission.GROUP_WRITE)
        || found.permissions().contains(PosixFilePermission.OTHERS_WRITE)) {
      throw new IOException(cache + " is not a directory of this user alone");
    }
  }

  /** Unpacks what is not there yet, and says where it is. */
  private Path unpack(ClassLoader loader, String platform, Path cache) throws IOException {
    Content main = Content.of(resource(loader, platform, library));
    String label = library.substring(0, library.indexOf('.'));
    Path directory =
        Files.createDirectories(
            cache.resolve(
                String.format(Locale.ROOT, "%s-%s-%08x", label, platform, main.checksum())));
    for (List<String> files : List.of(companions, siblings, List.of(library))) {
      for (String file : files) {
        URL resource = resource(loader, platform, file);
        if (resource != null) {
          unpack(resource, directory.resolve(file));
        }
      }
    }
    return directory;
  }

  private static void unpack(URL resource, Path file) throws IOException {
    Content content = Content.of(resource);
    if (Files.isRegularFile(file) && Files.size(file) == content.bytes()) {
      return;
    }
    Path part = Files.createTempFile(file.getParent(), file.getFileName().toString(), ".part");
    try {
      try (InputStream in = resource.openStream()) {
        Files.copy(in, part, StandardCopyOption.REPLACE_EXISTING);
      }
      if (Files.size(part) != content.bytes()) {
        throw new IOException(
            part + " has " + Files.size(part) + " bytes, expected " + content.bytes());
      }
      // A machine that stops after the move must not find a file of the right size and no content.
      try (FileChannel channel = FileChannel.open(part, StandardOpenOption.WRITE)) {
        channel.force(true);
      }
      Files.move(part, file, StandardCopyOption.ATOMIC_MOVE);
    } finally {
      Files.deleteIfExists(part);
    }
  }

  /** Size and CRC-32 of a resource. */
  private record Content(long bytes, long checksum) {
    static Content of(URL resource) throws IOException {
      URLConnection connection = resource.openConnection();
      connection.setUseCaches(false);
      try (InputStream in = connection.getInputStream()) {
        if (connection instanceof JarURLConnection jar) {
          // The jar's directory has both, so that nothing is inflated to learn them.
          return new Content(jar.getJarEntry().getSize(), jar.getJarEntry().getCrc());
        }
        CheckedInputStream checked = new CheckedInputStream(in, new CRC32());
        long bytes = checked.transferTo(OutputStream.nullOutputStream());
        return new Content(bytes, checked.getChecksum().getValue());
      }
    }
  }
}
