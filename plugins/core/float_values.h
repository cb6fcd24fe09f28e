// Tensors that are float32 or float16, as a layer's residual and output are: values are widened when they are read, and
// rounded once, to nearest even, when they are written.
#pragma once

#include <cstdint>

#include "core/float16.h"

namespace bnn {

constexpr int64_t value_bytes(bool float16) { return float16 ? 2 : 4; }

inline float load_value(const void* values, int64_t index, bool float16) {
  return float16 ? to_float(static_cast<const Half*>(values)[index]) : static_cast<const float*>(values)[index];
}

inline void store_value(void* values, int64_t index, bool float16, float value) {
  if (float16)
    static_cast<Half*>(values)[index] = to_half(value);
  else
    static_cast<float*>(values)[index] = value;
}

}  // namespace bnn
