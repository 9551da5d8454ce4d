// SPDX-License-Identifier: Apache-2.0
/** Small programs, each of which can be read from top to bottom and run as it is. */
package io.engram.examples;
