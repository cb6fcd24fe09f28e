// One node as TensorRT's plugin object. It holds attributes and the border table, no weights: those are inputs of the
// node.
#pragma once

#include <memory>
#include <string>

#include <NvInferRuntime.h>

#include "cuda/device.h"
#include "tensorrt/fields.h"

namespace bnn::tensorrt {

constexpr char kPluginVersion[] = "1";
constexpr char kPluginNamespace[] = "";

class Plugin final : public nvinfer1::IPluginV3,
                     public nvinfer1::IPluginV3OneCore,
                     public nvinfer1::IPluginV3OneBuild,
                     public nvinfer1::IPluginV3OneRuntime {
 public:
  Plugin(const Operator& op, const Attributes& attributes);
  ~Plugin() override;

  // IPluginV3
  nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override;
  nvinfer1::IPluginV3* clone() noexcept override;

  // IPluginV3OneCore
  const char* getPluginName() const noexcept override { return operator_.name.c_str(); }
  const char* getPluginVersion() const noexcept override { return kPluginVersion; }
  const char* getPluginNamespace() const noexcept override { return kPluginNamespace; }

  // IPluginV3OneBuild
  int32_t getNbOutputs() const noexcept override { return operator_.output_count(); }
  int32_t getOutputDataTypes(nvinfer1::DataType* outputs, int32_t output_count, const nvinfer1::DataType* inputs,
                             int32_t input_count) const noexcept override;
  int32_t getOutputShapes(const nvinfer1::DimsExprs* inputs, int32_t input_count, const nvinfer1::DimsExprs* shapes,
                          int32_t shape_count, nvinfer1::DimsExprs* outputs, int32_t output_count,
                          nvinfer1::IExprBuilder& builder) noexcept override;
  bool supportsFormatCombination(int32_t position, const nvinfer1::DynamicPluginTensorDesc* tensors,
                                 int32_t input_count, int32_t output_count) noexcept override;
  int32_t configurePlugin(const nvinfer1::DynamicPluginTensorDesc* inputs, int32_t input_count,
                          const nvinfer1::DynamicPluginTensorDesc* outputs, int32_t output_count) noexcept override;
  size_t getWorkspaceSize(const nvinfer1::DynamicPluginTensorDesc* inputs, int32_t input_count,
                          const nvinfer1::DynamicPluginTensorDesc* outputs,
                          int32_t output_count) const noexcept override;
  int32_t getNbTactics() noexcept override { return tactic_count_; }
  int32_t getValidTactics(int32_t* tactics, int32_t count) noexcept override;
  const char* getTimingCacheID() noexcept override { return timing_cache_id_.c_str(); }

  // IPluginV3OneRuntime
  int32_t setTactic(int32_t tactic) noexcept override;
  int32_t onShapeChange(const nvinfer1::PluginTensorDesc* inputs, int32_t input_count,
                        const nvinfer1::PluginTensorDesc* outputs, int32_t output_count) noexcept override;
  int32_t enqueue(const nvinfer1::PluginTensorDesc* input_descs, const nvinfer1::PluginTensorDesc* output_descs,
                  const void* const* inputs, void* const* outputs, void* workspace,
                  cudaStream_t stream) noexcept override;
  nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext*) noexcept override { return clone(); }
  const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override { return fields_.collection(); }

 private:
  // The border table of a layer, kept from run to run. The first run fills it: only then is it known where the weights
  // are.
  struct Border {
    int32_t* table = nullptr;
    const int32_t* filled_for = nullptr;  // the weights
  };

  bool weighs() const { return operator_.layer == Layer::kConv || operator_.layer == Layer::kLinear; }
  std::string where() const { return operator_.name; }
  void run_layer(const nvinfer1::PluginTensorDesc* inputs, const struct Run& run, void* workspace);
  const int32_t* border_table(const cuda::ConvTask& task, void* workspace, cudaStream_t stream);

  const Operator& operator_;
  const Attributes attributes_;
  const FieldList fields_;
  std::string timing_cache_id_;
  int tactic_ = 0;  // 0: choose; else the number of a kernel, plus 1
  int tactics_[cuda::kPopcountKernel + 1] = {};
  int tactic_count_ = 0;
  Border border_;
};

}  // namespace bnn::tensorrt
