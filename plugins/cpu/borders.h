// The constant part of an accumulator: what depends on the output channel and on which taps are padded.
#pragma once

#include <cstdint>
#include <vector>

#include "core/conv_shape.h"
#include "cpu/prepared_weights.h"

namespace bnn::cpu {

// accumulator = table[o][class of pixel] + multiplier * count, where `count` is the number of differing bits and a
// padded tap has been counted as zero bits. With K the taps times the channels of a group, and w a weight of ±1:
//
//   bipolar   K - 2 count                     unipolar  (K + sum w) / 2 - count           ternary  count - K
//
// plus (pad_value - value of zero bits) * (sum w over the padded taps). The padded taps are those of a set of kernel
// rows and of a set of kernel columns: output rows with the same set are one class, and so are columns.
//
// Where padded taps have not been counted at all, and mean 0, it is K - 2 count with K the taps that are not padded: a
// base that all output channels share.
class BorderTable {
 public:
  // counts_padding: or padded taps are left out, which is for bipolar activations and a pad value of 0.
  BorderTable(const ConvAttributes& attributes, const ConvWeightShape& weight_shape, const ConvShape& shape,
              const PreparedWeights& weights, bool counts_padding);

  // The bases of the output pixels from `first` on, null where there is a table; kMostTilePixels may be read.
  const int32_t* bases_of(int64_t first) const;

  int64_t classes() const { return classes_; }
  const int32_t* table() const { return table_.data(); }            // [O, stride]
  const float* float_table() const { return float_table_.data(); }  // the same values
  int64_t stride() const { return stride_; }
  // The classes of the output pixels from `first` on, aligned where `first` is; kMostTilePixels may be read, whatever
  // comes behind the last one.
  const int32_t* classes_of(int64_t first) const;

 private:
  int64_t classes_ = 1, stride_ = 0;
  bool has_bases_;
  std::vector<int32_t> of_pixel_;  // its base or its class; begins before what is aligned
  std::vector<int32_t> table_;
  std::vector<float> float_table_;
};

constexpr int32_t count_multiplier(Levels levels) {
  return levels == Levels::kBipolar ? -2 : levels == Levels::kUnipolar ? -1 : 1;
}

}  // namespace bnn::cpu
