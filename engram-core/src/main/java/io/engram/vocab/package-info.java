// SPDX-License-Identifier: Apache-2.0
/**
 * Text to token ids to compressed ids: the first arrow of the memory.
 *
 * <p>{@link io.engram.vocab.Vocabulary} holds what a tokenizer calls its ids, {@link
 * io.engram.vocab.Tokenizer} turns text into ids and back, {@link io.engram.vocab.TokenMap} merges
 * ids that read alike (paper, section 2.2), and {@link io.engram.vocab.TokenMapFile} freezes that
 * map, because every multiplier and every row id depends on it.
 *
 * <p>The reference is the Rust library {@code tokenizers}, which the released models use.
 */
package io.engram.vocab;
