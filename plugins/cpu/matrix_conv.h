// A 1-bit convolution on a matrix unit: outer loops, tiles and threads around the inner loops of `matrix_unit.h`.
#pragma once

#include <cstdint>
#include <memory>

#include "cpu/byte_planes.h"
#include "cpu/conv_method.h"
#include "cpu/for_last_size.h"
#include "cpu/matrix_plan.h"
#include "cpu/matrix_unit.h"
#include "cpu/tile_weights.h"

namespace bnn::cpu {

class MatrixConv : public ConvMethod {
 public:
  // Whether it can be done: groups of whole words of input channels and whole tiles of output channels.
  static bool is_possible(const ConvAttributes& attributes, const ConvWeightShape& weight_shape);
  // Whether it is possible, and faster than to count.
  static bool is_faster(const ConvAttributes& attributes, const ConvWeightShape& weight_shape);

  // weight: [O, KH, KW, words], read here and not kept. It is possible.
  MatrixConv(const MatrixUnit& unit, const ConvAttributes& attributes, const ConvWeightShape& weight_shape,
             const int32_t* weight);

  void run(const ConvShape& shape, const EpilogueKind& kind, const EpilogueOperands& operands,
           const ConvTensors& tensors, Runtime& runtime) const override;

 private:
  // What is made for a size of the image.
  struct Layout {
    BytePlanes planes;
    std::shared_ptr<const MatrixPlan> whole_band, last_band;  // one and the same where bands have as many rows
  };

  Layout layout(const ConvShape& shape) const;

  const ConvAttributes attributes_;
  const ConvWeightShape weight_shape_;
  const MatrixUnit& unit_;
  const TileWeights weights_;
  mutable ForLastSize<Layout> layout_;
};

}  // namespace bnn::cpu
