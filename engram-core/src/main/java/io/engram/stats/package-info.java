// SPDX-License-Identifier: Apache-2.0
/** What a memory did: counters of every tier, times, and their events for Java Flight Recorder. */
package io.engram.stats;
