#include "tensorrt/formats.h"

#include <string>

#include "core/error.h"

namespace bnn::tensorrt {
namespace {

using nvinfer1::DataType;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

constexpr int kResidual = 4;  // its place among the inputs

// x, the residual and y: what may be channels last.
bool is_image(const Operator& op, int position) {
  if (op.layer == Layer::kPack) return position == 0;
  if (op.layer == Layer::kMaxPool || !op.epilogue.float_output) return false;
  return position == op.input_count() || (op.epilogue.residual && position == kResidual);
}

// Channels last where the tensor has no gaps: kHWC8 rounds the channels up to a multiple of 8.
bool channels_last(const PluginTensorDesc& desc) {
  if (desc.dims.nbDims != 4) return false;
  if (desc.type == DataType::kFLOAT) return desc.format == TensorFormat::kHWC;
  return desc.format == TensorFormat::kHWC8 && desc.dims.d[1] > 0 && desc.dims.d[1] % 8 == 0;
}

std::string name_of(DataType type) {
  switch (type) {
    case DataType::kFLOAT:
      return "float32";
    case DataType::kHALF:
      return "float16";
    case DataType::kBF16:
      return "bfloat16";
    case DataType::kINT8:
      return "int8";
    case DataType::kINT32:
      return "int32";
    case DataType::kINT64:
      return "int64";
    default:
      return "type " + std::to_string(static_cast<int32_t>(type));
  }
}

bool may_be_float16_too(const Operator& op, int position) { return op.layer == Layer::kPack && position == 0; }

bool takes_type(const Operator& op, int position, DataType type) {
  return type == tensor_type(op, position) || (may_be_float16_too(op, position) && type == DataType::kHALF);
}

}  // namespace

DataType tensor_type(const Operator& op, int position) {
  const bool input = position < op.input_count();
  if (op.layer == Layer::kPack) return input ? DataType::kFLOAT : DataType::kINT32;
  if (op.layer == Layer::kMaxPool || op.epilogue.integer_bits() || position < 2) return DataType::kINT32;
  if (is_image(op, position)) return op.epilogue.float16 ? DataType::kHALF : DataType::kFLOAT;
  return input ? DataType::kFLOAT : DataType::kINT32;
}

void check_input_types(const Operator& op, const DataType* types, int count) {
  if (count != op.input_count()) refuse(count, " inputs, wanted ", op.input_count());
  for (int i = 0; i < count; ++i)
    if (!takes_type(op, i, types[i]))
      refuse("input ", i, " is ", name_of(types[i]), ", wanted ", name_of(tensor_type(op, i)),
             may_be_float16_too(op, i) ? " or float16" : "");
}

bool supports_format(const Operator& op, int position, const nvinfer1::DynamicPluginTensorDesc* tensors) {
  const PluginTensorDesc& desc = tensors[position].desc;
  if (!takes_type(op, position, desc.type)) return false;
  // One layout for the residual and y.
  const bool follows_residual = op.epilogue.residual && position == op.input_count();
  if (follows_residual && desc.format != tensors[kResidual].desc.format) return false;
  if (desc.format == TensorFormat::kLINEAR) return true;
  return op.layer != Layer::kLinear && is_image(op, position) && channels_last(desc);
}

}  // namespace bnn::tensorrt
