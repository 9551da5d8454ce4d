// SPDX-License-Identifier: Apache-2.0
package io.engram.gating;

/**
 * A projection's outputs in groups that fit a cache beside the tokens of a block. A group belongs
 * to one section, the keys of one stream or the value, so that what it adds to the gate's sums can
 * be kept apart; a section's last group may be narrower.
 *
 * @param sections streams, and the value
 * @param width outputs of a section
 * @param groupWidth outputs of a group
 */
record OutputGroups(int sections, int width, int groupWidth) {
  /** Groups of one section. */
  int perSection() {
    return Math.ceilDiv(width, groupWidth);
  }

  /** All groups: group g of section s is item s * perSection + g. */
  int count() {
    return sections * perSection();
  }

  int section(int item) {
    return item / perSection();
  }

  /** Which group of its section an item is. */
  int group(int item) {
    return item % perSection();
  }

  /** The first column of an item in its section. */
  int column(int item) {
    return group(item) * groupWidth;
  }

  /** Columns of an item. */
  int columns(int item) {
    return Math.min(groupWidth, width - column(item));
  }

  /** The first output of an item. */
  int output(int item) {
    return section(item) * width + column(item);
  }
}
