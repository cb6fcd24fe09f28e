// Weights as a matrix unit wants them: see `MultiplyTask`. Made once when a kernel is created.
#pragma once

#include <cstdint>
#include <vector>

#include "core/conv_shape.h"
#include "cpu/matrix_unit.h"

namespace bnn::cpu {

// Step k is tap k % taps of the channels from kStepChannels * (k / taps) on, of one group: the activations that one
// step reads are those of the step before, moved by a pixel, and still in the nearest cache.
class TileWeights {
 public:
  // weight: [O, KH, KW, words]
  TileWeights(const ConvAttributes& attributes, const ConvWeightShape& shape, const int32_t* weight);

  int64_t steps() const { return steps_; }
  int64_t group_outputs() const { return group_outputs_; }
  int64_t group_tiles() const { return group_tiles_; }  // of kTileOutputs outputs; the last one may have fewer

  // The bits of a tile of a group's outputs.
  const uint64_t* tile(int64_t group, int64_t index) const {
    return data_.data() + (group * group_tiles_ + index) * steps_ * kTileRows;
  }

 private:
  int64_t steps_, group_outputs_, group_tiles_;
  std::vector<uint64_t> data_;  // [groups, tiles, steps, kTileRows]
};

}  // namespace bnn::cpu
