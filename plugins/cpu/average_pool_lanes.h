// Averages of windows, and sums of products over the channels of pixels, once for every instruction set: `Lanes` wraps
// its vectors. A lane is a pixel.
//
// Included by files that are compiled for different instruction sets: see `finish_lanes.h`.
#pragma once

#include "cpu/kernels.h"
#include "cpu/product_lanes.h"

namespace bnn::cpu {

// The averages of 2x2 windows side by side, of two vectors of either row. The sum begins at zero, as that of any window
// does: the average of four times -0 is +0.
template <class Lanes>
inline __attribute__((always_inline)) Vector<Lanes> average_four(Vector<Lanes> top0, Vector<Lanes> top1,
                                                                 Vector<Lanes> bottom0, Vector<Lanes> bottom1) {
  auto sum = Lanes::add(Lanes::set(0.0f), Lanes::evens(top0, top1));
  sum = Lanes::add(sum, Lanes::odds(top0, top1));
  sum = Lanes::add(sum, Lanes::evens(bottom0, bottom1));
  sum = Lanes::add(sum, Lanes::odds(bottom0, bottom1));
  return Lanes::multiply(Lanes::set(0.25f), sum);
}

// `count` windows of 2x2 side by side, two pixels apart. top: the first one's pixel; the row below is `width` further
// on.
template <class Lanes>
void average_2x2(const float* top, int64_t width, int64_t count, float* y) {
  constexpr int kWidth = Lanes::kWidth;
  const float* bottom = top + width;
  for (; count >= kWidth; count -= kWidth, top += 2 * kWidth, bottom += 2 * kWidth, y += kWidth)
    Lanes::store(y, average_four<Lanes>(Lanes::load(top), Lanes::load(top + kWidth), Lanes::load(bottom),
                                        Lanes::load(bottom + kWidth)));
  if (count == 0) return;
  const auto lanes = static_cast<int>(count), beyond = 2 * lanes - kWidth;
  if (beyond <= 0) {
    const auto above = Lanes::load(top, 2 * lanes), below = Lanes::load(bottom, 2 * lanes);
    Lanes::store(y, average_four<Lanes>(above, above, below, below), lanes);
  } else {
    Lanes::store(y,
                 average_four<Lanes>(Lanes::load(top), Lanes::load(top + kWidth, beyond), Lanes::load(bottom),
                                     Lanes::load(bottom + kWidth, beyond)),
                 lanes);
  }
}

// `count` windows of any size side by side. x: the first one's pixel.
template <class Lanes>
void average_windows(const AverageTask& t, const float* x, int64_t count, float* y) {
  const auto size = static_cast<float>(t.kernel[0] * t.kernel[1]);
  for (int64_t i = 0; i < count; ++i, x += t.strides[1]) {
    float sum = 0.0f;
    for (int64_t row = 0; row < t.kernel[0]; ++row)
      for (int64_t column = 0; column < t.kernel[1]; ++column) sum += x[row * t.width + column];
    y[i] = sum / size;
  }
}

template <class Lanes, bool k2x2>
void average_planes(const AverageTask& task) {
  const AverageTask t = task;  // a copy that no store can change
  const int64_t first_row = t.first / t.out_width, first_column = t.first % t.out_width;
  const int64_t row_step = t.strides[0] * t.width;
  for (int64_t c = 0; c < t.channels; ++c) {
    const float* row = t.x + c * t.plane_stride + first_row * row_step;
    const float* x = row + first_column * t.strides[1];
    float* y = t.y + c * t.y_stride;
    const int64_t until_end = t.out_width - first_column;
    int64_t left = t.pixels, count = left < until_end ? left : until_end;
    while (count > 0) {
      k2x2 ? average_2x2<Lanes>(x, t.width, count, y) : average_windows<Lanes>(t, x, count, y);
      y += count;
      left -= count;
      count = left < t.out_width ? left : t.out_width;
      x = row += row_step;
    }
  }
}

template <class Lanes>
void average(const AverageTask& t) {
  const bool is_2x2 = t.kernel[0] == 2 && t.kernel[1] == 2 && t.strides[1] == 2;
  is_2x2 ? average_planes<Lanes, true>(t) : average_planes<Lanes, false>(t);
}

// The outputs of kVectors vectors of pixels, from `first` on.
template <class Lanes, int kVectors>
void pointwise_vectors(const PointwiseTask& t, int first) {
  constexpr int kWidth = Lanes::kWidth;
  const auto sums = sum_products<Lanes, kVectors, true>(t.weights, t.x + first, t.row_stride, t.terms);
#pragma GCC unroll 8
  for (int o = 0; o < Lanes::kFloatOutputs; ++o) {
    if (o >= t.outputs) continue;
    const auto bias = Lanes::set(t.bias[o]);
    float* y = t.y + o * t.plane_stride + first;
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) {
      const int left = t.pixels - first - v * kWidth;
      const auto z = Lanes::add(sums.of[o][v], bias);
      if (left >= kWidth)
        Lanes::store(y + v * kWidth, z);
      else if (left > 0)
        Lanes::store(y + v * kWidth, z, left);
    }
  }
}

// The pixels of a tail, one by one: here lanes are output channels, of as many terms as a few vectors hold.
template <class Lanes>
void pointwise_tail(const PointwiseTask& t) {
  constexpr int kOutputs = Lanes::kFloatOutputs, kVectors = 4, kStep = kVectors * Lanes::kWidth;
  constexpr int kKept = Lanes::kWidth < kOutputs ? kOutputs / Lanes::kWidth : 1;  // vectors, one of each output or more
  static_assert(kVectors % kKept == 0 && kKept * Lanes::kWidth % kOutputs == 0, "a lane is always the same output");
  const int64_t values = t.terms * kOutputs, whole = values / kStep * kStep;
  for (int p = 0; p < t.tail_pixels; ++p) {
    const float* x = t.tail + p * values;
    Vector<Lanes> sums[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[v] = Lanes::set(0.0f);
    for (int64_t i = 0; i < whole; i += kStep)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const int64_t at = i + v * Lanes::kWidth;
        sums[v] = Lanes::multiply_add(Lanes::load(t.weights + at), Lanes::load(x + at), sums[v]);
      }
#pragma GCC unroll 4
    for (int v = kKept; v < kVectors; ++v) sums[v % kKept] = Lanes::add(sums[v % kKept], sums[v]);
    float row[kKept * Lanes::kWidth];
#pragma GCC unroll 4
    for (int v = 0; v < kKept; ++v) Lanes::store(row + v * Lanes::kWidth, sums[v]);
    for (int i = kOutputs; i < kKept * Lanes::kWidth; ++i) row[i % kOutputs] += row[i];
    for (int64_t i = whole; i < values; ++i) row[i % kOutputs] += t.weights[i] * x[i];
    for (int o = 0; o < t.outputs; ++o) t.y[o * t.plane_stride + t.pixels + p] = row[o] + t.bias[o];
  }
}

template <class Lanes>
void pointwise(const PointwiseTask& t) {
  int vectors = (t.pixels + Lanes::kWidth - 1) / Lanes::kWidth;
  // Shared evenly: a last vector on its own would cost more than its share.
  for (int first = 0, parts = (vectors + kPointwiseVectors - 1) / kPointwiseVectors; parts > 0; --parts) {
    const int count = (vectors + parts - 1) / parts;
    if (count == 1) pointwise_vectors<Lanes, 1>(t, first);
    if (count == 2) pointwise_vectors<Lanes, 2>(t, first);
    if (count == 3) pointwise_vectors<Lanes, 3>(t, first);
    first += count * Lanes::kWidth;
    vectors -= count;
  }
  pointwise_tail<Lanes>(t);
}

}  // namespace bnn::cpu
