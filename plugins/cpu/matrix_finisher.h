// The epilogue behind a matrix unit, in pieces that are done while it multiplies the next positions.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/byte_planes.h"
#include "cpu/conv_method.h"
#include "cpu/matrix_plan.h"
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
  int64_t outputs;  // of one tile, or more
  int64_t first_pixel;
  int64_t pixels;  // at most kMostStagePixels
};

constexpr int64_t kPiecePixels = 16;  // of kTileOutputs outputs: some 200 instructions

class MatrixFinisher : public Meanwhile {
 public:
  MatrixFinisher(const MatrixCall& call, const MatrixPlan& plan)
      : call_(call), output_stride_(plan.output_stride()), value_bytes_(value_bytes(call.kind.float16)) {}

  // products: of the first tile of outputs; offsets: from there to those of each pixel. They stay as they are until all
  // is done.
  void start(const MatrixOutputs& outputs, const int32_t* products, const int64_t* offsets);

  void finish_all() {
    while (!is_done()) next_piece();
  }

 private:
  void do_piece() override;
  void start_tile();
  void store_bits();

  const MatrixCall& call_;
  const int64_t output_stride_, value_bytes_;
  MatrixOutputs outputs_{};  // from the current tile on
  const int32_t* products_ = nullptr;
  const int64_t* offsets_ = nullptr;
  FinishProductsTask task_{};  // of the next piece
  int64_t pixels_left_ = 0;    // of the tile, from that one on
  bool has_bits_ = false;      // of the tile, that are not stored
  alignas(64) uint32_t words_[kMostStagePixels]{};
};

// In the header, to be inlined: its argument would be stored in small pieces and read back in larger ones, and such a
// read waits for all stores before it, a stage's products among them.
inline void MatrixFinisher::start(const MatrixOutputs& outputs, const int32_t* products, const int64_t* offsets) {
  outputs_ = outputs;
  products_ = products;
  offsets_ = offsets;
  const int64_t of_tile = divided_up(outputs.pixels, kPiecePixels) + call_.kind.packed_output;
  pieces_ = static_cast<int>(divided_up(outputs.outputs, kTileOutputs) * of_tile);
  start_tile();
}

inline void MatrixFinisher::start_tile() {
  pixels_left_ = outputs_.pixels;
  has_bits_ = call_.kind.packed_output;
  const FinishTask at = finish_task(call_.tensors, call_.kind, call_.shape, call_.outputs, outputs_.image,
                                    outputs_.first_pixel, static_cast<int>(outputs_.pixels));
  const int64_t plane = outputs_.first_output * at.plane_stride * value_bytes_;
  task_ = {products_,
           offsets_,
           std::min(kPiecePixels, pixels_left_),
           std::min<int64_t>(kTileOutputs, outputs_.outputs),
           outputs_.first_output,
           at.residual ? static_cast<const uint8_t*>(at.residual) + plane : nullptr,
           at.y ? static_cast<uint8_t*>(at.y) + plane : nullptr,
           at.plane_stride,
           words_};
}

}  // namespace bnn::cpu
