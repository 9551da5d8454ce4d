// SPDX-License-Identifier: Apache-2.0
/**
 * Rows and a hidden state to gated memory.
 *
 * <p>{@link io.engram.gating.GateKernel} works on memory segments and loads no tensor library;
 * {@link io.engram.gating.EngramLayer} is the same layer on ND4J arrays. {@link
 * io.engram.gating.ConvState} is what decoding carries from call to call.
 */
package io.engram.gating;
