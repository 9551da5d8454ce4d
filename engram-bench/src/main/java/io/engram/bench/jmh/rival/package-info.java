// SPDX-License-Identifier: Apache-2.0
/**
 * What the library is measured against, and whether it is there: C compiled at run time, NumPy and
 * PyTorch in a process of their own, ND4J, LMDB and RocksDB.
 */
package io.engram.bench.jmh.rival;
