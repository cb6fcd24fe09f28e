#include "cpu/pack.h"

#include <algorithm>

#include "core/bits.h"
#include "core/error.h"
#include "core/float_values.h"
#include "cpu/sizes.h"

namespace bnn::cpu {
namespace {

constexpr int64_t kPixelsPerTask = 1024;
constexpr float kZeros[kWordBits] = {};

Compare compare_of(PackKind kind) {
  switch (kind) {
    case PackKind::kBipolar:
      return Compare::kGreaterOrEqual;
    case PackKind::kUnipolar:
    case PackKind::kTernary:
      return Compare::kGreater;
    case PackKind::kInterval:
      return Compare::kBetween;
  }
  return Compare::kGreater;
}

}  // namespace

PackShape pack_shape(PackKind kind, int64_t channels, const Dims& x, const Dims* bounds, int bound_count) {
  if (x.size() < 2) refuse("x has shape ", to_text(x), ", wanted [N, C, *spatial]");
  if (channels < 1 || x[1] != channels) refuse("x has ", x[1], " channels, attribute channels is ", channels);
  for (int i = 0; i < bound_count; ++i)
    if (bounds[i].size() != 1 || (bounds[i][0] != 1 && bounds[i][0] != channels))
      refuse("a threshold has shape ", to_text(bounds[i]), ", wanted 1 or ", channels, " values");
  PackShape shape{x[0], channels, 1, {x[0]}};
  for (size_t axis = 2; axis < x.size(); ++axis) {
    shape.pixels *= x[axis];
    shape.packed.push_back(x[axis]);
  }
  shape.packed.push_back((kind == PackKind::kTernary ? 2 : 1) * words_for(channels));
  return shape;
}

void pack(const Kernels& kernels, PackKind kind, const PackShape& shape, const void* x, bool float16,
          const float* lower, const float* upper, bool lower_per_channel, bool upper_per_channel, int32_t* packed,
          Runtime& runtime) {
  const int64_t words = words_for(shape.channels), row_words = shape.packed.back();
  const int64_t parts = divided_up(shape.pixels, kPixelsPerTask);
  // A comparison takes about as long as the products of 64 bits.
  const double values = static_cast<double>(shape.batch * shape.channels * shape.pixels);
  const double time = 64 * values / kernels.products_per_ns;
  runtime.run_tasks(static_cast<size_t>(shape.batch * words * parts), time, [&](size_t index) {
    const auto task_index = static_cast<int64_t>(index);
    const int64_t part = task_index % parts, word = task_index / parts % words, n = task_index / parts / words;
    const int64_t first_pixel = part * kPixelsPerTask, first_channel = word * kWordBits;
    PackTask task{};
    const int64_t first_value = (n * shape.channels + first_channel) * shape.pixels + first_pixel;
    task.x = static_cast<const uint8_t*>(x) + first_value * value_bytes(float16);
    task.float16 = float16;
    task.plane_stride = shape.pixels;
    task.channels = static_cast<int>(std::min(kWordBits, shape.channels - first_channel));
    task.pixels = std::min(kPixelsPerTask, shape.pixels - first_pixel);
    task.compare = compare_of(kind);
    task.words = packed + (n * shape.pixels + first_pixel) * row_words + word;
    task.word_stride = row_words;
    // The two bounds have one stride: a single value is spread where the other is per channel.
    float spread[2][kWordBits];
    const float* bounds[2] = {lower, kind == PackKind::kInterval ? upper : lower};
    const bool per_channel[2] = {lower_per_channel,
                                 kind == PackKind::kInterval ? upper_per_channel : lower_per_channel};
    task.bound_stride = per_channel[0] || per_channel[1] ? 1 : 0;
    for (int side = 0; side < 2 && kind != PackKind::kTernary; ++side)
      for (int c = 0; c < task.channels; ++c) spread[side][c] = bounds[side][per_channel[side] ? first_channel + c : 0];
    task.lower = kind == PackKind::kTernary ? kZeros : spread[0];
    task.upper = kind == PackKind::kTernary ? kZeros : spread[1];
    kernels.pack(task);
    if (kind != PackKind::kTernary) return;
    task.compare = Compare::kNotGreaterOrEqual;
    task.words += words;
    kernels.pack(task);
  });
}

}  // namespace bnn::cpu
