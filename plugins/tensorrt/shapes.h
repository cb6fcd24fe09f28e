// The shapes of a node: checked as far as they are known when a network is built, and exactly when it runs.
#pragma once

#include <NvInferRuntime.h>

#include "tensorrt/operators.h"

namespace bnn::tensorrt {

// Throws InvalidInput where a size that is known, that is not negative, does not fit the op.
void check_inputs(const Operator& op, const Attributes& attributes, const std::vector<Dims>& inputs);

// The shapes of the outputs as expressions over those of the inputs.
void output_shapes(const Operator& op, const Attributes& attributes, const nvinfer1::DimsExprs* inputs,
                   nvinfer1::DimsExprs* outputs, nvinfer1::IExprBuilder& builder);

}  // namespace bnn::tensorrt
