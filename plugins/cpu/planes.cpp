#include "cpu/planes.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

namespace bnn::cpu {
namespace {

// Up to kSplitWords cells, without the call of a library function for each short row: two copies of one size, the
// second up to the end.
void copy_cells(const uint8_t* from, int64_t count, uint8_t* to) {
  const auto twice = [&](auto size) {
    std::memcpy(to, from, size.value);
    std::memcpy(to + count - size.value, from + count - size.value, size.value);
  };
  if (count >= 32) return twice(std::integral_constant<size_t, 32>{});
  if (count >= 16) return twice(std::integral_constant<size_t, 16>{});
  if (count >= 8) return twice(std::integral_constant<size_t, 8>{});
  for (int64_t i = 0; i < count; ++i) to[i] = from[i];
}

}  // namespace

PlaneLayout::PlaneLayout(const ConvAttributes& a, const ConvWeightShape& w, const ConvShape& s, const Kernels& kernels,
                         const PreparedWeights& weights)
    : attributes_(a), shape_(s), kernels_(kernels), padding_(counts_padding(kernels, a) ? 0 : kNoNibble) {
  group_channels_ = a.channels / a.group;
  group_words_ = words_for(group_channels_);
  pixel_words_ = planes_of(a.levels) * words_for(a.channels);
  cells_per_tap_ = weights.cells_per_tap();
  planes_ = a.group * cells_per_tap_;
  rows_ = s.height + a.pads[0] + a.pads[2];
  const int64_t width = s.width + a.pads[1] + a.pads[3];
  phases_ = std::min(a.strides[1], width);  // a stride beyond the width makes a single output column
  stride_rows_ = a.strides[0];
  phase_width_ = divided_up(width, phases_);
  plane_cells_ = rows_ * row_cells();
  for (int64_t kh = 0; kh < w.kernel_height; ++kh)
    for (int64_t kw = 0; kw < w.kernel_width; ++kw) {
      const int64_t column = kw * a.dilations[1];
      tap_offsets_.push_back(kh * a.dilations[0] * row_cells() + column % phases_ * phase_width_ + column / phases_);
    }
}

// Word `word` of one group's channels, aligned to bit 0; of plane N, then of plane P, if ternary.
uint32_t PlaneLayout::group_word(const int32_t* pixel, int64_t group, int64_t word) const {
  int64_t within = word;
  if (attributes_.levels == Levels::kTernary) {
    within = word % group_words_;
    if (word < group_words_) pixel += words_for(attributes_.channels);
  }
  const int64_t first_bit = group * group_channels_ + within * kWordBits;
  const int64_t index = first_bit / kWordBits, shift = first_bit % kWordBits;
  uint64_t bits = static_cast<uint32_t>(pixel[index]);
  if (shift != 0 && index + 1 < words_for(attributes_.channels))
    bits |= static_cast<uint64_t>(static_cast<uint32_t>(pixel[index + 1])) << 32;
  return static_cast<uint32_t>(bits >> shift) & used_bits(group_channels_, within);
}

// Word `word` of every `phases_`-th pixel of a row from `column` on, `count` of them; zeros outside the row. pixels:
// the row, or null for one that is padding. Returns which of them are inside.
Span PlaneLayout::read_columns(const int32_t* pixels, int64_t group, int64_t word, int64_t column, int64_t count,
                               uint32_t* words) const {
  const Span inside = pixels ? places_inside(column, phases_, count, shape_.width) : Span{0, 0};
  std::fill(words, words + inside.begin, 0u);
  std::fill(words + inside.end, words + count, 0u);
  if (inside.begin == inside.end) return inside;
  const int32_t* pixel = pixels + (column + inside.begin * phases_) * pixel_words_;
  const int64_t step = phases_ * pixel_words_;
  if (attributes_.group == 1 && attributes_.levels != Levels::kTernary) {  // the word as it is
    const uint32_t used = used_bits(group_channels_, word);
    for (int64_t i = inside.begin; i < inside.end; ++i, pixel += step)
      words[i] = static_cast<uint32_t>(pixel[word]) & used;
  } else {
    for (int64_t i = inside.begin; i < inside.end; ++i, pixel += step) words[i] = group_word(pixel, group, word);
  }
  return inside;
}

// The nibbles of one word of one row, a few columns at a time. cells: the row in the first of the planes that they go
// to.
void PlaneLayout::fill_nibbles(const int32_t* pixels, int64_t group, int64_t word, int64_t nibbles,
                               uint8_t* cells) const {
  uint32_t words[kSplitWords] = {};
  uint8_t split[8 * kSplitWords];
  for (int64_t phase = 0; phase < phases_; ++phase)
    for (int64_t start = 0; start < phase_width_; start += kSplitWords) {
      const int64_t count = std::min(kSplitWords, phase_width_ - start);
      const Span inside =
          read_columns(pixels, group, word, start * phases_ + phase - attributes_.pads[1], count, words);
      uint8_t padding[kSplitWords] = {};
      std::fill(padding, padding + inside.begin, padding_);
      std::fill(padding + inside.end, padding + count, padding_);
      kernels_.split_nibbles({words, padding, count, split});
      for (int64_t nibble = 0; nibble < nibbles; ++nibble)
        copy_cells(split + nibble * kSplitWords, count, cells + nibble * plane_cells_ + phase * phase_width_ + start);
    }
}

void PlaneLayout::fill_row(const int32_t* packed, int64_t row, void* cells) const {
  const int64_t words = planes_of(attributes_.levels) * group_words_;
  const int64_t nibbles = cells_per_tap_ / planes_of(attributes_.levels);  // of one plane, where cells are nibbles
  const int64_t in_row = row - attributes_.pads[0];
  const bool padded = in_row < 0 || in_row >= shape_.height;
  const int32_t* pixels = padded ? nullptr : packed + in_row * shape_.width * pixel_words_;
  for (int64_t group = 0; group < attributes_.group; ++group)
    for (int64_t word = 0; word < words; ++word) {
      if (kernels_.cell == Cell::kNibble) {
        const int64_t first = word % group_words_ * 8, within_plane = std::min<int64_t>(8, nibbles - first);
        const int64_t plane = group * cells_per_tap_ + word / group_words_ * nibbles + first;
        fill_nibbles(pixels, group, word, within_plane,
                     static_cast<uint8_t*>(cells) + plane * plane_cells_ + row * row_cells());
        continue;
      }
      auto* target = static_cast<uint32_t*>(cells) + (group * cells_per_tap_ + word) * plane_cells_ + row * row_cells();
      for (int64_t phase = 0; phase < phases_; ++phase)
        read_columns(pixels, group, word, phase - attributes_.pads[1], phase_width_, target + phase * phase_width_);
    }
}

}  // namespace bnn::cpu
