#include "cpu/packed_conv.h"

#include "cpu/counting_conv.h"
#include "cpu/matrix_conv.h"

namespace bnn::cpu {
namespace {

std::unique_ptr<const ConvMethod> method(const Kernels& kernels, const ConvAttributes& attributes,
                                         const ConvWeightShape& weight_shape, const int32_t* weight) {
  if (kernels.matrix_unit && MatrixConv::is_faster(attributes, weight_shape))
    return std::make_unique<MatrixConv>(kernels, attributes, weight_shape, weight);
  return std::make_unique<CountingConv>(kernels, attributes, weight_shape, weight);
}

}  // namespace

PackedConv::PackedConv(const Kernels& kernels, const ConvAttributes& attributes, const Dims& weight_dims,
                       const int32_t* weight)
    : attributes_((check(attributes), attributes)),
      weight_shape_(bnn::weight_shape(attributes, weight_dims)),
      method_(method(kernels, attributes_, weight_shape_, weight)) {}

void PackedConv::run(const ConvShape& shape, const EpilogueKind& kind, const EpilogueOperands& operands,
                     const ConvTensors& tensors, Runtime& runtime) const {
  if (shape.batch > 0) method_->run(shape, kind, operands, tensors, runtime);
}

}  // namespace bnn::cpu
