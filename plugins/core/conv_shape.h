// The sizes of a 1-bit convolution, checked. Nothing behind this file meets a size that does not fit the others.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/bits.h"

namespace bnn {

using Dims = std::vector<int64_t>;

std::string to_text(const Dims& dims);  // "1x56x56x2"

// Throws InvalidInput unless `found` is at least `least`, and no larger than any network needs.
void check_range(const char* name, int64_t found, int64_t least);

// How many windows of `kernel` pixels, `dilation` apart, fit on an axis. Throws InvalidInput where none does.
int64_t output_size(const char* axis, int64_t input, int64_t pads, int64_t kernel, int64_t dilation, int64_t stride);

// The attributes of a packed convolution, as the node has them.
struct ConvAttributes {
  int64_t channels = 0;
  Levels levels = Levels::kBipolar;
  int64_t strides[2] = {1, 1};
  int64_t pads[4] = {0, 0, 0, 0};  // top, left, bottom, right
  int64_t dilations[2] = {1, 1};
  int64_t group = 1;
  int32_t pad_value = 0;  // what a padded tap is taken for: 0, -1 or +1
};

// Throws InvalidInput unless each attribute is in its range.
void check(const ConvAttributes& attributes);

// The sizes of the weights, known when a kernel is created.
struct ConvWeightShape {
  int64_t outputs, kernel_height, kernel_width, words;

  int64_t taps() const { return kernel_height * kernel_width; }
};

// weight: [O, KH, KW, words_for(channels / group)]. Throws InvalidInput where it does not fit the attributes.
ConvWeightShape weight_shape(const ConvAttributes& attributes, const Dims& weight);

// All sizes of one run.
struct ConvShape {
  int64_t batch, height, width;   // of the input
  int64_t out_height, out_width;  // of the output
  int64_t pixels() const { return out_height * out_width; }
};

// packed: [N, H, W, planes * words_for(channels)]. Throws InvalidInput where it does not fit.
ConvShape conv_shape(const ConvAttributes& attributes, const ConvWeightShape& weight, const Dims& packed);

}  // namespace bnn
