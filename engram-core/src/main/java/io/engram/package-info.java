// SPDX-License-Identifier: Apache-2.0
/**
 * Conditional memory for language models: from token ids to the rows that they stand for.
 *
 * <p>{@link io.engram.EngramConfig} describes every variant.
 */
package io.engram;
