// SPDX-License-Identifier: Apache-2.0
package io.engram.bench.jmh.rival;

import java.lang.annotation.Documented;
import java.lang.annotation.ElementType;
import java.lang.annotation.Retention;
import java.lang.annotation.RetentionPolicy;
import java.lang.annotation.Target;

/**
 * What a benchmark method cannot run without, so that it is left out, with the reason, elsewhere.
 */
@Documented
@Retention(RetentionPolicy.RUNTIME)
@Target(ElementType.METHOD)
public @interface Needs {
  /**
   * The rival that the method runs.
   *
   * @return the rival
   */
  Rival value();
}
