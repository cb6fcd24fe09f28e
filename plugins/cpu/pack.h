// Real values to bits.
#pragma once

#include <cstdint>

#include "core/conv_shape.h"
#include "cpu/kernels.h"
#include "cpu/runtime.h"

namespace bnn::cpu {

enum class PackKind { kBipolar, kUnipolar, kTernary, kInterval };

struct PackShape {
  int64_t batch, channels, pixels;
  Dims packed;  // [N, *spatial, planes * words_for(channels)]
};

// x: [N, C, *spatial]; bounds: the sizes of the thresholds, each [1] or [C]. Throws InvalidInput.
PackShape pack_shape(PackKind kind, int64_t channels, const Dims& x, const Dims* bounds, int bound_count);

// x: [N, C, *spatial], of the type that `float16` says. lower: [1] or [C], the thresholds (unused if ternary); upper:
// the same for kInterval; per_channel: that they are [C].
void pack(const Kernels& kernels, PackKind kind, const PackShape& shape, const void* x, bool float16,
          const float* lower, const float* upper, bool lower_per_channel, bool upper_per_channel, int32_t* packed,
          Runtime& runtime);

}  // namespace bnn::cpu
