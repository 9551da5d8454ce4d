// SPDX-License-Identifier: Apache-2.0
/**
 * What a memory costs before it is there: reads, bytes and time of a token, and memory, predicted
 * from the shape of the tables, the work and a disk. Arithmetic only; {@link
 * io.engram.plan.CapacityPlan} states the model.
 */
package io.engram.plan;
