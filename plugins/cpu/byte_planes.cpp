#include "cpu/byte_planes.h"

#include <algorithm>

#include "cpu/sizes.h"

namespace bnn::cpu {

BytePlanes::BytePlanes(const ConvAttributes& a, const ConvWeightShape& w, const ConvShape& s)
    : attributes_(a), shape_(s) {
  group_channels_ = a.channels / a.group;
  blocks_ = divided_up(group_channels_, kStepChannels);
  rows_ = s.height + a.pads[0] + a.pads[2];
  const int64_t width = s.width + a.pads[1] + a.pads[3];
  shared_ = std::min({a.pads[1], a.pads[3], width - s.out_width});
  pitch_ = width - shared_;
  for (int64_t block = 0; block < blocks_; ++block)
    for (int64_t kh = 0; kh < w.kernel_height; ++kh)
      for (int64_t kw = 0; kw < w.kernel_width; ++kw) {
        const int64_t cell = kh * a.dilations[0] * pitch_ + kw * a.dilations[1];
        step_offsets_.push_back(block * plane_bytes() + cell * kStepChannels);
      }
  product_offsets_.reserve(static_cast<size_t>(s.pixels() + kTileRows));
  for (int64_t row = 0; row < s.out_height; ++row)
    for (int64_t column = 0; column < s.out_width; ++column)
      product_offsets_.push_back((row * pitch_ + column) * kTileOutputs);
  product_offsets_.insert(product_offsets_.end(), kTileRows, product_offsets_.back());
}

// With as much behind it as the last tile may read beyond.
int64_t BytePlanes::plane_bytes() const { return (rows_ * pitch_ + shared_ + kTileRows) * kStepChannels; }

int64_t BytePlanes::pixels_before(int64_t position) const {
  return position / pitch_ * shape_.out_width + std::min(position % pitch_, shape_.out_width);
}

void BytePlanes::fill_row(const MatrixUnit& unit, const int32_t* packed, int64_t row, int8_t* bytes) const {
  const int64_t words = words_for(attributes_.channels), pixel_words = planes_of(attributes_.levels) * words;
  const int64_t in_row = row - attributes_.pads[0];
  const bool is_padding = in_row < 0 || in_row >= shape_.height;
  // The last row has no next one that would pad its end.
  const int64_t cells = row + 1 == rows_ ? pitch_ + shared_ : pitch_;
  const int64_t before = is_padding ? cells : attributes_.pads[1], pixels = is_padding ? 0 : shape_.width;
  for (int64_t group = 0; group < attributes_.group; ++group)
    for (int64_t block = 0; block < blocks_; ++block) {
      const int64_t channel = block * kStepChannels, word = (group * group_channels_ + channel) / kWordBits;
      SpreadTask task{};
      task.pixel_stride = pixel_words;
      task.second_plane = words;
      task.channels = static_cast<int>(std::min<int64_t>(kStepChannels, group_channels_ - channel));
      task.levels = attributes_.levels;
      task.pad_value = attributes_.pad_value;
      task.bytes = bytes + group * group_bytes() + block * plane_bytes() + row * pitch_ * kStepChannels;
      const auto fill = [&](int64_t count, const int32_t* from) {
        task.words = from;
        task.pixels = count;
        unit.spread(task);
        task.bytes += count * kStepChannels;
      };
      fill(before, nullptr);
      if (pixels > 0) fill(pixels, packed + in_row * shape_.width * pixel_words + word);
      fill(cells - before - pixels, nullptr);
    }
}

}  // namespace bnn::cpu
