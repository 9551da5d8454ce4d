// SPDX-License-Identifier: Apache-2.0
/**
 * A small language model with a conditional memory: a decoder-only transformer whose parameters are
 * ND4J arrays, trained by ND4J's Adam, with Engram layers where its configuration wants them. It
 * uses the library's public API alone and shows how a training loop of one's own looks.
 *
 * <p>Every part is a class that remembers its forward and returns, in its backward, the gradient of
 * its input, adding to those of its parameters. Matrix products are ND4J's own OpenBLAS; the loops
 * between them run on heap arrays, over which the compiler makes vector code.
 */
package io.engram.examples.lm;
