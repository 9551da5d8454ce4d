// SPDX-License-Identifier: Apache-2.0
//
// Rows of a table by their ids, as a C programmer would do it: the rival of the Java kernels, on
// the same memory. Ids are not checked.
//
//   gcc -O3 -march=native -shared -fPIC -o librows.so rows.c

#include <stdint.h>
#include <string.h>

enum { LINE = 64, AHEAD = 16, BLOCK = 32 };

static inline void prefetch(const char *row, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += LINE) {
    __builtin_prefetch(row + i);
  }
  __builtin_prefetch(row + bytes - 1);
}

// Inlined with constant sizes below, so that memcpy becomes a few moves.
static inline __attribute__((always_inline)) void copy_rows(
    const char *table, const int64_t *ids, int64_t count, int64_t row_bytes, char *out) {
  for (int64_t i = 0; i < AHEAD && i < count; i++) {
    prefetch(table + ids[i] * row_bytes, row_bytes);
  }
  for (int64_t i = 0; i < count; i++) {
    if (i + AHEAD < count) {
      prefetch(table + ids[i + AHEAD] * row_bytes, row_bytes);
    }
    memcpy(out + i * row_bytes, table + ids[i] * row_bytes, row_bytes);
  }
}

// Copies rows, packed, in the order of their ids.
void engram_rows(
    const char *table, const int64_t *ids, int64_t count, int64_t row_bytes, char *out) {
  switch (row_bytes) {
    case 64: copy_rows(table, ids, count, 64, out); break;
    case 128: copy_rows(table, ids, count, 128, out); break;
    case 256: copy_rows(table, ids, count, 256, out); break;
    case 264: copy_rows(table, ids, count, 264, out); break;
    case 1024: copy_rows(table, ids, count, 1024, out); break;
    default: copy_rows(table, ids, count, row_bytes, out); break;
  }
}

// A block of 32 E4M3 codes times 2^(scale - 127), exact for scales from 8 to 246. Read as the
// exponent of a float, that of a code is right but for subnormal codes, which it takes for numbers
// of the form 1.m * 2^e where 0.m * 2^(e + 1) is meant: the lesser of x and 2x - 2^(e + 1) is right
// for both. Plain enough for a compiler to make vectors of it.
static inline void decode_block(const uint8_t *codes, uint8_t scale, float *out) {
  uint32_t bias = ((uint32_t) scale - 7) << 23;
  uint32_t first_bits = bias + (1u << 23);
  float first;
  memcpy(&first, &first_bits, sizeof first);
  for (int i = 0; i < BLOCK; i++) {
    uint32_t code = codes[i];
    uint32_t normal_bits = ((code & 0x7F) << 20) + bias;
    float normal;
    memcpy(&normal, &normal_bits, sizeof normal);
    float subnormal = normal + (normal - first);
    int32_t magnitude;
    memcpy(&magnitude, &subnormal, sizeof magnitude);
    magnitude = magnitude < (int32_t) normal_bits ? magnitude : (int32_t) normal_bits;
    magnitude = (code & 0x7F) == 0x7F ? 0x7FC00000 : magnitude;
    uint32_t bits = (uint32_t) magnitude | (code & 0x80) << 24;
    memcpy(&out[i], &bits, sizeof bits);
  }
}

// Decodes rows of head_dim E4M3 codes, followed by one UE8M0 scale for each 32 of them, to floats,
// packed, in the order of their ids. head_dim is a multiple of 32.
//
// Returns -1, or the index of the first id whose row has a scale below 8 or above 246, which this
// does not decode.
int64_t engram_fp8_rows(
    const char *table, const int64_t *ids, int64_t count, int64_t head_dim, float *out) {
  int64_t row_bytes = head_dim + head_dim / BLOCK;
  for (int64_t i = 0; i < AHEAD && i < count; i++) {
    prefetch(table + ids[i] * row_bytes, row_bytes);
  }
  for (int64_t i = 0; i < count; i++) {
    if (i + AHEAD < count) {
      prefetch(table + ids[i + AHEAD] * row_bytes, row_bytes);
    }
    const uint8_t *row = (const uint8_t *) table + ids[i] * row_bytes;
    for (int64_t block = 0; block < head_dim / BLOCK; block++) {
      uint8_t scale = row[head_dim + block];
      if (scale < 8 || scale > 246) {
        return i;
      }
      decode_block(row + block * BLOCK, scale, out + i * head_dim + block * BLOCK);
    }
  }
  return -1;
}
