// SPDX-License-Identifier: Apache-2.0
package io.engram.stats;

/**
 * What a tier was asked for since it was opened.
 *
 * @param reads batches
 * @param rows rows of the batches that were read
 * @param bytes bytes of those rows, as stored
 * @param failures batches that ended with an exception
 * @param readTime time of a batch; nothing is measured where rows come from memory
 */
public record TierStatistics(
    long reads, long rows, long bytes, long failures, LatencySummary readTime) {}
