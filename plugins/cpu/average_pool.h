// Average pooling of real values, and the 1x1 convolution behind it: what the shortcut of a 1-bit layer that halves the
// image is made of.
#pragma once

#include <cstdint>
#include <vector>

#include "core/conv_shape.h"
#include "cpu/kernels.h"
#include "cpu/runtime.h"

namespace bnn::cpu {

// Windows without padding.
struct AveragePoolAttributes {
  int64_t kernel[2] = {1, 1};
  int64_t strides[2] = {1, 1};
};

struct AveragePoolShape {
  int64_t batch, channels, height, width, out_height, out_width;

  int64_t pixels() const { return out_height * out_width; }
};

// Throws InvalidInput unless each attribute is in its range.
void check(const AveragePoolAttributes& attributes);

// x: [N, C, H, W]. Throws InvalidInput where no window fits.
AveragePoolShape average_pool_shape(const AveragePoolAttributes& attributes, const Dims& x);

// y: [N, C, H', W'], each the sum of its window, row by row, divided by the number of pixels.
void average_pool(const Kernels& kernels, const AveragePoolAttributes& attributes, const AveragePoolShape& shape,
                  const float* x, float* y, Runtime& runtime);

// Immutable once made: any number of threads may call `run` at a time.
class AveragePoolConv {
 public:
  // weight: [O, C, 1, 1], copied. Throws InvalidInput.
  AveragePoolConv(const Kernels& kernels, const AveragePoolAttributes& attributes, const Dims& weight_dims,
                  const float* weight);
  AveragePoolConv(const AveragePoolConv&) = delete;
  AveragePoolConv& operator=(const AveragePoolConv&) = delete;

  int64_t outputs() const { return outputs_; }
  // x: [N, C, H, W]. Throws InvalidInput where it does not fit the weights, or no window fits.
  AveragePoolShape shape(const Dims& x) const;

  // bias: [O]; y: [N, O, H', W'].
  void run(const AveragePoolShape& shape, const float* bias, const float* x, float* y, Runtime& runtime) const;

 private:
  const Kernels& kernels_;
  const AveragePoolAttributes attributes_;
  int64_t outputs_ = 0, channels_ = 0;
  std::vector<float> memory_;
  float* weight_ = nullptr;  // in memory_: [blocks of float_outputs, C, float_outputs], filled up with zeros
};

}  // namespace bnn::cpu
