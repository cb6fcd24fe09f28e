// Running a node: from tensor descriptions and device pointers to launches.
#pragma once

#include <NvInferRuntime.h>

#include "cuda/launchers.h"
#include "tensorrt/operators.h"

namespace bnn::tensorrt {

Dims to_dims(const nvinfer1::Dims& dims);

// One run, as enqueue gets it.
struct Run {
  const nvinfer1::PluginTensorDesc* input_descs;
  const nvinfer1::PluginTensorDesc* output_descs;
  const void* const* inputs;
  void* const* outputs;
  cudaStream_t stream;
};

// The task of a convolution or a fully connected layer, with its sizes and no pointers. Throws InvalidInput.
cuda::ConvTask layer_task(const Operator& op, const Attributes& attributes, const nvinfer1::PluginTensorDesc* inputs);

// The bytes of the layer's border table; 0 where it has none. Throws InvalidInput.
size_t border_table_bytes(const Operator& op, const Attributes& attributes, const nvinfer1::Dims& weight);

// With the pointers of a run, all but the border table.
void set_pointers(const Operator& op, const Attributes& attributes, const Run& run, cuda::ConvTask& task);

void run_pack(const Operator& op, const Attributes& attributes, const Run& run);
void run_max_pool(const Operator& op, const Attributes& attributes, const Run& run);

}  // namespace bnn::tensorrt
