// The 1-bit convolution: outer loops, tiles and threads around the inner loops of `kernels.h`.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

#include "core/conv_shape.h"
#include "core/epilogue.h"
#include "cpu/borders.h"
#include "cpu/kernels.h"
#include "cpu/planes.h"
#include "cpu/prepared_weights.h"
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

// Immutable once made, but for a cache under a lock: any number of threads may call `run` at a time.
class PackedConv {
 public:
  // weight: [O, KH, KW, words], read here and not kept. Throws InvalidInput.
  PackedConv(const Kernels& kernels, const ConvAttributes& attributes, const Dims& weight_dims, const int32_t* weight);

  const ConvAttributes& attributes() const { return attributes_; }
  const ConvWeightShape& weight_shape() const { return weight_shape_; }

  void run(const ConvShape& shape, const EpilogueKind& kind, const EpilogueOperands& operands,
           const ConvTensors& tensors, Runtime& runtime) const;

 private:
  std::shared_ptr<const BorderTable> borders(const ConvShape& shape) const;

  ConvAttributes attributes_;
  ConvWeightShape weight_shape_;
  const Kernels& kernels_;
  PreparedWeights weights_;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<const BorderTable> borders_;  // for the input size that was last seen
};

}  // namespace bnn::cpu
