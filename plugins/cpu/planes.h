// The activations of a convolution, rearranged: one plane for each few channels, padded, ready to be read in vectors.
#pragma once

#include <cstdint>
#include <vector>

#include "core/conv_shape.h"
#include "cpu/kernels.h"
#include "cpu/prepared_weights.h"
#include "cpu/sizes.h"

namespace bnn::cpu {

// Where things are in the planes. A plane is [padded height, horizontal stride, phase width] cells: the columns of a
// row are sorted by their remainder modulo the stride, so that the neighbours of a run of output pixels are neighbours.
class PlaneLayout {
 public:
  // Whether padded taps are counted, as zero bits; or they count nothing.
  static bool counts_padding(const Kernels& kernels, const ConvAttributes& attributes) {
    const bool is_zero = attributes.levels == Levels::kBipolar && attributes.pad_value == 0;
    return kernels.cell == Cell::kWord || !is_zero;
  }

  PlaneLayout(const ConvAttributes& attributes, const ConvWeightShape& weight_shape, const ConvShape& shape,
              const Kernels& kernels, const PreparedWeights& weights);

  int64_t planes() const { return planes_; }  // of one image, all groups
  int64_t plane_cells() const { return plane_cells_; }
  int64_t image_cells() const { return planes_ * plane_cells_; }
  int64_t rows() const { return rows_; }  // of a plane
  int64_t row_cells() const { return phases_ * phase_width_; }
  int64_t out_row_cells() const { return row_cells() * stride_rows_; }  // from one output row to the next
  const std::vector<int64_t>& tap_offsets() const { return tap_offsets_; }

  // Fills row `row` of every plane of one image. packed: the image, [H, W, words]; cells: its planes.
  void fill_row(const int32_t* packed, int64_t row, void* cells) const;

 private:
  void fill_nibbles(const int32_t* pixels, int64_t group, int64_t word, int64_t nibbles, uint8_t* cells) const;
  Span read_columns(const int32_t* pixels, int64_t group, int64_t word, int64_t column, int64_t count,
                    uint32_t* words) const;
  uint32_t group_word(const int32_t* pixel, int64_t group, int64_t word) const;

  const ConvAttributes& attributes_;
  const ConvShape& shape_;
  const Kernels& kernels_;
  const uint8_t padding_;  // a nibble's cell
  int64_t group_channels_, group_words_, pixel_words_, cells_per_tap_;
  int64_t planes_, plane_cells_, rows_, phases_, phase_width_, stride_rows_;
  std::vector<int64_t> tap_offsets_;
};

}  // namespace bnn::cpu
