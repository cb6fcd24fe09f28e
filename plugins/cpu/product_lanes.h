// Sums of products of float32, for a few output channels and a few vectors of pixels at a time: the inner loop of the
// float layers. Included by files that are compiled for different instruction sets: see `finish_lanes.h`.
#pragma once

#include <cstdint>

namespace bnn::cpu {

template <class Lanes>
using Vector = decltype(Lanes::set(0.0f));

// Lanes::kFloatOutputs output channels of up to three vectors of pixels: what the registers of a set hold.
template <class Lanes, int kVectors>
struct Sums {
  Vector<Lanes> of[Lanes::kFloatOutputs][kVectors];
};

// sums[o][v] = sum over k < terms of weights[k][o] * rows[k][v].
//
// weights: [terms, Lanes::kFloatOutputs]; rows: [terms, row_stride] floats, of which the first kVectors vectors, at
// most three, count; k goes up.
template <class Lanes, int kVectors, bool kPrefetch = false>
inline __attribute__((always_inline)) Sums<Lanes, kVectors> sum_products(const float* weights, const float* rows,
                                                                         int64_t row_stride, int64_t terms) {
  Sums<Lanes, kVectors> sums;
#pragma GCC unroll 8
  for (int o = 0; o < Lanes::kFloatOutputs; ++o)
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) sums.of[o][v] = Lanes::set(0.0f);
  for (int64_t k = 0; k < terms; ++k, weights += Lanes::kFloatOutputs, rows += row_stride) {
    if constexpr (kPrefetch) __builtin_prefetch(weights + kPrefetchedBytes / sizeof(float));
    Vector<Lanes> x[kVectors];
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) x[v] = Lanes::load(rows + v * Lanes::kWidth);
#pragma GCC unroll 8
    for (int o = 0; o < Lanes::kFloatOutputs; ++o) {
      const auto weight = Lanes::set(weights[o]);
#pragma GCC unroll 3
      for (int v = 0; v < kVectors; ++v) sums.of[o][v] = Lanes::multiply_add(weight, x[v], sums.of[o][v]);
    }
  }
  return sums;
}

}  // namespace bnn::cpu
