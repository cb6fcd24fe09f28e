// What the ways to compute a 1-bit convolution have in common: counting bits that differ (`counting_conv.h`) and
// multiplying bytes (`matrix_conv.h`).
#pragma once

#include <cstdint>

#include "core/conv_shape.h"
#include "core/epilogue.h"
#include "core/float_values.h"
#include "cpu/kernels.h"
#include "cpu/runtime.h"

namespace bnn::cpu {

// Where one call reads and writes. packed: [N, H, W, words]; residual, y: [N, O, H', W'] or null, of the type that the
// epilogue says; bits: [N, H', W', words_for(O)] or null.
struct ConvTensors {
  const int32_t* packed;
  const void* residual;
  void* y;
  int32_t* bits;
};

// One of them, with a layer's weights. Immutable once made, but for caches under a lock: any number of threads may call
// `run` at a time.
class ConvMethod {
 public:
  virtual ~ConvMethod() = default;
  virtual void run(const ConvShape& shape, const EpilogueKind& kind, const EpilogueOperands& operands,
                   const ConvTensors& tensors, Runtime& runtime) const = 0;
};

// What finishing `pixels` output pixels of image n takes, from `first` on: where its values are. outputs: of the layer.
inline FinishTask finish_task(const ConvTensors& tensors, const EpilogueKind& kind, const ConvShape& shape,
                              int64_t outputs, int64_t n, int64_t first, int pixels) {
  FinishTask task{};
  const int64_t at = (n * outputs * shape.pixels() + first) * value_bytes(kind.float16);
  task.residual = tensors.residual ? static_cast<const uint8_t*>(tensors.residual) + at : nullptr;
  task.y = tensors.y ? static_cast<uint8_t*>(tensors.y) + at : nullptr;
  task.plane_stride = shape.pixels();
  task.pixels = pixels;
  return task;
}

}  // namespace bnn::cpu
