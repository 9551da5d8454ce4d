// SPDX-License-Identifier: Apache-2.0
/** Token ids to row ids: arithmetic only, with no I/O, no tensors and no dependencies. */
package io.engram.hash;
