#include "tensorrt/shapes.h"

#include "core/error.h"

namespace bnn::tensorrt {
namespace {

using nvinfer1::DimensionOperation;
using nvinfer1::DimsExprs;
using nvinfer1::IDimensionExpr;
using nvinfer1::IExprBuilder;

void require_rank(const char* what, const Dims& dims, size_t rank) {
  if (dims.size() != rank) refuse(what, " has ", dims.size(), " axes, wanted ", rank);
}

void require_size(const char* what, int64_t found, int64_t wanted) {
  if (found >= 0 && found != wanted) refuse(what, " has ", found, " words, wanted ", wanted);
}

// Vectors of one value for each output channel.
void require_channels(const std::vector<Dims>& inputs, size_t first, size_t skip, int64_t outputs) {
  for (size_t i = first; i < inputs.size(); ++i)
    if (i != skip && outputs >= 0 && (inputs[i].size() != 1 || (inputs[i][0] >= 0 && inputs[i][0] != outputs)))
      refuse("input ", i, " has shape ", to_text(inputs[i]), ", wanted ", outputs, ", one value for each output");
}

void check_pack(const Attributes& a, const std::vector<Dims>& inputs) {
  const Dims& x = inputs[0];
  if (x.size() < 2) refuse("x has ", x.size(), " axes, wanted N, C, and those of space");
  if (x[1] >= 0 && x[1] != a.channels) refuse("x has ", x[1], " channels, wanted ", a.channels);
  for (size_t i = 1; i < inputs.size(); ++i)
    if (inputs[i].size() != 1 || (inputs[i][0] > 1 && inputs[i][0] != a.channels))
      refuse("a threshold has shape ", to_text(inputs[i]), ", wanted 1 or ", a.channels);
}

void check_layer(const Operator& op, const Attributes& a, const std::vector<Dims>& inputs) {
  const ConvAttributes conv = conv_attributes(op, a);
  const Dims &packed = inputs[0], &weight = inputs[1];
  const size_t rank = op.layer == Layer::kConv ? 4 : 2;
  require_rank("packed", packed, rank);
  require_rank("weight", weight, rank);
  require_size("packed", packed.back(), planes_of(conv.levels) * words_for(a.channels));
  require_size("weight", weight.back(), words_for(a.channels / a.group));
  const bool known = weight[0] > 0 && weight.back() > 0 && (rank == 2 || (weight[1] > 0 && weight[2] > 0));
  if (known) weight_shape(conv, rank == 4 ? weight : Dims{weight[0], 1, 1, weight[1]});
  const size_t residual = op.epilogue.residual ? 4 : 0;
  if (residual) require_rank("residual", inputs[residual], 4);
  if (residual && inputs[residual][1] >= 0 && weight[0] >= 0 && inputs[residual][1] != weight[0])
    refuse("residual has ", inputs[residual][1], " channels, wanted ", weight[0]);
  require_channels(inputs, 2, residual, weight[0]);
}

// (size + pads - window) / stride + 1
const IDimensionExpr* output_size(IExprBuilder& builder, const IDimensionExpr* size, int64_t pads, int64_t window,
                                  int64_t stride) {
  const auto sum = builder.operation(DimensionOperation::kSUM, *size, *builder.constant(pads - window));
  const auto steps = builder.operation(DimensionOperation::kFLOOR_DIV, *sum, *builder.constant(stride));
  return builder.operation(DimensionOperation::kSUM, *steps, *builder.constant(1));
}

const IDimensionExpr* words_of(IExprBuilder& builder, const IDimensionExpr* channels) {
  return builder.operation(DimensionOperation::kCEIL_DIV, *channels, *builder.constant(kWordBits));
}

}  // namespace

void check_inputs(const Operator& op, const Attributes& a, const std::vector<Dims>& inputs) {
  if (static_cast<int>(inputs.size()) != op.input_count())
    refuse(inputs.size(), " inputs, wanted ", op.input_count());
  if (op.layer == Layer::kPack) return check_pack(a, inputs);
  if (op.layer != Layer::kMaxPool) return check_layer(op, a, inputs);
  require_rank("packed", inputs[0], 4);
  require_rank("flip", inputs[1], 1);
  require_size("packed", inputs[0][3], words_for(a.channels));
  require_size("flip", inputs[1][0], words_for(a.channels));
}

void output_shapes(const Operator& op, const Attributes& a, const DimsExprs* inputs, DimsExprs* outputs,
                   IExprBuilder& builder) {
  const DimsExprs& first = inputs[0];
  if (op.layer == Layer::kPack) {  // [N, C, *spatial] -> [N, *spatial, words]
    const int64_t planes = op.pack == cuda::PackKind::kTernary ? 2 : 1;
    outputs[0].nbDims = first.nbDims;
    outputs[0].d[0] = first.d[0];
    for (int axis = 2; axis < first.nbDims; ++axis) outputs[0].d[axis - 1] = first.d[axis];
    outputs[0].d[first.nbDims - 1] = builder.constant(planes * words_for(a.channels));
    return;
  }
  if (op.layer == Layer::kLinear) {
    const IDimensionExpr* channels = inputs[1].d[0];
    outputs[0] = {2, {first.d[0], op.epilogue.float_output ? channels : words_of(builder, channels)}};
    return;
  }
  const bool pool = op.layer == Layer::kMaxPool;
  const IDimensionExpr* sizes[2];
  for (int axis = 0; axis < 2; ++axis) {
    int64_t window = a.kernel_shape[axis];
    if (!pool) {
      if (!inputs[1].d[1 + axis]->isConstant()) refuse("the size of the kernel is not constant");
      window = a.dilations[axis] * (inputs[1].d[1 + axis]->getConstantValue() - 1) + 1;
    }
    sizes[axis] = output_size(builder, first.d[1 + axis], a.pads[axis] + a.pads[axis + 2], window, a.strides[axis]);
  }
  if (pool) {
    outputs[0] = {4, {first.d[0], sizes[0], sizes[1], first.d[3]}};
    return;
  }
  const IDimensionExpr* channels = inputs[1].d[0];
  int next = 0;
  if (op.epilogue.float_output) outputs[next++] = {4, {first.d[0], channels, sizes[0], sizes[1]}};
  if (op.epilogue.packed_output)
    outputs[next] = {4, {first.d[0], sizes[0], sizes[1], words_of(builder, channels)}};
}

}  // namespace bnn::tensorrt
