// SPDX-License-Identifier: Apache-2.0
/**
 * Tables beyond one machine, in Redis or Valkey: one server or a cluster. {@link
 * io.engram.redis.RedisTables} is the way in.
 */
package io.engram.redis;
