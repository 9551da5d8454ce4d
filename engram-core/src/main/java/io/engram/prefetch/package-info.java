// SPDX-License-Identifier: Apache-2.0
/**
 * Rows before they are asked for: a chunk is hashed once, its rows are read in the background, and
 * each layer finds its own when it gets there.
 */
package io.engram.prefetch;
