// The table of the table-lookup convolution. Entry [w][a], for two output channels' weights w = even | odd << 4 and the
// activations a, four channels each: popcount(a ^ even) in the low half of the byte, popcount(a ^ odd) in the high
// half.
#pragma once

#include <cstdint>

namespace bnn::cpu {

constexpr int kNibbleTableRow = 16;  // bytes: one for each value of four bits

struct NibbleTable {
  alignas(64) uint8_t rows[256 * kNibbleTableRow];
};

constexpr uint8_t nibble_popcount(int x) {
  return static_cast<uint8_t>((x & 1) + (x >> 1 & 1) + (x >> 2 & 1) + (x >> 3));
}

constexpr NibbleTable make_nibble_table() {
  NibbleTable table{};
  for (int w = 0; w < 256; ++w)
    for (int a = 0; a < 16; ++a)
      table.rows[w * kNibbleTableRow + a] =
          static_cast<uint8_t>(nibble_popcount(a ^ (w & 15)) | nibble_popcount(a ^ (w >> 4)) << 4);
  return table;
}

}  // namespace bnn::cpu
