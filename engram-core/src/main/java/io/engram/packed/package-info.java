// SPDX-License-Identifier: Apache-2.0
/**
 * Packed row files: a table whose rows lie whole, values and scales together, in files of its own
 * that say which table they are of and carry checksums. {@link io.engram.packed.PackedConverter}
 * makes them, {@link io.engram.packed.PackedTable} reads them. The layout, byte by byte, is in
 * {@code docs/file-formats-packed.md}.
 */
package io.engram.packed;
