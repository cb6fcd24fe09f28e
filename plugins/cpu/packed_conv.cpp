#include "cpu/packed_conv.h"

#include "cpu/counting_conv.h"
#include "cpu/matrix_conv.h"

namespace bnn::cpu {
namespace {

constexpr int64_t kFewWeights = 1 << 20;               // that cost little memory twice
constexpr int64_t kLeastProducts = int64_t{16} << 20;  // of a run, for which a matrix unit is worth its clock

}  // namespace

PackedConv::PackedConv(const Kernels& kernels, const ConvAttributes& attributes, const Dims& weight_dims,
                       const int32_t* weight)
    : attributes_((check(attributes), attributes)), weight_shape_(bnn::weight_shape(attributes, weight_dims)) {
  const bool has_matrix = kernels.matrix_unit && MatrixConv::is_faster(attributes_, weight_shape_);
  if (has_matrix) matrix_ = std::make_unique<MatrixConv>(*kernels.matrix_unit, attributes_, weight_shape_, weight);
  if (!has_matrix || weight_shape_.outputs * weight_shape_.taps() * attributes_.channels <= kFewWeights)
    counting_ = std::make_unique<CountingConv>(kernels, attributes_, weight_shape_, weight);
}

void PackedConv::run(const ConvShape& shape, const EpilogueKind& kind, const EpilogueOperands& operands,
                     const ConvTensors& tensors, Runtime& runtime) const {
  if (shape.batch == 0) return;
  const int64_t sums = shape.batch * shape.pixels() * weight_shape_.outputs;
  const int64_t products = sums * weight_shape_.taps() * (attributes_.channels / attributes_.group);
  const bool multiplies = matrix_ && (!counting_ || products >= kLeastProducts);
  (multiplies ? matrix_ : counting_)->run(shape, kind, operands, tensors, runtime);
}

}  // namespace bnn::cpu
