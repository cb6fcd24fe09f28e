#include "tensorrt/runtime.h"

#include "core/error.h"

namespace bnn::tensorrt {
namespace {

using nvinfer1::DataType;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

cuda::Layout layout_of(const PluginTensorDesc& desc) {
  return desc.format == TensorFormat::kLINEAR ? cuda::Layout::kChannelsFirst : cuda::Layout::kChannelsLast;
}

int64_t product(const nvinfer1::Dims& dims, int first) {
  int64_t product = 1;
  for (int axis = first; axis < dims.nbDims; ++axis) product *= dims.d[axis];
  return product;
}

}  // namespace

Dims to_dims(const nvinfer1::Dims& dims) { return Dims(dims.d, dims.d + dims.nbDims); }

size_t border_table_bytes(const Operator& op, const Attributes& a, const nvinfer1::Dims& weight) {
  const Dims dims = to_dims(weight);
  const ConvAttributes conv = conv_attributes(op, a);
  return cuda::border_table_bytes(
      conv, weight_shape(conv, op.layer == Layer::kConv ? dims : Dims{dims.at(0), 1, 1, dims.at(1)}));
}

cuda::ConvTask layer_task(const Operator& op, const Attributes& a, const PluginTensorDesc* inputs) {
  const ConvAttributes conv = conv_attributes(op, a);
  const Dims packed = to_dims(inputs[0].dims), weight = to_dims(inputs[1].dims);
  cuda::ConvTask task;
  if (op.layer == Layer::kLinear) {
    task = cuda::linear_task(packed.at(0), a.channels, weight.at(0), conv.levels);
  } else {
    const ConvWeightShape shape = weight_shape(conv, weight);
    task = cuda::conv_task(conv, shape, conv_shape(conv, shape, packed));
  }
  task.kind = op.epilogue;
  return task;
}

void set_pointers(const Operator& op, const Attributes& a, const Run& run, cuda::ConvTask& task) {
  int input = 0, output = 0;
  const auto integers = [&] { return static_cast<const int32_t*>(run.inputs[input++]); };
  const auto reals = [&] { return static_cast<const float*>(run.inputs[input++]); };
  task.packed = integers();
  task.weight = integers();
  EpilogueOperands& operands = task.operands;
  if (op.epilogue.float_output) {
    operands.scale = reals();
    operands.bias = reals();
  }
  if (op.epilogue.residual) task.residual = run.inputs[input++];
  if (op.epilogue.activation == Activation::kPRelu) {
    operands.slope = reals();
    operands.shift = reals();
  }
  if (op.epilogue.integer_bits()) {
    operands.accumulator_lower = integers();
    operands.accumulator_upper = integers();
  } else if (op.epilogue.packed_output) {
    operands.lower = reals();
    operands.upper = reals();
  }
  operands.clip_low = a.clip_low;
  operands.clip_high = a.clip_high;
  if (op.epilogue.float_output) {
    if (op.layer == Layer::kConv) task.layout = layout_of(run.output_descs[output]);
    task.y = run.outputs[output++];
  }
  if (op.epilogue.packed_output) task.bits = static_cast<int32_t*>(run.outputs[output]);
}

void run_pack(const Operator& op, const Attributes& a, const Run& run) {
  const PluginTensorDesc& x = run.input_descs[0];
  const auto step = [&](int input) { return run.input_descs[input].dims.d[0] == 1 ? 0 : 1; };
  cuda::PackTask task{};
  task.kind = op.pack;
  task.layout = layout_of(x);
  task.float16 = x.type == DataType::kHALF;
  task.batch = static_cast<int>(x.dims.d[0]);
  task.channels = a.channels;
  task.words = static_cast<int>(words_for(a.channels));
  task.pixels = product(x.dims, 2);
  task.x = run.inputs[0];
  if (op.input_count() > 1) {
    task.lower = static_cast<const float*>(run.inputs[1]);
    task.lower_step = step(1);
  }
  if (op.input_count() > 2) {
    task.upper = static_cast<const float*>(run.inputs[2]);
    task.upper_step = step(2);
  }
  task.packed = static_cast<int32_t*>(run.outputs[0]);
  cuda::pack(task, run.stream);
}

void run_max_pool(const Operator& op, const Attributes& a, const Run& run) {
  const int64_t kernel[2] = {a.kernel_shape[0], a.kernel_shape[1]};
  cuda::MaxPoolTask task = cuda::max_pool_task(conv_attributes(op, a), kernel, to_dims(run.input_descs[0].dims));
  task.packed = static_cast<const int32_t*>(run.inputs[0]);
  task.flip = static_cast<const int32_t*>(run.inputs[1]);
  task.out = static_cast<int32_t*>(run.outputs[0]);
  cuda::max_pool(task, run.stream);
}

}  // namespace bnn::tensorrt
