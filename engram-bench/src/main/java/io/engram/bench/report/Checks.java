// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.report;

import java.util.List;
import java.util.Objects;

/** What records of this package demand of their components. */
final class Checks {
  private Checks() {}

  static void named(String name, String value) {
    if (value == null || value.isBlank()) {
      throw new IllegalArgumentException(name + ": is missing");
    }
  }

  static <T> List<T> list(String name, List<T> value) {
    if (value == null || value.stream().anyMatch(Objects::isNull)) {
      throw new IllegalArgumentException(name + ": is missing");
    }
    return List.copyOf(value);
  }

  static <T> T present(String name, T value) {
    if (value == null) {
      throw new IllegalArgumentException(name + ": is missing");
    }
    return value;
  }
}
