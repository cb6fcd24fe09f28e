// A 1-bit convolution that counts the bits in which activations and weights differ: outer loops, tiles and threads
// around the inner loops of `kernels.h`.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

#include "cpu/borders.h"
#include "cpu/conv_method.h"
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
  std::shared_ptr<const BorderTable> borders(const ConvShape& shape) const;

  const ConvAttributes attributes_;
  const ConvWeightShape weight_shape_;
  const Kernels& kernels_;
  const PreparedWeights weights_;
  mutable std::mutex mutex_;
  mutable std::shared_ptr<const BorderTable> borders_;  // for the input size that was last seen
};

}  // namespace bnn::cpu
