// The activations of a convolution as bytes, padded: what a matrix unit reads.
#pragma once

#include <cstdint>
#include <vector>

#include "core/conv_shape.h"
#include "cpu/matrix_unit.h"
#include "cpu/sizes.h"

namespace bnn::cpu {

// Some rows of an image's output.
struct Band {
  int64_t image, first_row, rows;
};

// Rows, or columns, of a padded image that have the same remainder modulo the stride: row `remainder + i * stride` is
// the phase's row i.
struct Phase {
  int64_t remainder;
  int64_t beyond;  // how many of them taps read beyond as many as the output has
};

// Those that taps read.
std::vector<Phase> phases_of(int64_t taps, int64_t dilation, int64_t stride);

// Where things are, for a band. A cell is kStepChannels channels of a pixel. A plane has as many channels of one group,
// of one phase of the rows and one of the columns: [rows that the band reads, pitch] cells. So a step reads
// neighbouring cells for neighbouring positions, whatever the strides.
//
// A position is a place in a row of `pitch` cells: pixel (r, c) of the band is at position r * pitch + c, and the
// positions between one row's pixels and the next one's stand for nothing. There are as few as can be: what pads a
// row's end pads the next one's beginning, too.
class BytePlanes {
 public:
  // For bands of up to `band_rows` rows.
  BytePlanes(const ConvAttributes& attributes, const ConvWeightShape& weight_shape, const ConvShape& shape,
             int64_t band_rows);

  int64_t band_rows() const { return band_rows_; }
  int64_t out_width() const { return shape_.out_width; }
  int64_t pitch() const { return pitch_; }
  int64_t phases() const { return static_cast<int64_t>(rows_.size() * columns_.size()); }
  int64_t bytes() const { return bytes_of(band_rows_); }
  int64_t group_bytes() const { return blocks_ * block_bytes(); }
  // What bands of up to so many rows would take.
  int64_t bytes_of(int64_t band_rows) const { return attributes_.group * blocks_ * phases() * plane_bytes(band_rows); }
  const std::vector<int64_t>& step_offsets() const { return step_offsets_; }  // in bytes, see `TileWeights`

  int64_t position(int64_t pixel) const { return pixel + pixel / shape_.out_width * (pitch_ - shape_.out_width); }
  // How many pixels are at positions before that one.
  int64_t pixels_before(int64_t position) const;

  // packed: all images, [N, H, W, words]; bytes: the band's planes.
  void fill(const MatrixUnit& unit, const int32_t* packed, const Band& band, int8_t* bytes) const;

 private:
  // A phase of the columns.
  struct Columns {
    int64_t used;   // cells that taps read
    int64_t first;  // the column of the image that cell 0 is, or would be
    Span inside;    // in each row, the cells that are pixels of the image; the others are padding
  };

  Columns columns_of(const Phase& phase) const;
  int64_t plane_bytes(int64_t band_rows) const;
  int64_t plane_bytes() const { return plane_bytes(band_rows_); }
  int64_t block_bytes() const { return phases() * plane_bytes(); }
  void fill_row(const MatrixUnit& unit, const int32_t* pixels, const Columns& columns, int64_t cells,
                int8_t* bytes) const;

  ConvAttributes attributes_;
  ConvShape shape_;                  // but for the batch
  int64_t group_channels_, blocks_;  // of a group: channels; times kStepChannels of them
  std::vector<Phase> rows_;
  std::vector<Columns> columns_;
  int64_t band_rows_;       // of the output
  int64_t halo_rows_ = 0;   // that a plane may have beyond as many
  int64_t used_cells_ = 0;  // of the last row of a plane
  int64_t pitch_;
  std::vector<int64_t> step_offsets_;
};

}  // namespace bnn::cpu
