#include "cpu/matrix_finisher.h"

#include <algorithm>

namespace bnn::cpu {

void MatrixFinisher::do_piece() {
  if (pixels_left_ == 0) {
    outputs_.first_output += kTileOutputs;
    outputs_.outputs -= kTileOutputs;
    products_ += output_stride_;
    start_tile();
  }
  call_.unit.finish(call_.kind, call_.operands, task_);
  const int64_t pixels = task_.pixels;
  pixels_left_ -= pixels;
  task_.offsets += pixels;
  task_.pixels = std::min<int64_t>(kTileRows, pixels_left_);
  if (task_.residual) task_.residual = static_cast<const uint8_t*>(task_.residual) + pixels * value_bytes_;
  if (task_.y) task_.y = static_cast<uint8_t*>(task_.y) + pixels * value_bytes_;
  if (task_.bits) task_.bits += pixels * task_.bit_stride * static_cast<int64_t>(sizeof(int32_t));
}

}  // namespace bnn::cpu
