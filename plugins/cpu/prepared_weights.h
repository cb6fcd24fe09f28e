// Weights in the order in which the kernels read them, made once when a kernel is created.
#pragma once

#include <cstdint>
#include <vector>

#include "core/conv_shape.h"
#include "cpu/kernels.h"

namespace bnn::cpu {

// Rows of a column: for each tap, the cells of one group's channels; of plane N, then of plane P, if ternary.
//
// A ternary layer is counted like any other one. With P and N the planes and W the weight bits,
// acc = 2 [pop(P & W) - pop(N & W)] - pop(P) + pop(N) = pop(N ^ W) - pop(P ^ W) = pop(N ^ W) + pop(P ^ ~W) - taps,
// so that plane P only needs the inverted weights.
class PreparedWeights {
 public:
  PreparedWeights(const Kernels& kernels, const ConvAttributes& attributes, const ConvWeightShape& shape,
                  const int32_t* weight);

  // Rows of a column that hold activations, and all of them: the rest is zero.
  int64_t used_rows() const { return shape_.taps() * cells_per_tap_; }
  int64_t rows() const { return rows_; }
  // Planes of cells for one group of channels.
  int64_t cells_per_tap() const { return cells_per_tap_; }
  int64_t group_outputs() const { return group_outputs_; }

  // The weights of kBlockOutputs outputs of a group, from `output` (a multiple of kBlockOutputs) on.
  const void* block(int64_t group, int64_t output) const {
    return data_.data() + (group * blocks_ + output / kBlockOutputs) * block_bytes_;
  }

  // The sum of the ±1 weights of one tap of output o.
  int32_t tap_sum(int64_t o, int64_t tap) const { return tap_sums_[o * shape_.taps() + tap]; }

 private:
  uint32_t word(const int32_t* weight, int64_t o, int64_t tap, int64_t word) const;
  void lay_out_words(const int32_t* weight);
  void lay_out_nibbles(const int32_t* weight);

  ConvWeightShape shape_;
  Cell cell_;
  int64_t group_channels_, planes_, group_outputs_, cells_per_plane_, cells_per_tap_, rows_, blocks_, block_bytes_;
  std::vector<uint8_t> data_;
  std::vector<int32_t> tap_sums_;
};

}  // namespace bnn::cpu
