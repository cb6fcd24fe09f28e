#include "tensorrt/shapes.h"

#include <algorithm>

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
    if (inputs[i].size() != 1 || (inputs[i][0] >= 0 && inputs[i][0] != 1 && inputs[i][0] != a.channels))
      refuse("a threshold has shape ", to_text(inputs[i]), ", wanted 1 or ", a.channels);
}

// [N, H', W'] of a window on packed: [N, H, W, words]; -1 where unknown. Throws InvalidInput where it does not fit.
Dims window_places(const ConvAttributes& conv, const ConvWeightShape& window, const Dims& packed) {
  if (packed[1] < 0 || packed[2] < 0) return {packed[0], -1, -1};
  const int64_t words = planes_of(conv.levels) * words_for(conv.channels);
  const ConvShape shape = conv_shape(conv, window, {packed[0], packed[1], packed[2], words});
  return {packed[0], shape.out_height, shape.out_width};
}

void check_residual(const Dims& residual, int64_t outputs, const Dims& places) {
  require_rank("residual", residual, 4);
  const Dims wanted{places[0], outputs, places[1], places[2]};
  for (size_t axis = 0; axis < 4; ++axis)
    if (residual[axis] >= 0 && wanted[axis] >= 0 && residual[axis] != wanted[axis])
      refuse("residual has shape ", to_text(residual), ", wanted ", to_text(wanted));
}

void check_layer(const Operator& op, const Attributes& a, const std::vector<Dims>& inputs) {
  const ConvAttributes conv = conv_attributes(op, a);
  const Dims &packed = inputs[0], &weight = inputs[1];
  const bool convolves = op.layer == Layer::kConv;
  require_rank("packed", packed, convolves ? 4 : 2);
  require_rank("weight", weight, convolves ? 4 : 2);
  require_size("packed", packed.back(), planes_of(conv.levels) * words_for(a.channels));
  require_size("weight", weight.back(), words_for(a.channels / a.group));
  const size_t residual = op.epilogue.residual ? 4 : 0;
  require_channels(inputs, 2, residual, weight[0]);
  if (std::any_of(weight.begin(), weight.end(), [](int64_t size) { return size < 0; })) return;
  const ConvWeightShape shape = weight_shape(conv, convolves ? weight : Dims{weight[0], 1, 1, weight[1]});
  if (!convolves) return;
  const Dims places = window_places(conv, shape, packed);
  if (residual) check_residual(inputs[residual], weight[0], places);
}

void check_max_pool(const Operator& op, const Attributes& a, const std::vector<Dims>& inputs) {
  const ConvAttributes window = conv_attributes(op, a);
  const int64_t words = words_for(a.channels);
  require_rank("packed", inputs[0], 4);
  require_rank("flip", inputs[1], 1);
  require_size("packed", inputs[0][3], words);
  require_size("flip", inputs[1][0], words);
  window_places(window, weight_shape(window, {1, a.kernel_shape[0], a.kernel_shape[1], words}), inputs[0]);
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
  if (static_cast<int>(inputs.size()) != op.input_count()) refuse(inputs.size(), " inputs, wanted ", op.input_count());
  if (op.layer == Layer::kPack) return check_pack(a, inputs);
  if (op.layer == Layer::kMaxPool) return check_max_pool(op, a, inputs);
  check_layer(op, a, inputs);
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
  if (op.epilogue.packed_output) outputs[next] = {4, {first.d[0], sizes[0], sizes[1], words_of(builder, channels)}};
}

}  // namespace bnn::tensorrt
