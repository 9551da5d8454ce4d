// SPDX-License-Identifier: Apache-2.0
// Row ids of a sequence from its start, position-major, as plain C has it: one 64-bit division for
// each row id. No boundaries, no dead positions.
#include <stdint.h>

void engram_hash(const int32_t *ids, int64_t count, int32_t fill, const int32_t *orders,
                 int32_t order_count, int32_t heads, const int64_t *multipliers,
                 const int64_t *moduli, const int64_t *offsets, int64_t *out) {
  for (int64_t t = 0; t < count; t++) {
    uint64_t acc = (uint64_t)ids[t] * (uint64_t)multipliers[0];
    int32_t reach = 1;
    int32_t column = 0;
    for (int32_t o = 0; o < order_count; o++) {
      for (; reach < orders[o]; reach++) {
        int64_t id = t >= reach ? ids[t - reach] : fill;
        acc ^= (uint64_t)id * (uint64_t)multipliers[reach];
      }
      for (int32_t h = 0; h < heads; h++, column++) {
        *out++ = (int64_t)(acc % (uint64_t)moduli[column]) + offsets[column];
      }
    }
  }
}
