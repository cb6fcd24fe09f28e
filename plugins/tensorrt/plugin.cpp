#include "tensorrt/plugin.h"

#include "core/error.h"
#include "tensorrt/last_error.h"
#include "tensorrt/runtime.h"
#include "tensorrt/shapes.h"

namespace bnn::tensorrt {
namespace {

using nvinfer1::DataType;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

// Tables of this size are far from anything that a tensor-core kernel takes.
constexpr size_t kLargestTable = size_t{1} << 28;

bool same_padding(const cuda::ConvTask& a, const cuda::ConvTask& b) {
  return a.padded_top == b.padded_top && a.padded_left == b.padded_left && a.padded_bottom == b.padded_bottom &&
         a.padded_right == b.padded_right && a.border_stride == b.border_stride && a.weight == b.weight;
}

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

// The formats of real tensors: linear, or channels last where the plugin reads and writes them whole.
bool real_format(const PluginTensorDesc& desc, DataType type) {
  if (desc.type != type) return false;
  if (desc.format == TensorFormat::kLINEAR) return true;
  if (desc.dims.nbDims != 4) return false;
  if (type == DataType::kFLOAT) return desc.format == TensorFormat::kHWC;
  return desc.format == TensorFormat::kHWC8 && desc.dims.d[1] > 0 && desc.dims.d[1] % 8 == 0;  // else it has gaps
}

bool linear(const PluginTensorDesc& desc, DataType type) {
  return desc.type == type && desc.format == TensorFormat::kLINEAR;
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
    case nvinfer1::PluginCapabilityType::kCORE: return static_cast<nvinfer1::IPluginV3OneCore*>(this);
    case nvinfer1::PluginCapabilityType::kBUILD: return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
    case nvinfer1::PluginCapabilityType::kRUNTIME: return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
    default: return nullptr;
  }
}

nvinfer1::IPluginV3* Plugin::clone() noexcept {
  return guarded(where(), static_cast<nvinfer1::IPluginV3*>(nullptr), [&]() -> nvinfer1::IPluginV3* {
    auto copy = std::make_unique<Plugin>(operator_, attributes_);
    copy->tactic_ = tactic_;
    return copy.release();
  });
}

int32_t Plugin::getOutputDataTypes(DataType* outputs, int32_t output_count, const DataType*,
                                   int32_t) const noexcept {
  return guarded(where(), -1, [&] {
    if (output_count != operator_.output_count())
      refuse(output_count, " outputs, wanted ", operator_.output_count());
    int next = 0;
    if (weighs() && operator_.epilogue.float_output)
      outputs[next++] = operator_.epilogue.float16 ? DataType::kHALF : DataType::kFLOAT;
    if (next < output_count) outputs[next] = DataType::kINT32;
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

bool Plugin::supportsFormatCombination(int32_t position, const DynamicPluginTensorDesc* tensors, int32_t input_count,
                                       int32_t) noexcept {
  const PluginTensorDesc& desc = tensors[position].desc;
  if (operator_.layer == Layer::kMaxPool) return linear(desc, DataType::kINT32);
  if (operator_.layer == Layer::kPack) {
    if (position == 0) return real_format(desc, DataType::kFLOAT) || real_format(desc, DataType::kHALF);
    return linear(desc, position < input_count ? DataType::kFLOAT : DataType::kINT32);
  }
  const EpilogueKind& kind = operator_.epilogue;
  const DataType real = kind.float16 ? DataType::kHALF : DataType::kFLOAT;
  if (position < 2) return linear(desc, DataType::kINT32);  // packed, weight
  if (kind.residual && position == 4) return real_format(desc, real);
  if (position < input_count) return linear(desc, kind.integer_bits() ? DataType::kINT32 : DataType::kFLOAT);
  if (position == input_count && kind.float_output) {
    if (operator_.layer == Layer::kLinear) return linear(desc, real);
    return real_format(desc, real) && (!kind.residual || desc.format == tensors[4].desc.format);
  }
  return linear(desc, DataType::kINT32);  // bits
}

int32_t Plugin::configurePlugin(const DynamicPluginTensorDesc* inputs, int32_t input_count,
                                const DynamicPluginTensorDesc*, int32_t) noexcept {
  return guarded(where(), -1, [&] {
    check_inputs(operator_, attributes_,
                 dims_of(inputs, input_count, [](const DynamicPluginTensorDesc& in) { return in.desc.dims; }));
    tactic_count_ = 0;
    if (!weighs() || !cuda::device_present()) return 0;  // a builder without a GPU cannot time anything
    std::vector<PluginTensorDesc> largest;
    for (int32_t i = 0; i < input_count; ++i) {
      largest.push_back(inputs[i].desc);
      largest.back().dims = inputs[i].max;
    }
    const cuda::ConvTask task = layer_task(operator_, attributes_, largest.data());
    cuda::TilePlan plan;
    for (int kernel = 0; kernel < cuda::kTileCount; ++kernel)
      if (task.group == 1 && plan_tiles(task, cuda::kTiles[kernel], cuda::device_info().sizes, plan))
        tactics_[tactic_count_++] = kernel + 1;
    tactics_[tactic_count_++] = cuda::kPopcountKernel + 1;
    return 0;
  });
}

size_t Plugin::getWorkspaceSize(const DynamicPluginTensorDesc* inputs, int32_t input_count,
                                const DynamicPluginTensorDesc*, int32_t) const noexcept {
  if (!weighs() || input_count < 2) return 0;
  return guarded(where(), size_t{0}, [&]() -> size_t {
    const size_t bytes = most_border_table_bytes(operator_, attributes_, inputs[1].desc.dims);
    return bytes <= kLargestTable ? bytes : 0;
  });
}

int32_t Plugin::getValidTactics(int32_t* tactics, int32_t count) noexcept {
  for (int32_t i = 0; i < count && i < tactic_count_; ++i) tactics[i] = tactics_[i];
  return 0;
}

int32_t Plugin::setTactic(int32_t tactic) noexcept {
  tactic_ = tactic;
  return 0;
}

int32_t Plugin::onShapeChange(const PluginTensorDesc* inputs, int32_t input_count, const PluginTensorDesc*,
                              int32_t) noexcept {
  return guarded(where(), -1, [&] {
    check_inputs(operator_, attributes_,
                 dims_of(inputs, input_count, [](const PluginTensorDesc& in) { return in.dims; }));
    if (!weighs()) return 0;
    const size_t bytes = most_border_table_bytes(operator_, attributes_, inputs[1].dims);
    if (bytes > border_.bytes && bytes <= kLargestTable) {
      if (border_.table) cuda::release(border_.table);
      border_ = {};
      border_.table = static_cast<int32_t*>(cuda::allocate(bytes));
      border_.bytes = bytes;
    }
    return 0;
  });
}

int32_t Plugin::enqueue(const PluginTensorDesc* input_descs, const PluginTensorDesc* output_descs,
                        const void* const* inputs, void* const* outputs, void* workspace,
                        cudaStream_t stream) noexcept {
  return guarded(where(), -1, [&] {
    const Run run{input_descs, output_descs, inputs, outputs, stream};
    if (operator_.layer == Layer::kPack) run_pack(operator_, attributes_, run);
    else if (operator_.layer == Layer::kMaxPool) run_max_pool(attributes_, run);
    else run_layer(input_descs, run, workspace);
    return 0;
  });
}

void Plugin::run_layer(const PluginTensorDesc* inputs, const Run& run, void* workspace) {
  cuda::ConvTask task = layer_task(operator_, attributes_, inputs);
  set_pointers(operator_, attributes_, run, task);
  const cuda::Device& device = cuda::device_info().sizes;
  const int best = cuda::chosen_kernel(task, device);
  cuda::TilePlan plan;
  int kernel = tactic_ == 0 ? best : tactic_ - 1;
  // A tile that was timed for one size of a profile need not fit another one.
  if (kernel < cuda::kTileCount && !plan_tiles(task, cuda::kTiles[kernel], device, plan)) kernel = best;
  if (kernel < cuda::kTileCount) task.border = border_table(task, workspace, run.stream);
  if (!task.border) kernel = cuda::kPopcountKernel;
  cuda::convolve(task, kernel, cuda::ProductChoice::kNative, device, run.stream);
}

// While a stream is captured nothing runs, so a table that is filled there is filled by the graph, each time.
const int32_t* Plugin::border_table(const cuda::ConvTask& task, void* workspace, cudaStream_t stream) {
  const bool kept = border_.table && cuda::border_table_bytes(task) <= border_.bytes;
  int32_t* table = kept ? border_.table : static_cast<int32_t*>(workspace);
  if (!table) return nullptr;
  if (kept && border_.filled && same_padding(border_.filled_for, task)) return table;
  cuda::fill_border_table(task, cuda::ProductChoice::kNative, table, stream);
  border_.filled = kept && !cuda::is_capturing(stream);
  border_.filled_for = task;
  return table;
}

}  // namespace bnn::tensorrt
