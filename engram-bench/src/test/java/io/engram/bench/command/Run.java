// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.command;

import java.io.PrintWriter;
import java.io.StringWriter;

/** One run of the command, as a shell would see it. */
record Run(int exitCode, String out, String err) {
  static Run of(String... arguments) {
    StringWriter out = new StringWriter();
    StringWriter err = new StringWriter();
    int exitCode =
        EngramCommand.run(new PrintWriter(out, true), new PrintWriter(err, true), arguments);
    return new Run(exitCode, out.toString(), err.toString());
  }
}
