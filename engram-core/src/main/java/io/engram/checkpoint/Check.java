// SPDX-License-Identifier: Apache-2.0
package io.engram.checkpoint;

/**
 * One thing about a checkpoint that can be known before its payload is read.
 *
 * @param subject what was looked at: a file, a tensor, a layer's moduli
 * @param expected what the configuration demands
 * @param found what the checkpoint has
 * @param holds whether they agree
 */
public record Check(String subject, String expected, String found, boolean holds) {

  static Check equal(String subject, Object expected, Object found) {
    return new Check(
        subject, String.valueOf(expected), String.valueOf(found), expected.equals(found));
  }

  static Check failed(String subject, String expected, String found) {
    return new Check(subject, expected, found, false);
  }

  @Override
  public String toString() {
    return holds ? subject + ": " + found : subject + ": expected " + expected + ", found " + found;
  }
}
