// SPDX-License-Identifier: Apache-2.0
/**
 * Checkpoints on disk: safetensors files in and out, and the released layouts, read in place.
 *
 * <p>Every file is untrusted. A file that breaks a rule of its format is refused as a whole, with
 * an {@link io.engram.EngramFormatException} that names the file and what is wrong with it, before
 * memory in proportion to a number in that file is taken.
 */
package io.engram.checkpoint;
