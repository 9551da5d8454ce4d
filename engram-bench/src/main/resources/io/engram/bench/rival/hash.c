// SPDX-License-Identifier: Apache-2.0
// N-gram hashing in C, as fast as its author could make it: what the library's kernel is measured
// against. Compile with: gcc -O3 -march=native -shared -fPIC hash.c -o libhash.so
//
// Moduli from 2^15 + 1 to 2^25 (all released tables) take the fast way: with the hash h = a 2^39 + b,
// the double t = 2^25 + 2^-26 + b (1 / m) + a (2^39 mod m) / m has the fraction of h / m in its last
// 27 bits, too large by less than 1 / m, so that fraction * m >> 27 is h mod m. Others take the
// upper half of a 128-bit product and one correction. At most 64 orders.
#include <stdint.h>
#include <string.h>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

enum { BLOCK = 64, SPLIT = 39, BITS = 27, MAX_COLUMNS = 256, MAX_ORDERS = 64 };

#if defined(__AVX512F__)
#define LANES 8
typedef __m512d vd;
typedef __m512i vl;
#define V(op) _mm512_##op
#define AND(a, b) _mm512_and_si512(a, b)
#define OR(a, b) _mm512_or_si512(a, b)
#define XOR(a, b) _mm512_xor_si512(a, b)
#define ASD(a) _mm512_castsi512_pd(a)
#define ASL(a) _mm512_castpd_si512(a)
#define LOADL(p) _mm512_loadu_si512(p)
#define STOREL(p, v) _mm512_storeu_si512(p, v)
#define WIDEN(p) _mm512_cvtepu32_epi64(_mm256_loadu_si256((const __m256i*)(p)))
#elif defined(__AVX2__) && defined(__FMA__)
#define LANES 4
typedef __m256d vd;
typedef __m256i vl;
#define V(op) _mm256_##op
#define AND(a, b) _mm256_and_si256(a, b)
#define OR(a, b) _mm256_or_si256(a, b)
#define XOR(a, b) _mm256_xor_si256(a, b)
#define ASD(a) _mm256_castsi256_pd(a)
#define ASL(a) _mm256_castpd_si256(a)
#define LOADL(p) _mm256_loadu_si256((const __m256i*)(p))
#define STOREL(p, v) _mm256_storeu_si256((__m256i*)(p), v)
#define WIDEN(p) _mm256_cvtepu32_epi64(_mm_loadu_si128((const __m128i*)(p)))
#if !defined(__AVX512VL__)
#define _mm256_set1_epi64(x) _mm256_set1_epi64x(x)
#endif
#else
#define LANES 0
#endif

/* Any modulus from 1 to 2^63 - 1. */
static void reduce_any(const int64_t* hashes, int positions, int columns, int heads, const int64_t* moduli,
                const int64_t* offsets, int64_t* out) {
  for (int head = 0; head < heads; head++) {
    uint64_t m = moduli[head];
    uint64_t reciprocal = UINT64_MAX / m;
    for (int p = 0; p < positions; p++) {
      uint64_t hash = hashes[p];
      uint64_t rest = hash - (uint64_t)(((unsigned __int128)hash * reciprocal) >> 64) * m;
      out[(int64_t)p * columns + head] = offsets[head] + rest - (rest >= m ? m : 0);
    }
  }
}

/*
 * Row ids of a sequence from its start, for the orders 2 to `orders` and `heads` columns each.
 *
 * ids          count ids, none negative, already compressed
 * multipliers  orders values, such that no product with an id exceeds 63 bits
 * moduli       (orders - 1) * heads values from 1 to 2^63 - 1, order-major
 * offsets      what is added to each column's remainder
 * fill         the id that stands before the sequence
 * out          count * (orders - 1) * heads row ids, position-major
 */
void engram_hash(const int32_t* ids, int64_t count, const int64_t* multipliers, int orders,
                 int heads, const int64_t* moduli, const int64_t* offsets, int32_t fill,
                 int64_t* out) {
  int columns = (orders - 1) * heads;
#if LANES
  int fast = heads % LANES == 0 && columns <= MAX_COLUMNS;
  double f[MAX_COLUMNS], g[MAX_COLUMNS];
  for (int c = 0; fast && c < columns; c++) {
    fast = moduli[c] > 1 << 15 && moduli[c] <= 1 << 25;
    f[c] = (double)((1LL << SPLIT) % moduli[c]) / (double)moduli[c];
    g[c] = 1.0 / (double)moduli[c];
  }
#endif
  /* A block and the orders - 1 ids before it. */
  int32_t window[MAX_ORDERS + BLOCK] = {0};
  int reach = orders - 1;
  for (int k = 0; k < reach; k++) window[k] = fill;
  for (int64_t at = 0; at < count; at += BLOCK) {
    int positions = count - at < BLOCK ? (int)(count - at) : BLOCK;
    memcpy(window + reach, ids + at, positions * sizeof(int32_t));
    const int32_t* id = window + reach;
    int64_t hashes[BLOCK] = {0};
    for (int p = 0; p < positions; p++) hashes[p] = id[p] * multipliers[0];
    for (int order = 1; order < orders; order++) {
      int64_t multiplier = multipliers[order];
      int64_t* to = out + at * columns + (order - 1) * heads;
      const int64_t* m = moduli + (order - 1) * heads;
      const int64_t* o = offsets + (order - 1) * heads;
#if LANES
      if (fast) {
        double hi[BLOCK], lo[BLOCK];
        const vl low = V(set1_epi64)(multiplier & 0xFFFFFFFFLL);
        const vl high = V(set1_epi64)(multiplier >> 32);
        const vd two52 = V(set1_pd)(0x1p52);
        for (int p = 0; p < positions; p += LANES) {
          vl wide = WIDEN(id + p - order);
          vl product = V(add_epi64)(V(mul_epu32)(wide, low),
                                    V(slli_epi64)(V(mul_epu32)(wide, high), 32));
          vl hash = XOR(LOADL(hashes + p), product);
          STOREL(hashes + p, hash);
          vl a = OR(V(srli_epi64)(hash, SPLIT), ASL(two52));
          vl b = OR(AND(hash, V(set1_epi64)((1LL << SPLIT) - 1)), ASL(two52));
          V(storeu_pd)(hi + p, V(sub_pd)(ASD(a), two52));
          V(storeu_pd)(lo + p, V(sub_pd)(ASD(b), two52));
        }
        const vd base = V(set1_pd)(0x1p25 + 0x1p-26);
        const vl fraction = V(set1_epi64)((1 << BITS) - 1);
        for (int head = 0; head < heads; head += 2 * LANES) {
          int next = head + LANES < heads ? head + LANES : head;
          const double* f0 = f + (order - 1) * heads;
          const double* g0 = g + (order - 1) * heads;
          vd fa = V(loadu_pd)(f0 + head), fb = V(loadu_pd)(f0 + next);
          vd ga = V(loadu_pd)(g0 + head), gb = V(loadu_pd)(g0 + next);
          vl ma = LOADL(m + head), mb = LOADL(m + next);
          vl oa = LOADL(o + head), ob = LOADL(o + next);
          int64_t* row = to;
          for (int p = 0; p < positions; p++, row += columns) {
            vd h = V(set1_pd)(hi[p]), l = V(set1_pd)(lo[p]);
            vl ta = ASL(V(fmadd_pd)(h, fa, V(fmadd_pd)(l, ga, base)));
            vl tb = ASL(V(fmadd_pd)(h, fb, V(fmadd_pd)(l, gb, base)));
            ta = V(srli_epi64)(V(mul_epu32)(AND(ta, fraction), ma), BITS);
            tb = V(srli_epi64)(V(mul_epu32)(AND(tb, fraction), mb), BITS);
            STOREL(row + head, V(add_epi64)(ta, oa));
            STOREL(row + next, V(add_epi64)(tb, ob));
          }
        }
        continue;
      }
#endif
      for (int p = 0; p < positions; p++) hashes[p] ^= id[p - order] * multiplier;
      reduce_any(hashes, positions, columns, heads, m, o, to);
    }
    memmove(window, window + positions, reach * sizeof(int32_t));
  }
}
