// Packing real values to bits, once for every vector instruction set: `Lanes` wraps its vectors, as in
// `finish_lanes.h`, and has `holds<kCompare>(x, lower, upper)` besides, and with kStoresApart what stores words apart.
// A lane is a pixel.
//
// Included by files that are compiled for different instruction sets, each with a Lanes type of its own in an unnamed
// namespace: no function in here is shared between them.
#pragma once

#include "core/float16.h"
#include "cpu/kernels.h"

namespace bnn::cpu {

// The channels are far apart in memory: of each, as many values as a few registers hold are read in one go.
constexpr int kPackVectors = 4;

// kVectors vectors of pixels, from `first` on. `lanes`: none for whole vectors, else how many of the only one count.
template <class Lanes, class Value, Compare kCompare, int kVectors, class... Count>
void pack_vectors(const PackTask& t, int64_t first, Count... lanes) {
  alignas(64) uint32_t row[kVectors * Lanes::kWidth] = {};
  decltype(Lanes::load(row)) words[kVectors];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) words[v] = Lanes::load(row);
  for (int c = 0; c < t.channels; ++c) {
    const auto* x = static_cast<const Value*>(t.x) + c * t.plane_stride + first;
    const int64_t bound = c * t.bound_stride;
    const auto lower = Lanes::set(t.lower[bound]);
    const auto upper = kCompare == Compare::kBetween ? Lanes::set(t.upper[bound]) : lower;
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) {
      // A few lines of each of many channels are more streams than a processor foresees.
      if (kVectors > 1) __builtin_prefetch(x + (2 * kVectors + v) * Lanes::kWidth);
      const auto is_set = Lanes::template holds<kCompare>(Lanes::load(x + v * Lanes::kWidth, lanes...), lower, upper);
      words[v] = Lanes::with_bit(words[v], is_set, uint32_t{1} << c);
    }
  }
  if constexpr (Lanes::kStoresApart && sizeof...(lanes) == 0) {
    if (Lanes::can_store_apart(t.word_stride)) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v)
        Lanes::store_apart(t.words + (first + v * Lanes::kWidth) * t.word_stride, words[v], t.word_stride);
      return;
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) Lanes::store(row + v * Lanes::kWidth, words[v]);
  const int64_t most = int64_t{kVectors} * Lanes::kWidth, count = t.pixels - first < most ? t.pixels - first : most;
  for (int64_t i = 0; i < count; ++i) t.words[(first + i) * t.word_stride] = static_cast<int32_t>(row[i]);
}

template <class Lanes, class Value, Compare kCompare>
void pack_pixels(const PackTask& t) {
  constexpr int64_t kWidth = Lanes::kWidth;
  int64_t p = 0;
  for (; p + kPackVectors * kWidth <= t.pixels; p += kPackVectors * kWidth)
    pack_vectors<Lanes, Value, kCompare, kPackVectors>(t, p);
  for (; p + kWidth <= t.pixels; p += kWidth) pack_vectors<Lanes, Value, kCompare, 1>(t, p);
  if (p < t.pixels) pack_vectors<Lanes, Value, kCompare, 1>(t, p, static_cast<int>(t.pixels - p));
}

template <class Lanes, class Value>
void pack_values(const PackTask& t) {
  switch (t.compare) {
    case Compare::kGreaterOrEqual:
      return pack_pixels<Lanes, Value, Compare::kGreaterOrEqual>(t);
    case Compare::kGreater:
      return pack_pixels<Lanes, Value, Compare::kGreater>(t);
    case Compare::kNotGreaterOrEqual:
      return pack_pixels<Lanes, Value, Compare::kNotGreaterOrEqual>(t);
    case Compare::kBetween:
      return pack_pixels<Lanes, Value, Compare::kBetween>(t);
  }
}

template <class Lanes>
void pack(const PackTask& t) {
  t.float16 ? pack_values<Lanes, Half>(t) : pack_values<Lanes, float>(t);
}

}  // namespace bnn::cpu
