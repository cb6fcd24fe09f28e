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
  int64_t pixels;
};

// A piece is kTileRows pixels of kTileOutputs outputs: some 200 instructions.
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

  const MatrixCall& call_;
  const int64_t output_stride_, value_bytes_;
  MatrixOutputs outputs_{};  // from the current tile on
  const int32_t* products_ = nullptr;
  const int64_t* offsets_ = nullptr;
  FinishProductsTask task_{};  // of the next piece
  int64_t pixels_left_ = 0;    // of the tile, from that one on
};

// In the header, to be inlined: its argument would be stored in small pieces and read back in larger ones, and such a
// read waits for all stores before it, a stage's products among them.
inline void MatrixFinisher::start(const MatrixOutputs& outputs, const int32_t* products, const int64_t* offsets) {
  outputs_ = outputs;
  products_ = products;
  offsets_ = offsets;
  pieces_ = static_cast<int>(divided_up(outputs.outputs, kTileOutputs) * divided_up(outputs.pixels, kTileRows));
  start_tile();
}

inline void MatrixFinisher::start_tile() {
  pixels_left_ = outputs_.pixels;
  const FinishTask at = finish_task(call_.tensors, call_.kind, call_.shape, call_.outputs, outputs_.image,
                                    outputs_.first_pixel, static_cast<int>(outputs_.pixels));
  const int64_t bit_stride = words_for(call_.outputs), half = outputs_.first_output / kTileOutputs;
  const bool is_whole_word = half % 2 == 0 && outputs_.first_output + kTileOutputs >= call_.outputs;
  const int64_t first_pixel = outputs_.image * call_.shape.pixels() + outputs_.first_pixel;
  const int64_t plane = outputs_.first_output * at.plane_stride * value_bytes_;
  task_ = {products_,
           offsets_,
           std::min<int64_t>(kTileRows, pixels_left_),
           std::min<int64_t>(kTileOutputs, outputs_.outputs),
           outputs_.first_output,
           at.residual ? static_cast<const uint8_t*>(at.residual) + plane : nullptr,
           at.y ? static_cast<uint8_t*>(at.y) + plane : nullptr,
           at.plane_stride,
           call_.tensors.bits ? reinterpret_cast<uint8_t*>(call_.tensors.bits + first_pixel * bit_stride) + 2 * half
                              : nullptr,
           bit_stride,
           is_whole_word ? 4 : 2};
}

}  // namespace bnn::cpu
