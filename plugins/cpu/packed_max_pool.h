// Max-pooling of packed bits.
#pragma once

#include <cstdint>

#include "core/conv_shape.h"
#include "cpu/runtime.h"

namespace bnn::cpu {

struct MaxPoolAttributes {
  int64_t channels = 0;
  int64_t kernel[2] = {1, 1};
  int64_t strides[2] = {1, 1};
  int64_t pads[4] = {0, 0, 0, 0};
};

struct MaxPoolShape {
  int64_t batch, height, width, words, out_height, out_width;
};

// packed: [N, H, W, words_for(channels)], flip: [words_for(channels)]. Throws InvalidInput.
MaxPoolShape max_pool_shape(const MaxPoolAttributes& attributes, const Dims& packed, const Dims& flip);

// out = flip ^ OR over the window of (packed ^ flip): the greater level wins, the lesser one where `flip` is set.
// A padded pixel contributes nothing. out: [N, H', W', words].
void max_pool(const MaxPoolAttributes& attributes, const MaxPoolShape& shape, const int32_t* packed,
              const int32_t* flip, int32_t* out, Runtime& runtime);

}  // namespace bnn::cpu
