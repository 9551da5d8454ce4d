// SPDX-License-Identifier: Apache-2.0
/** The {@code engram} command: one class for each subcommand. */
package io.engram.bench.command;
