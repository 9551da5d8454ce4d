// SPDX-License-Identifier: Apache-2.0
/** Row formats and tables: from stored rows to float32 or bfloat16 values. */
package io.engram.table;
