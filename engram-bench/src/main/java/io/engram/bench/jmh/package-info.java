// SPDX-License-Identifier: Apache-2.0
/** The benchmarks. */
package io.engram.bench.jmh;
