// The epilogue behind a matrix unit, in pieces that are done while it multiplies the next positions.
#pragma once

#include <cstdint>

#include "cpu/byte_planes.h"
#include "cpu/conv_method.h"
#include "cpu/matrix_unit.h"

namespace bnn::cpu {

// What all tasks of one call share.
struct MatrixCall {
  const ConvShape& shape;
  const BytePlanes& planes;
  const MatrixUnit& unit;
  const EpilogueKind& kind;
  const EpilogueOperands& operands;
  const ConvTensors& tensors;
  int64_t outputs;  // of the layer
};

// Some pixels of some output channels.
struct MatrixOutputs {
  int64_t image;
  int64_t first_output;
  int outputs;  // at most kTileOutputs
  int64_t first_pixel;
  int pixels;  // at most kMostStagePixels
};

constexpr int kMostStagePixels = 208;

class MatrixFinisher : public Meanwhile {
 public:
  explicit MatrixFinisher(const MatrixCall& call) : call_(call), value_bytes_(value_bytes(call.kind.float16)) {}

  // offsets: from `products` to those of each pixel, which stay as they are until all is done.
  void start(const MatrixOutputs& outputs, const int32_t* products, const int64_t* offsets);

  void finish_all() {
    while (!is_done()) next_piece();
  }

 private:
  void do_piece() override;
  void next_block();
  void store_bits();

  const MatrixCall& call_;
  const int64_t value_bytes_;
  MatrixOutputs outputs_{};
  const int32_t* products_ = nullptr;
  FinishProductsTask task_{};  // of the next piece
  int pixels_left_ = 0;        // from that one on
  alignas(64) uint32_t words_[kMostStagePixels]{};
};

}  // namespace bnn::cpu
