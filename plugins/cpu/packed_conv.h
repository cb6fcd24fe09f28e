// The 1-bit convolution.
#pragma once

#include <cstdint>
#include <memory>

#include "core/conv_shape.h"
#include "cpu/conv_method.h"
#include "cpu/kernels.h"

namespace bnn::cpu {

// Immutable once made, but for caches under a lock: any number of threads may call `run` at a time.
class PackedConv {
 public:
  // weight: [O, KH, KW, words], read here and not kept. Throws InvalidInput.
  PackedConv(const Kernels& kernels, const ConvAttributes& attributes, const Dims& weight_dims, const int32_t* weight);

  const ConvAttributes& attributes() const { return attributes_; }
  const ConvWeightShape& weight_shape() const { return weight_shape_; }

  void run(const ConvShape& shape, const EpilogueKind& kind, const EpilogueOperands& operands,
           const ConvTensors& tensors, Runtime& runtime) const;

 private:
  ConvAttributes attributes_;
  ConvWeightShape weight_shape_;
  // At least one of them. A layer of few weights has both where it may, for small and for large images.
  std::unique_ptr<const ConvMethod> counting_, matrix_;
};

}  // namespace bnn::cpu
