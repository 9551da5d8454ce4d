// SPDX-License-Identifier: Apache-2.0
/**
 * Token ids to row ids: arithmetic only, with no I/O, no tensors and no dependencies.
 *
 * <p>{@link io.engram.hash.HashScheme} says how the row ids of a model are made, {@link
 * io.engram.hash.HashLayout} holds what follows from it for one layer, {@link
 * io.engram.hash.NgramHasher} applies it to ids, and {@link io.engram.hash.Lookback} carries the
 * few ids before a chunk from one call to the next.
 */
package io.engram.hash;
