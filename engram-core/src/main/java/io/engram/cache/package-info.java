// SPDX-License-Identifier: Apache-2.0
/**
 * Hot rows kept in memory in front of a slower store, and the means to learn beforehand whether
 * that would help.
 */
package io.engram.cache;
