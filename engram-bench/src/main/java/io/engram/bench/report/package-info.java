// SPDX-License-Identifier: Apache-2.0
/**
 * What measurements leave behind: runs as records, the history file that they are appended to, and
 * tables and charts made of both. Nothing here measures anything.
 */
package io.engram.bench.report;
