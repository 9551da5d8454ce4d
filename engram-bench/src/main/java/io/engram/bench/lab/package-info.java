// SPDX-License-Identifier: Apache-2.0
/**
 * Experiments on small language models with and without a memory: what is trained, what is computed
 * of it, and how far seeds agree. {@link io.engram.bench.lab.Lab} runs an {@link
 * io.engram.bench.lab.Experiment} and can be stopped and resumed.
 */
package io.engram.bench.lab;
