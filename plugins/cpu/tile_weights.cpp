#include "cpu/tile_weights.h"

#include "cpu/sizes.h"

namespace bnn::cpu {

TileWeights::TileWeights(const ConvAttributes& attributes, const ConvWeightShape& shape, const int32_t* weight) {
  const int64_t channels = attributes.channels / attributes.group, taps = shape.taps();
  steps_ = taps * divided_up(channels, kStepChannels);
  group_outputs_ = shape.outputs / attributes.group;
  group_tiles_ = divided_up(group_outputs_, kTileOutputs);
  data_.assign(static_cast<size_t>(attributes.group * group_tiles_ * steps_ * kTileRows), 0);
  for (int64_t o = 0; o < shape.outputs; ++o) {
    const int64_t within = o % group_outputs_, tile = o / group_outputs_ * group_tiles_ + within / kTileOutputs;
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t word = 0; word < shape.words; ++word) {
        uint64_t bits = static_cast<uint32_t>(weight[(o * taps + tap) * shape.words + word]);
        const int64_t step = word * kWordBits / kStepChannels * taps + tap;
        uint64_t* row = data_.data() + (tile * steps_ + step) * kTileRows + word * kWordBits % kStepChannels / 4;
        for (int i = 0; i < kWordBits / 4; ++i, bits >>= 4) row[i] |= (bits & 15u) << within % kTileOutputs * 4;
      }
  }
}

}  // namespace bnn::cpu
