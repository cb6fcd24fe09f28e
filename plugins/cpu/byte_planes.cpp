#include "cpu/byte_planes.h"

#include <algorithm>

#include "cpu/sizes.h"

namespace bnn::cpu {

BytePlanes::BytePlanes(const ConvAttributes& a, const ConvWeightShape& w, const ConvShape& s, int64_t band_rows)
    : attributes_(a), shape_(s), band_rows_(band_rows), halo_rows_((w.kernel_height - 1) * a.dilations[0]) {
  group_channels_ = a.channels / a.group;
  blocks_ = divided_up(group_channels_, kStepChannels);
  const int64_t width = s.width + a.pads[1] + a.pads[3];
  shared_ = std::min({a.pads[1], a.pads[3], width - s.out_width});
  pitch_ = width - shared_;
  for (int64_t block = 0; block < blocks_; ++block)
    for (int64_t kh = 0; kh < w.kernel_height; ++kh)
      for (int64_t kw = 0; kw < w.kernel_width; ++kw) {
        const int64_t cell = kh * a.dilations[0] * pitch_ + kw * a.dilations[1];
        step_offsets_.push_back(block * plane_bytes() + cell * kStepChannels);
      }
  product_offsets_.reserve(static_cast<size_t>(band_rows * s.out_width + kTileRows));
  for (int64_t row = 0; row < band_rows; ++row)
    for (int64_t column = 0; column < s.out_width; ++column)
      product_offsets_.push_back((row * pitch_ + column) * kTileOutputs);
  product_offsets_.insert(product_offsets_.end(), kTileRows, product_offsets_.back());
}

// With as much behind it as the last tile may read beyond.
int64_t BytePlanes::plane_bytes() const {
  return ((band_rows_ + halo_rows_) * pitch_ + shared_ + kTileRows) * kStepChannels;
}

int64_t BytePlanes::pixels_before(int64_t position) const {
  return position / pitch_ * shape_.out_width + std::min(position % pitch_, shape_.out_width);
}

void BytePlanes::fill(const MatrixUnit& unit, const int32_t* packed, const Band& band, int8_t* bytes) const {
  const int64_t row_words = shape_.width * planes_of(attributes_.levels) * words_for(attributes_.channels);
  const int64_t rows = band.rows + halo_rows_;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t in_row = band.first_row + row - attributes_.pads[0];
    const bool is_padding = in_row < 0 || in_row >= shape_.height;
    // The last row has no next one that would pad its end.
    fill_row(unit, is_padding ? nullptr : packed + (band.image * shape_.height + in_row) * row_words,
             row + 1 == rows ? pitch_ + shared_ : pitch_, bytes + row * pitch_ * kStepChannels);
  }
}

// One row of every plane. pixels: the row's, null where it is padding; bytes: the row in the first plane.
void BytePlanes::fill_row(const MatrixUnit& unit, const int32_t* pixels, int64_t cells, int8_t* bytes) const {
  const int64_t words = words_for(attributes_.channels);
  const int64_t before = pixels ? attributes_.pads[1] : cells, count = pixels ? shape_.width : 0;
  for (int64_t group = 0; group < attributes_.group; ++group)
    for (int64_t block = 0; block < blocks_; ++block) {
      const int64_t channel = block * kStepChannels, word = (group * group_channels_ + channel) / kWordBits;
      SpreadTask task{};
      task.pixel_stride = planes_of(attributes_.levels) * words;
      task.second_plane = words;
      task.channels = static_cast<int>(std::min<int64_t>(kStepChannels, group_channels_ - channel));
      task.levels = attributes_.levels;
      task.pad_value = attributes_.pad_value;
      task.bytes = bytes + group * group_bytes() + block * plane_bytes();
      const auto fill_cells = [&](int64_t how_many, const int32_t* from) {
        task.words = from;
        task.pixels = how_many;
        unit.spread(task);
        task.bytes += how_many * kStepChannels;
      };
      fill_cells(before, nullptr);
      if (count > 0) fill_cells(count, pixels + word);
      fill_cells(cells - before - count, nullptr);
    }
}

}  // namespace bnn::cpu
