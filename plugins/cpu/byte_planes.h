// The activations of a convolution as bytes, padded: what a matrix unit reads.
#pragma once

#include <cstdint>
#include <vector>

#include "core/conv_shape.h"
#include "cpu/matrix_unit.h"

namespace bnn::cpu {

// Where things are, for strides of 1. A cell is kStepChannels channels of a pixel. A plane has as many channels of one
// group of an image: [padded height, pitch] cells, so that a step reads neighbouring cells for neighbouring positions.
//
// A position is a place in a row of `pitch` cells: output pixel (r, c) is at position r * pitch + c, and the positions
// between one row's pixels and the next one's stand for nothing. There are as few as can be: what pads a row's end pads
// the next one's beginning, too.
class BytePlanes {
 public:
  BytePlanes(const ConvAttributes& attributes, const ConvWeightShape& weight_shape, const ConvShape& shape);

  int64_t image_bytes() const { return attributes_.group * group_bytes(); }
  int64_t group_bytes() const { return blocks_ * plane_bytes(); }
  int64_t rows() const { return rows_; }                                      // of a plane
  const std::vector<int64_t>& step_offsets() const { return step_offsets_; }  // in bytes, see `TileWeights`

  int64_t position(int64_t pixel) const { return pixel + pixel / shape_.out_width * (pitch_ - shape_.out_width); }
  // How many output pixels are at positions before that one.
  int64_t pixels_before(int64_t position) const;
  // Of each output pixel, and a vector beyond the last one: where its products are, behind those of position 0.
  const int64_t* product_offsets() const { return product_offsets_.data(); }

  // Fills row `row` of every plane. packed: the image, [H, W, words]; bytes: its planes.
  void fill_row(const MatrixUnit& unit, const int32_t* packed, int64_t row, int8_t* bytes) const;

 private:
  int64_t plane_bytes() const;

  ConvAttributes attributes_;
  ConvShape shape_;                  // but for the batch
  int64_t group_channels_, blocks_;  // planes of a group
  int64_t rows_, pitch_, shared_;    // cells that pad a row's end and the next one's beginning
  std::vector<int64_t> step_offsets_, product_offsets_;
};

}  // namespace bnn::cpu
