#include "cpu/byte_planes.h"

#include <algorithm>

namespace bnn::cpu {

std::vector<Phase> phases_of(int64_t taps, int64_t dilation, int64_t stride) {
  std::vector<Phase> found;
  for (int64_t tap = 0; tap < taps; ++tap) {
    const Phase phase{tap * dilation % stride, tap * dilation / stride};
    const auto same = std::find_if(found.begin(), found.end(),
                                   [&](const Phase& other) { return other.remainder == phase.remainder; });
    if (same == found.end())
      found.push_back(phase);
    else
      same->beyond = phase.beyond;
  }
  return found;
}

namespace {

int64_t index_of(int64_t remainder, const std::vector<Phase>& phases) {
  int64_t index = 0;
  while (phases[static_cast<size_t>(index)].remainder != remainder) ++index;
  return index;
}

}  // namespace

BytePlanes::BytePlanes(const ConvAttributes& a, const ConvWeightShape& w, const ConvShape& s, int64_t band_rows)
    : attributes_(a),
      shape_(s),
      group_channels_(a.channels / a.group),
      blocks_(divided_up(group_channels_, kStepChannels)),
      rows_(phases_of(w.kernel_height, a.dilations[0], a.strides[0])),
      band_rows_(band_rows),
      pitch_(s.out_width) {
  const std::vector<Phase> phases = phases_of(w.kernel_width, a.dilations[1], a.strides[1]);
  for (const Phase& phase : rows_) halo_rows_ = std::max(halo_rows_, phase.beyond);
  for (const Phase& phase : phases) {
    const Columns columns = columns_of(phase);
    columns_.push_back(columns);
    used_cells_ = std::max(used_cells_, columns.used);
    pitch_ = std::max(pitch_, columns.used - std::min(columns.inside.begin, columns.used - columns.inside.end));
  }
  for (int64_t block = 0; block < blocks_; ++block)
    for (int64_t kh = 0; kh < w.kernel_height; ++kh)
      for (int64_t kw = 0; kw < w.kernel_width; ++kw) {
        const int64_t row = kh * a.dilations[0], column = kw * a.dilations[1];
        const int64_t plane = index_of(row % a.strides[0], rows_) * static_cast<int64_t>(columns_.size()) +
                              index_of(column % a.strides[1], phases);
        const int64_t cell = row / a.strides[0] * pitch_ + column / a.strides[1];
        step_offsets_.push_back(block * block_bytes() + plane * plane_bytes() + cell * kStepChannels);
      }
}

BytePlanes::Columns BytePlanes::columns_of(const Phase& phase) const {
  const int64_t stride = attributes_.strides[1], used = shape_.out_width + phase.beyond;
  const int64_t first = phase.remainder - attributes_.pads[1];
  return {used, first, places_inside(first, stride, used, shape_.width)};
}

// With as much behind it as the last tile may read beyond.
int64_t BytePlanes::plane_bytes(int64_t band_rows) const {
  const int64_t rows = band_rows + halo_rows_;
  return ((rows - 1) * pitch_ + std::max(pitch_, used_cells_) + kTileRows) * kStepChannels;
}

int64_t BytePlanes::pixels_before(int64_t position) const {
  return position / pitch_ * shape_.out_width + std::min(position % pitch_, shape_.out_width);
}

void BytePlanes::fill(const MatrixUnit& unit, const int32_t* packed, const Band& band, int8_t* bytes) const {
  const int64_t row_words = shape_.width * planes_of(attributes_.levels) * words_for(attributes_.channels);
  for (const Phase& phase : rows_) {
    const int64_t rows = band.rows + phase.beyond;
    for (int64_t row = 0; row < rows; ++row) {
      const int64_t in_row = (band.first_row + row) * attributes_.strides[0] + phase.remainder - attributes_.pads[0];
      const bool is_padding = in_row < 0 || in_row >= shape_.height;
      const int32_t* pixels = is_padding ? nullptr : packed + (band.image * shape_.height + in_row) * row_words;
      int8_t* target = bytes + row * pitch_ * kStepChannels;
      for (const Columns& columns : columns_) {
        // The last row has no next one that would pad its end.
        const int64_t cells = row + 1 == rows ? columns.used : std::min(columns.used, pitch_);
        fill_row(unit, pixels, columns, cells, target);
        target += plane_bytes();
      }
    }
    bytes += static_cast<int64_t>(columns_.size()) * plane_bytes();
  }
}

// One row of a phase's planes, of all groups and blocks. pixels: the row's, null where it is padding; bytes: the row in
// the first of the planes.
void BytePlanes::fill_row(const MatrixUnit& unit, const int32_t* pixels, const Columns& columns, int64_t cells,
                          int8_t* bytes) const {
  const int64_t words = words_for(attributes_.channels), pixel_words = planes_of(attributes_.levels) * words;
  SpreadTask task{};
  task.pixel_stride = attributes_.strides[1] * pixel_words;
  task.second_plane = words;
  task.levels = attributes_.levels;
  task.pad_value = attributes_.pad_value;
  task.before = pixels ? std::min(columns.inside.begin, cells) : cells;
  task.pixels = pixels ? std::min(columns.inside.end, cells) - task.before : 0;
  task.after = cells - task.before - task.pixels;
  if (task.pixels > 0) pixels += (columns.first + task.before * attributes_.strides[1]) * pixel_words;
  for (int64_t group = 0; group < attributes_.group; ++group)
    for (int64_t block = 0; block < blocks_; ++block) {
      const int64_t channel = block * kStepChannels, word = (group * group_channels_ + channel) / kWordBits;
      task.channels = static_cast<int>(std::min<int64_t>(kStepChannels, group_channels_ - channel));
      task.bytes = bytes + group * group_bytes() + block * block_bytes();
      task.words = task.pixels > 0 ? pixels + word : nullptr;
      unit.spread(task);
    }
}

}  // namespace bnn::cpu
