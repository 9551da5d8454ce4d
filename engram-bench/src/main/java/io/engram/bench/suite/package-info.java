// SPDX-License-Identifier: Apache-2.0
/**
 * Which benchmarks there are, in sets, what they are to reach, and running them round by round so
 * that the library and its rivals alternate.
 */
package io.engram.bench.suite;
