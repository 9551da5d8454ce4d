// SPDX-License-Identifier: Apache-2.0
/** Golden vectors and checks shared by the tests of every module. */
package io.engram.testkit;
