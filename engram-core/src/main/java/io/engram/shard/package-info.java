// SPDX-License-Identifier: Apache-2.0
/**
 * Tables over several files, directories or machines: which row lies where ({@link
 * io.engram.shard.ShardLayout}), reading them as one ({@link io.engram.shard.ShardedRowStore}), and
 * choosing a layout from what a real text asks for ({@link io.engram.shard.ShardPlanner}).
 */
package io.engram.shard;
