// SPDX-License-Identifier: Apache-2.0
/**
 * Where stored rows live and how they are fetched: the {@link io.engram.store.RowStore} contract
 * and its tiers.
 */
package io.engram.store;
