// SPDX-License-Identifier: Apache-2.0
package io.engram.hash;

/** The kernels of the Vector API, by the moduli for which each is exact. */
final class VectorHashKernels implements HashKernel.Maker {
  @Override
  public HashKernel make(HashTerms terms) {
    if (FractionHashKernel.takes(terms)) {
      return new FractionHashKernel(terms);
    }
    return terms.allModuliWithin(QuotientHashKernel.SMALLEST_MODULUS, Long.MAX_VALUE)
        ? new QuotientHashKernel(terms)
        : new ScalarHashKernel(terms);
  }
}
