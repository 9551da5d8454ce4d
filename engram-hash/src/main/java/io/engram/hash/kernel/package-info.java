// SPDX-License-Identifier: Apache-2.0
/**
 * For the modules of this project only: which of two equal kernels, scalar or Vector API, runs, and
 * on how many threads. Not part of the public interface.
 */
package io.engram.hash.kernel;
