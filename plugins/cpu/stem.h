// The float stem of a network: a convolution of stride 2, then a max-pool of 3x3 with stride 2 and padding 1.
//
// By Winograd's method (`stem_lanes.h`), so that results differ from direct sums in rounding. An image with values too
// large for its intermediate sums, or not finite, is computed directly.
#pragma once

#include <cstdint>
#include <vector>

#include "core/conv_shape.h"
#include "cpu/kernels.h"
#include "cpu/runtime.h"

namespace bnn::cpu {

struct StemShape {
  int64_t batch, height, width;
  int64_t conv_height, conv_width;  // of the convolution's outputs
  int64_t out_height, out_width;    // of the pool's

  int64_t out_pixels() const { return out_height * out_width; }
};

// Immutable once made: any number of threads may call `run` at a time.
class Stem {
 public:
  // pads: top, left, bottom, right; weight: [O, C, KH, KW] float32 with KH and KW up to 8, copied. Throws InvalidInput.
  Stem(const Kernels& kernels, const int64_t (&pads)[4], const Dims& weight_dims, const float* weight);

  int64_t outputs() const { return outputs_; }
  // x: [N, C, H, W]. Throws InvalidInput.
  StemShape shape(const Dims& x) const;

  // x: [N, C, H, W], bias: [O], y: [N, O, H'', W''] float32.
  void run(const StemShape& shape, const float* x, const float* bias, float* y, Runtime& runtime) const;

 private:
  struct Rows {
    int64_t first, end;  // of tiles
  };

  void run_tiles(const StemShape& shape, Rows rows, StemTask task) const;
  void run_direct(const StemShape& shape, const float* image, const float* bias, Rows rows, float* y) const;
  float direct_sum(const StemShape& shape, const float* image, int64_t o, int64_t i, int64_t j) const;

  const Kernels& kernels_;
  int64_t pads_[4];
  int64_t outputs_, channels_, kernel_[2];
  std::vector<float> weight_;       // as it was given
  std::vector<float> transformed_;  // [blocks, 49, 4 channels, float_outputs]; empty where the weights are too large
};

}  // namespace bnn::cpu
