#include "cpu/matrix_finisher.h"

#include <algorithm>
#include <cstring>

#include "cpu/sizes.h"

namespace bnn::cpu {

void MatrixFinisher::do_piece() {
  if (pixels_left_ == 0 && !has_bits_) {
    outputs_.first_output += kTileOutputs;
    outputs_.outputs -= kTileOutputs;
    products_ += output_stride_;
    start_tile();
  }
  if (pixels_left_ == 0) return store_bits();
  call_.unit.finish(call_.kind, call_.operands, task_);
  const int64_t pixels = task_.pixels;
  pixels_left_ -= pixels;
  task_.offsets += pixels;
  task_.pixels = std::min(kPiecePixels, pixels_left_);
  if (task_.residual) task_.residual = static_cast<const uint8_t*>(task_.residual) + pixels * value_bytes_;
  if (task_.y) task_.y = static_cast<uint8_t*>(task_.y) + pixels * value_bytes_;
  task_.words += pixels;
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
  has_bits_ = false;
  std::fill(words_, words_ + rounded_up(outputs_.pixels, kTileRows), 0u);
}

}  // namespace bnn::cpu
