// SPDX-License-Identifier: Apache-2.0
/** Row formats and sharded tables: from stored rows to float or bfloat16 values. */
package io.engram.table;
