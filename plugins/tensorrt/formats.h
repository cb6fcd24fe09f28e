// The types and the memory formats of a node's tensors, numbered as TensorRT does it: the inputs, then the outputs.
#pragma once

#include <NvInferRuntime.h>

#include "tensorrt/operators.h"

namespace bnn::tensorrt {

// The type of each; x of a pack may be float16 besides.
nvinfer1::DataType tensor_type(const Operator& op, int position);

// Throws InvalidInput where an input has another type than the op reads.
void check_input_types(const Operator& op, const nvinfer1::DataType* types, int count);

// Whether the tensor at `position` may be as it is described, given those before it. The others are not looked at.
bool supports_format(const Operator& op, int position, const nvinfer1::DynamicPluginTensorDesc* tensors);

}  // namespace bnn::tensorrt
