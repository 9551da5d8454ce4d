// SPDX-License-Identifier: Apache-2.0
/**
 * For the modules of this project only: which of two equal kernels, scalar or Vector API, runs. Not
 * part of the public interface.
 */
package io.engram.hash.kernel;
