#include "tensorrt/plugin.h"

#include <algorithm>
#include <iterator>

#include "core/error.h"
#include "tensorrt/formats.h"
#include "tensorrt/last_error.h"
#include "tensorrt/runtime.h"
#include "tensorrt/shapes.h"

namespace bnn::tensorrt {
namespace {

using nvinfer1::DataType;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginTensorDesc;

// The sizes of an expression that are known; -1 for the others.
Dims known_sizes(const nvinfer1::DimsExprs& exprs) {
  Dims dims;
  for (int32_t axis = 0; axis < exprs.nbDims; ++axis)
    dims.push_back(exprs.d[axis]->isConstant() ? exprs.d[axis]->getConstantValue() : -1);
  return dims;
}

template <class Desc, class Get>
std::vector<Dims> dims_of(const Desc* descs, int32_t count, const Get& get) {
  std::vector<Dims> dims;
  for (int32_t i = 0; i < count; ++i) dims.push_back(to_dims(get(descs[i])));
  return dims;
}

}  // namespace

Plugin::Plugin(const Operator& op, const Attributes& attributes)
    : operator_(op), attributes_(attributes), fields_(operator_, attributes_) {
  timing_cache_id_ = op.name;
  for (const AttributeField& field : attribute_fields(op))
    for (int i = 0; i < field.count; ++i) {
      const void* value = field.in(attributes_);
      timing_cache_id_ += (i ? "," : std::string(" ") + field.name + "=") +
                          (field.real ? std::to_string(static_cast<const float*>(value)[i])
                                      : std::to_string(static_cast<const int32_t*>(value)[i]));
    }
}

Plugin::~Plugin() {
  if (border_.table) cuda::release(border_.table);
}

nvinfer1::IPluginCapability* Plugin::getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept {
  switch (type) {
    case nvinfer1::PluginCapabilityType::kCORE:
      return static_cast<nvinfer1::IPluginV3OneCore*>(this);
    case nvinfer1::PluginCapabilityType::kBUILD:
      return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
    case nvinfer1::PluginCapabilityType::kRUNTIME:
      return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
    default:
      return nullptr;
  }
}

nvinfer1::IPluginV3* Plugin::clone() noexcept {
  return guarded(where(), static_cast<nvinfer1::IPluginV3*>(nullptr), [&]() -> nvinfer1::IPluginV3* {
    auto copy = std::make_unique<Plugin>(operator_, attributes_);
    copy->tactic_ = tactic_;
    std::copy(std::begin(tactics_), std::end(tactics_), copy->tactics_);
    copy->tactic_count_ = tactic_count_;
    return copy.release();
  });
}

int32_t Plugin::getOutputDataTypes(DataType* outputs, int32_t output_count, const DataType* inputs,
                                   int32_t input_count) const noexcept {
  return guarded(where(), -1, [&] {
    if (output_count != operator_.output_count()) refuse(output_count, " outputs, wanted ", operator_.output_count());
    check_input_types(operator_, inputs, input_count);
    for (int32_t i = 0; i < output_count; ++i) outputs[i] = tensor_type(operator_, input_count + i);
    return 0;
  });
}

int32_t Plugin::getOutputShapes(const nvinfer1::DimsExprs* inputs, int32_t input_count, const nvinfer1::DimsExprs*,
                                int32_t, nvinfer1::DimsExprs* outputs, int32_t,
                                nvinfer1::IExprBuilder& builder) noexcept {
  return guarded(where(), -1, [&] {
    std::vector<Dims> dims;
    for (int32_t i = 0; i < input_count; ++i) dims.push_back(known_sizes(inputs[i]));
    check_inputs(operator_, attributes_, dims);
    output_shapes(operator_, attributes_, inputs, outputs, builder);
    return 0;
  });
}

bool Plugin::supportsFormatCombination(int32_t position, const DynamicPluginTensorDesc* tensors, int32_t,
                                       int32_t) noexcept {
  return supports_format(operator_, position, tensors);
}

int32_t Plugin::configurePlugin(const DynamicPluginTensorDesc* inputs, int32_t input_count,
                                const DynamicPluginTensorDesc*, int32_t) noexcept {
  return guarded(where(), -1, [&] {
    tactic_count_ = 0;
    check_inputs(operator_, attributes_,
                 dims_of(inputs, input_count, [](const DynamicPluginTensorDesc& in) { return in.desc.dims; }));
    if (!weighs() || !cuda::device_present()) return 0;  // a builder without a GPU cannot time anything
    std::vector<PluginTensorDesc> largest;
    for (int32_t i = 0; i < input_count; ++i) {
      largest.push_back(inputs[i].desc);
      largest.back().dims = inputs[i].max;
    }
    const cuda::ConvTask task = layer_task(operator_, attributes_, largest.data());
    cuda::TilePlan plan;
    const bool tiles = cuda::border_table_bytes(task) > 0;
    for (int kernel = 0; tiles && kernel < cuda::kTileCount; ++kernel)
      if (plan_tiles(task, cuda::kTiles[kernel], cuda::device_info().sizes, plan))
        tactics_[tactic_count_++] = kernel + 1;
    tactics_[tactic_count_++] = cuda::kPopcountKernel + 1;
    return 0;
  });
}

size_t Plugin::getWorkspaceSize(const DynamicPluginTensorDesc* inputs, int32_t input_count,
                                const DynamicPluginTensorDesc*, int32_t) const noexcept {
  if (!weighs() || input_count < 2) return 0;
  return guarded(where(), size_t{0}, [&] { return border_table_bytes(operator_, attributes_, inputs[1].desc.dims); });
}

int32_t Plugin::getValidTactics(int32_t* tactics, int32_t count) noexcept {
  for (int32_t i = 0; i < count && i < tactic_count_; ++i) tactics[i] = tactics_[i];
  return 0;
}

int32_t Plugin::setTactic(int32_t tactic) noexcept {
  return guarded(where(), -1, [&] {
    constexpr int kLast = cuda::kPopcountKernel + 1;
    if (tactic < 0 || tactic > kLast)
      refuse("tactic ", tactic, ", wanted 0 to ", kLast, "; an engine is built anew for another version of the plugin");
    tactic_ = tactic;
    return 0;
  });
}

int32_t Plugin::onShapeChange(const PluginTensorDesc* inputs, int32_t input_count, const PluginTensorDesc*,
                              int32_t) noexcept {
  return guarded(where(), -1, [&] {
    check_inputs(operator_, attributes_,
                 dims_of(inputs, input_count, [](const PluginTensorDesc& in) { return in.dims; }));
    if (!weighs()) return 0;
    const size_t bytes = border_table_bytes(operator_, attributes_, inputs[1].dims);
    if (bytes > 0 && !border_.table) border_.table = static_cast<int32_t*>(cuda::allocate(bytes));
    return 0;
  });
}

int32_t Plugin::enqueue(const PluginTensorDesc* input_descs, const PluginTensorDesc* output_descs,
                        const void* const* inputs, void* const* outputs, void* workspace,
                        cudaStream_t stream) noexcept {
  return guarded(where(), -1, [&] {
    const Run run{input_descs, output_descs, inputs, outputs, stream};
    if (operator_.layer == Layer::kPack)
      run_pack(operator_, attributes_, run);
    else if (operator_.layer == Layer::kMaxPool)
      run_max_pool(operator_, attributes_, run);
    else
      run_layer(input_descs, run, workspace);
    return 0;
  });
}

void Plugin::run_layer(const PluginTensorDesc* inputs, const Run& run, void* workspace) {
  cuda::ConvTask task = layer_task(operator_, attributes_, inputs);
  set_pointers(operator_, attributes_, run, task);
  const cuda::Device& device = cuda::device_info().sizes;
  cuda::TilePlan plan;
  int kernel = tactic_ - 1;  // kChooseKernel where TensorRT chose none
  // A tile that was timed for one size of a profile need not fit another one.
  if (kernel == cuda::kChooseKernel ||
      (kernel < cuda::kTileCount && !plan_tiles(task, cuda::kTiles[kernel], device, plan)))
    kernel = cuda::chosen_kernel(task, device);
  if (kernel < cuda::kTileCount && cuda::border_table_bytes(task) > 0)
    task.border = border_table(task, workspace, run.stream);
  if (!task.border) kernel = cuda::kPopcountKernel;
  cuda::convolve(task, kernel, cuda::ProductChoice::kNative, device, run.stream);
}

// While a stream is captured nothing runs, so a table that is filled there is filled by the graph, each time.
const int32_t* Plugin::border_table(const cuda::ConvTask& task, void* workspace, cudaStream_t stream) {
  const bool kept = border_.table != nullptr;
  int32_t* table = kept ? border_.table : static_cast<int32_t*>(workspace);
  if (!table) return nullptr;
  if (kept && border_.filled_for == task.weight) return table;
  border_.filled_for = nullptr;
  cuda::fill_border_table(task, cuda::ProductChoice::kNative, table, stream);
  if (kept && !cuda::is_capturing(stream)) border_.filled_for = task.weight;
  return table;
}

}  // namespace bnn::tensorrt
