// The epilogue behind a matrix unit, in pieces that are done while it multiplies the next positions.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/byte_planes.h"
#include "cpu/conv_method.h"
#include "cpu/matrix_unit.h"
#include "cpu/sizes.h"

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
constexpr int kPiecePixels = 64;  // of kBlockOutputs outputs: some 300 instructions

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

// In the header, to be inlined: its argument would be stored in small pieces and read back in larger ones, and such a
// read waits for all stores before it, a stage's products among them.
inline void MatrixFinisher::start(const MatrixOutputs& outputs, const int32_t* products, const int64_t* offsets) {
  outputs_ = outputs;
  products_ = products;
  pixels_left_ = outputs.pixels;
  const FinishTask at = finish_task(call_.tensors, call_.kind, call_.shape, call_.outputs, outputs.image,
                                    outputs.first_pixel, outputs.pixels);
  task_ = {products,
           offsets,
           std::min(kPiecePixels, pixels_left_),
           std::min(kBlockOutputs, outputs.outputs),
           outputs.first_output,
           at.residual,
           at.y,
           at.plane_stride,
           words_};
  const auto blocks = static_cast<int>(divided_up(outputs.outputs, kBlockOutputs));
  pieces_ = blocks * static_cast<int>(divided_up(outputs.pixels, kPiecePixels)) + call_.kind.packed_output;
}

}  // namespace bnn::cpu
