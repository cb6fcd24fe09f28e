#include "cpu/matrix_finisher.h"

#include <algorithm>
#include <cstring>

#include "cpu/sizes.h"

namespace bnn::cpu {
namespace {

constexpr int kPiecePixels = 64;  // of kBlockOutputs outputs: some 300 instructions

}  // namespace

void MatrixFinisher::start(const MatrixOutputs& outputs, const int32_t* products) {
  outputs_ = outputs;
  products_ = products;
  blocks_ = static_cast<int>(divided_up(outputs.outputs, kBlockOutputs));
  piece_ = 0;
  pieces_ = blocks_ * static_cast<int>(divided_up(outputs.pixels, kPiecePixels)) + call_.kind.packed_output;
}

void MatrixFinisher::do_piece() {
  const int piece = piece_++, pixel = piece / blocks_ * kPiecePixels;
  pixel < outputs_.pixels ? finish(pixel, piece % blocks_ * kBlockOutputs) : store_bits();
}

void MatrixFinisher::finish(int pixel, int output) {
  const int64_t first = outputs_.first_pixel + pixel;
  const FinishTask at = finish_task(call_.tensors, call_.kind, call_.shape, call_.outputs, outputs_.image, first,
                                    std::min(kPiecePixels, outputs_.pixels - pixel));
  call_.unit.finish(call_.kind, call_.operands,
                    {products_ + output, call_.planes.product_offsets() + first, at.pixels,
                     std::min(kBlockOutputs, outputs_.outputs - output), outputs_.first_output + output, at.residual,
                     at.y, at.plane_stride, words_ + pixel});
}

// Half of a word of each pixel's packed outputs; all of it where the other half has no channels.
void MatrixFinisher::store_bits() {
  const int64_t stride = words_for(call_.outputs), half = outputs_.first_output % kWordBits / kTileOutputs;
  int32_t* target = call_.tensors.bits + outputs_.first_output / kWordBits +
                    (outputs_.image * call_.shape.pixels() + outputs_.first_pixel) * stride;
  if (half == 0 && outputs_.first_output + kTileOutputs >= call_.outputs) {
    for (int p = 0; p < outputs_.pixels; ++p) target[p * stride] = static_cast<int32_t>(words_[p]);
  } else {
    auto* halves = reinterpret_cast<uint8_t*>(target) + 2 * half;  // of little-endian words
    for (int p = 0; p < outputs_.pixels; ++p) {
      const auto bits = static_cast<uint16_t>(words_[p] >> half * kTileOutputs);
      std::memcpy(halves + 4 * p * stride, &bits, sizeof bits);
    }
  }
  std::fill(words_, words_ + rounded_up(outputs_.pixels, kTileRows), 0u);
}

}  // namespace bnn::cpu
