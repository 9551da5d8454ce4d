// SPDX-License-Identifier: Apache-2.0
package io.engram.vocab;

/**
 * A token that is looked for in the text before anything else.
 *
 * @param id its id
 * @param content its text
 * @param singleWord whether it may not touch a word character
 * @param stripLeft whether it takes white space before it
 * @param stripRight whether it takes white space behind it
 * @param normalized whether it is looked for in the normalised text
 */
record AddedToken(
    int id,
    String content,
    boolean singleWord,
    boolean stripLeft,
    boolean stripRight,
    boolean normalized) {}
