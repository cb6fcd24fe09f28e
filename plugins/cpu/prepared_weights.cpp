#include "cpu/prepared_weights.h"

#include <cstring>

#include "cpu/nibble_table.h"
#include "cpu/sizes.h"

namespace bnn::cpu {

PreparedWeights::PreparedWeights(const Kernels& kernels, const ConvAttributes& attributes, const ConvWeightShape& shape,
                                 const int32_t* weight)
    : shape_(shape), cell_(kernels.cell) {
  group_channels_ = attributes.channels / attributes.group;
  planes_ = planes_of(attributes.levels);
  group_outputs_ = shape.outputs / attributes.group;
  cells_per_plane_ = divided_up(group_channels_, cell_channels(cell_));
  cells_per_tap_ = planes_ * cells_per_plane_;
  rows_ = rounded_up(used_rows(), kernels.row_multiple);
  blocks_ = divided_up(group_outputs_, kBlockOutputs);
  block_bytes_ = cell_ == Cell::kWord ? rows_ * kBlockOutputs * 4 : rows_ * (kBlockOutputs / 2) * 2;
  data_.assign(static_cast<size_t>(attributes.group * blocks_ * block_bytes_), 0);
  if (cell_ == Cell::kWord) lay_out_words(weight);
  if (kernels.chain_rows)
    for (int64_t block = 0; block < attributes.group * blocks_; ++block)
      kernels.chain_rows(reinterpret_cast<uint32_t*>(data_.data() + block * block_bytes_), rows_, kBlockOutputs);
  if (cell_ == Cell::kNibble) lay_out_nibbles(weight);
  tap_sums_.reserve(static_cast<size_t>(shape.outputs * shape.taps()));
  for (int64_t o = 0; o < shape.outputs; ++o)
    for (int64_t tap = 0; tap < shape.taps(); ++tap) {
      int64_t ones = 0;
      for (int64_t w = 0; w < shape.words; ++w) ones += __builtin_popcount(word(weight, o, tap, w));
      tap_sums_.push_back(static_cast<int32_t>(2 * ones - group_channels_));
    }
}

// Word `index` of the planes of one tap; the words of the second plane are inverted. Unused bits are 0, whatever the
// file says.
uint32_t PreparedWeights::word(const int32_t* weight, int64_t o, int64_t tap, int64_t index) const {
  const int64_t within = index % shape_.words;
  const auto bits = static_cast<uint32_t>(weight[(o * shape_.taps() + tap) * shape_.words + within]);
  return (index < shape_.words ? bits : ~bits) & used_bits(group_channels_, within);
}

// [block][row][output of the block] uint32.
void PreparedWeights::lay_out_words(const int32_t* weight) {
  for (int64_t o = 0; o < shape_.outputs; ++o) {
    const int64_t within = o % group_outputs_, group = o / group_outputs_;
    auto* block_words = data_.data() + (group * blocks_ + within / kBlockOutputs) * block_bytes_;
    for (int64_t tap = 0; tap < shape_.taps(); ++tap)
      for (int64_t k = 0; k < cells_per_tap_; ++k) {
        const uint32_t bits = word(weight, o, tap, k);
        const int64_t row = tap * cells_per_tap_ + k;
        std::memcpy(block_words + (row * kBlockOutputs + within % kBlockOutputs) * 4, &bits, sizeof bits);
      }
  }
}

// [block][pair of outputs][row] uint16: where in the table the row of these eight weight bits begins, in bytes.
void PreparedWeights::lay_out_nibbles(const int32_t* weight) {
  for (int64_t o = 0; o < shape_.outputs; ++o) {
    const int64_t within = o % group_outputs_, group = o / group_outputs_;
    auto* block_offsets = data_.data() + (group * blocks_ + within / kBlockOutputs) * block_bytes_;
    const int64_t pair = within % kBlockOutputs / 2, half = within % 2;
    for (int64_t tap = 0; tap < shape_.taps(); ++tap)
      for (int64_t k = 0; k < cells_per_tap_; ++k) {
        const int64_t plane = k / cells_per_plane_, nibble = k % cells_per_plane_;
        const uint32_t bits = word(weight, o, tap, plane * shape_.words + nibble / 8) >> (nibble % 8 * 4) & 15u;
        uint8_t* place = block_offsets + (pair * rows_ + tap * cells_per_tap_ + k) * 2;
        uint16_t offset;
        std::memcpy(&offset, place, sizeof offset);
        offset = static_cast<uint16_t>(offset + (bits << (4 * half)) * kNibbleTableRow);
        std::memcpy(place, &offset, sizeof offset);
      }
  }
}

}  // namespace bnn::cpu
