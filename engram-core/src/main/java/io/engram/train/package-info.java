// SPDX-License-Identifier: Apache-2.0
/**
 * Training: sparse gradients of tables and the optimisers that apply them. What a step costs grows
 * with the rows that it touches and not with the table.
 */
package io.engram.train;
