// A 1-bit convolution that counts the bits in which activations and weights differ: outer loops, tiles and threads
// around the inner loops of `kernels.h`.
#pragma once

#include <cstdint>

#include "cpu/borders.h"
#include "cpu/conv_method.h"
#include "cpu/for_last_size.h"
#include "cpu/kernels.h"
#include "cpu/planes.h"
#include "cpu/prepared_weights.h"

namespace bnn::cpu {

class CountingConv : public ConvMethod {
 public:
  // weight: [O, KH, KW, words], read here and not kept.
  CountingConv(const Kernels& kernels, const ConvAttributes& attributes, const ConvWeightShape& weight_shape,
               const int32_t* weight);

  void run(const ConvShape& shape, const EpilogueKind& kind, const EpilogueOperands& operands,
           const ConvTensors& tensors, Runtime& runtime) const override;

 private:
  const ConvAttributes attributes_;
  const ConvWeightShape weight_shape_;
  const Kernels& kernels_;
  const PreparedWeights weights_;
  mutable ForLastSize<BorderTable> borders_;
};

}  // namespace bnn::cpu
