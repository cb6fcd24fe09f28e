// Plays TensorRT's part: loads a plugin library, makes plugins of fields, asks them for shapes, formats and tactics,
// stores and restores them, and runs them. No library of TensorRT is needed, so this works wherever the plugin can be
// built.
//
// Plain C functions, for tests through ctypes. A plugin goes through the states that TensorRT takes it through: created
// for building, configured, its fields stored; created of these fields for running, attached, told its shapes, run.

#include <dlfcn.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include <NvInferRuntime.h>

namespace {

using namespace nvinfer1;

thread_local std::string last_error;

// ---- an expression builder that computes

class Expression final : public IDimensionExpr, private apiv::VDimensionExpr {
 public:
  Expression(int64_t value, bool constant) : value_(value), constant_(constant) { mImpl = this; }
  int64_t value() const { return value_; }

 private:
  bool isConstant() const override { return constant_; }
  int64_t getConstantValue() const override { return value_; }
  bool isSizeTensor() const override { return false; }

  const int64_t value_;
  const bool constant_;
};

// Computes at once with the values behind the symbols; an expression of a symbol is no constant to the plugin.
class Builder final : public IExprBuilder, private apiv::VExprBuilder {
 public:
  Builder() { mImpl = this; }

  const IDimensionExpr* make(int64_t value, bool is_constant) {
    expressions_.push_back(std::make_unique<Expression>(value, is_constant));
    return expressions_.back().get();
  }

 private:
  const IDimensionExpr* constant(int64_t value) override { return make(value, true); }
  const IDimensionExpr* operation(DimensionOperation op, const IDimensionExpr& first,
                                  const IDimensionExpr& second) override {
    const int64_t a = static_cast<const Expression&>(first).value(), b = static_cast<const Expression&>(second).value();
    return make(compute(op, a, b), first.isConstant() && second.isConstant());
  }
  const IDimensionExpr* declareSizeTensor(int32_t, const IDimensionExpr&, const IDimensionExpr&) override {
    return nullptr;
  }

  static int64_t compute(DimensionOperation op, int64_t a, int64_t b) {
    const int64_t floor = a / b_or_one(b) - (a % b_or_one(b) != 0 && (a < 0) != (b < 0));
    switch (op) {
      case DimensionOperation::kSUM:
        return a + b;
      case DimensionOperation::kPROD:
        return a * b;
      case DimensionOperation::kSUB:
        return a - b;
      case DimensionOperation::kMAX:
        return a > b ? a : b;
      case DimensionOperation::kMIN:
        return a < b ? a : b;
      case DimensionOperation::kFLOOR_DIV:
        return floor;
      case DimensionOperation::kCEIL_DIV:
        return -((-a) / b_or_one(b) - ((-a) % b_or_one(b) != 0 && (-a < 0) != (b < 0)));
      default:
        return -1;
    }
  }
  static int64_t b_or_one(int64_t b) { return b ? b : 1; }

  std::vector<std::unique_ptr<Expression>> expressions_;
};

class Resources final : public IPluginResourceContext {
 public:
  IGpuAllocator* getGpuAllocator() const noexcept override { return nullptr; }
  IErrorRecorder* getErrorRecorder() const noexcept override { return nullptr; }
};

// ---- what the C functions hold

struct Library {
  void* handle = nullptr;
  std::vector<IPluginCreatorV3One*> creators;
  int (*take_error)(char*, int) = nullptr;

  std::string error() const {
    char text[4096] = "";
    take_error(text, sizeof text);
    return text;
  }
};

struct Held {
  Library* library;
  IPluginCreatorV3One* creator;
  std::unique_ptr<IPluginV3> plugin;
};

template <class Capability>
Capability* capability(const Held* held, PluginCapabilityType type) {
  return static_cast<Capability*>(held->plugin->getCapabilityInterface(type));
}
IPluginV3OneBuild* build(const Held* held) { return capability<IPluginV3OneBuild>(held, PluginCapabilityType::kBUILD); }
IPluginV3OneRuntime* runtime(const Held* held) {
  return capability<IPluginV3OneRuntime>(held, PluginCapabilityType::kRUNTIME);
}

}  // namespace

extern "C" {

#define HOST_API __attribute__((visibility("default")))

// A tensor. known: whether its sizes are constants when a network is built.
typedef struct {
  int32_t rank, type, format;  // type and format: the numbers of nvinfer1
  int64_t dims[8];
  int32_t known[8];
  void* data;
} host_tensor;

typedef struct {
  const char* name;
  int32_t type, count;  // of nvinfer1::PluginFieldType
  const void* data;
} host_field;

HOST_API const char* host_last_error(void) { return last_error.c_str(); }

HOST_API void* host_open(const char* path) {
  auto library = std::make_unique<Library>();
  library->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library->handle) {
    last_error = dlerror();
    return nullptr;
  }
  using Creators = IPluginCreatorInterface* const* (*)(int32_t&);
  const auto creators = reinterpret_cast<Creators>(dlsym(library->handle, "getCreators"));
  library->take_error = reinterpret_cast<int (*)(char*, int)>(dlsym(library->handle, "bnn_plugin_last_error"));
  if (!creators || !library->take_error || !dlsym(library->handle, "setLoggerFinder")) {
    last_error = "a function that TensorRT asks for is missing";
    return nullptr;
  }
  int32_t count = 0;
  IPluginCreatorInterface* const* all = creators(count);
  for (int32_t i = 0; i < count; ++i) {
    if (std::strcmp(all[i]->getInterfaceInfo().kind, "PLUGIN CREATOR_V3ONE") != 0) continue;
    library->creators.push_back(static_cast<IPluginCreatorV3One*>(all[i]));
  }
  return library.release();
}

HOST_API int host_creator_count(void* library) {
  return static_cast<int>(static_cast<Library*>(library)->creators.size());
}
HOST_API const char* host_creator_name(void* library, int i) {
  return static_cast<Library*>(library)->creators[static_cast<size_t>(i)]->getPluginName();
}

// The attributes that a creator asks a parser for: their names, types and counts, into `fields`. Returns how many there
// are.
HOST_API int host_creator_fields(void* library, int i, host_field* fields, int room) {
  const PluginFieldCollection* all = static_cast<Library*>(library)->creators[static_cast<size_t>(i)]->getFieldNames();
  for (int32_t k = 0; k < all->nbFields && k < room; ++k) {
    const PluginField& field = all->fields[k];
    fields[k] = {field.name, static_cast<int32_t>(field.type), field.length, nullptr};
  }
  return all->nbFields;
}

// phase: 0 to build, 1 to run.
HOST_API void* host_create(void* library, const char* op, const char* node, int phase, const host_field* fields,
                           int count) {
  auto* opened = static_cast<Library*>(library);
  for (IPluginCreatorV3One* creator : opened->creators) {
    if (std::strcmp(creator->getPluginName(), op) != 0) continue;
    std::vector<PluginField> all;
    for (int i = 0; i < count; ++i)
      all.emplace_back(fields[i].name, fields[i].data, static_cast<PluginFieldType>(fields[i].type), fields[i].count);
    const PluginFieldCollection collection{count, all.data()};
    auto held = std::make_unique<Held>(
        Held{opened, creator,
             std::unique_ptr<IPluginV3>(creator->createPlugin(node, &collection, static_cast<TensorRTPhase>(phase)))});
    if (held->plugin) return held.release();
    last_error = opened->error();
    return nullptr;
  }
  last_error = std::string("no creator for ") + op;
  return nullptr;
}

HOST_API void host_destroy(void* plugin) { delete static_cast<Held*>(plugin); }

}  // extern "C"

namespace {

int result(const Held* held, int status) {
  if (status != 0) last_error = held->library->error();
  return status;
}

PluginTensorDesc description(const host_tensor& tensor) {
  PluginTensorDesc desc{};
  desc.dims.nbDims = tensor.rank;
  std::copy(tensor.dims, tensor.dims + tensor.rank, desc.dims.d);
  desc.type = static_cast<DataType>(tensor.type);
  desc.format = static_cast<TensorFormat>(tensor.format);
  desc.scale = 1.0f;
  return desc;
}

std::vector<PluginTensorDesc> descriptions(const host_tensor* tensors, int count) {
  std::vector<PluginTensorDesc> all;
  for (int i = 0; i < count; ++i) all.push_back(description(tensors[i]));
  return all;
}

// A profile of one size.
std::vector<DynamicPluginTensorDesc> dynamic_descriptions(const host_tensor* tensors, int count) {
  std::vector<DynamicPluginTensorDesc> all;
  for (const PluginTensorDesc& desc : descriptions(tensors, count)) {
    DynamicPluginTensorDesc dynamic{};
    dynamic.desc = desc;
    dynamic.min = dynamic.opt = dynamic.max = desc.dims;
    all.push_back(dynamic);
  }
  return all;
}

}  // namespace

extern "C" {

// Shapes and types of the outputs, into `outputs`. Returns how many there are, or -1.
HOST_API int host_outputs(void* plugin, const host_tensor* inputs, int count, host_tensor* outputs) {
  const auto* held = static_cast<Held*>(plugin);
  const int output_count = build(held)->getNbOutputs();
  Builder builder;
  std::vector<DimsExprs> expressions(static_cast<size_t>(count)), made(static_cast<size_t>(output_count));
  std::vector<DataType> types, made_types(static_cast<size_t>(output_count));
  for (int i = 0; i < count; ++i) {
    expressions[static_cast<size_t>(i)].nbDims = inputs[i].rank;
    for (int axis = 0; axis < inputs[i].rank; ++axis)
      expressions[static_cast<size_t>(i)].d[axis] = builder.make(inputs[i].dims[axis], inputs[i].known[axis]);
    types.push_back(static_cast<DataType>(inputs[i].type));
  }
  if (result(held, build(held)->getOutputDataTypes(made_types.data(), output_count, types.data(), count))) return -1;
  if (result(held,
             build(held)->getOutputShapes(expressions.data(), count, nullptr, 0, made.data(), output_count, builder)))
    return -1;
  for (int i = 0; i < output_count; ++i) {
    const DimsExprs& shape = made[static_cast<size_t>(i)];
    outputs[i].rank = shape.nbDims;
    outputs[i].type = static_cast<int32_t>(made_types[static_cast<size_t>(i)]);
    for (int axis = 0; axis < shape.nbDims; ++axis)
      outputs[i].dims[axis] = static_cast<const Expression*>(shape.d[axis])->value();
  }
  return output_count;
}

HOST_API int host_supports(void* plugin, int position, const host_tensor* tensors, int inputs, int outputs) {
  const auto all = dynamic_descriptions(tensors, inputs + outputs);
  return build(static_cast<Held*>(plugin))->supportsFormatCombination(position, all.data(), inputs, outputs);
}

HOST_API int host_configure(void* plugin, const host_tensor* tensors, int inputs, int outputs) {
  const auto* held = static_cast<Held*>(plugin);
  const auto all = dynamic_descriptions(tensors, inputs + outputs);
  return result(held, build(held)->configurePlugin(all.data(), inputs, all.data() + inputs, outputs));
}

HOST_API int64_t host_workspace(void* plugin, const host_tensor* tensors, int inputs, int outputs) {
  const auto all = dynamic_descriptions(tensors, inputs + outputs);
  return static_cast<int64_t>(
      build(static_cast<Held*>(plugin))->getWorkspaceSize(all.data(), inputs, all.data() + inputs, outputs));
}

// Returns how many there are; as many as `room` are written.
HOST_API int host_tactics(void* plugin, int32_t* tactics, int room) {
  IPluginV3OneBuild* const builder = build(static_cast<Held*>(plugin));
  const int count = builder->getNbTactics();
  builder->getValidTactics(tactics, count < room ? count : room);
  return count;
}

HOST_API const char* host_timing_cache_id(void* plugin) {
  return build(static_cast<Held*>(plugin))->getTimingCacheID();
}

// Another plugin as an engine restores it: of the fields that this one stores, then attached to a context.
HOST_API void* host_restore(void* plugin) {
  const auto* held = static_cast<Held*>(plugin);
  const PluginFieldCollection* fields = runtime(held)->getFieldsToSerialize();
  // An engine keeps a copy of every field, and nothing else.
  std::vector<std::vector<char>> bytes;
  std::vector<PluginField> copies;
  for (int32_t i = 0; i < fields->nbFields; ++i) {
    const PluginField& field = fields->fields[i];
    const size_t size = field.type == PluginFieldType::kINT32 || field.type == PluginFieldType::kFLOAT32 ? 4 : 8;
    const char* first = static_cast<const char*>(field.data);
    bytes.emplace_back(first, first + size * static_cast<size_t>(field.length));
    copies.emplace_back(field.name, bytes.back().data(), field.type, field.length);
  }
  const PluginFieldCollection collection{fields->nbFields, copies.data()};
  std::unique_ptr<IPluginV3> restored(held->creator->createPlugin("restored", &collection, TensorRTPhase::kRUNTIME));
  if (!restored) {
    last_error = held->library->error();
    return nullptr;
  }
  Held whole{held->library, held->creator, std::move(restored)};
  Resources resources;
  std::unique_ptr<IPluginV3> attached(runtime(&whole)->attachToContext(&resources));
  return attached ? new Held{held->library, held->creator, std::move(attached)} : nullptr;
}

HOST_API void* host_clone(void* plugin) {
  const auto* held = static_cast<Held*>(plugin);
  std::unique_ptr<IPluginV3> copy(held->plugin->clone());
  return copy ? new Held{held->library, held->creator, std::move(copy)} : nullptr;
}

HOST_API int host_set_tactic(void* plugin, int tactic) {
  const auto* held = static_cast<Held*>(plugin);
  return result(held, runtime(held)->setTactic(tactic));
}

HOST_API int host_shapes_changed(void* plugin, const host_tensor* tensors, int inputs, int outputs) {
  const auto* held = static_cast<Held*>(plugin);
  const auto all = descriptions(tensors, inputs + outputs);
  return result(held, runtime(held)->onShapeChange(all.data(), inputs, all.data() + inputs, outputs));
}

HOST_API int host_run(void* plugin, const host_tensor* tensors, int inputs, int outputs, void* workspace,
                      void* stream) {
  const auto* held = static_cast<Held*>(plugin);
  const auto all = descriptions(tensors, inputs + outputs);
  std::vector<const void*> from;
  std::vector<void*> to;
  for (int i = 0; i < inputs; ++i) from.push_back(tensors[i].data);
  for (int i = inputs; i < inputs + outputs; ++i) to.push_back(tensors[i].data);
  return result(held, runtime(held)->enqueue(all.data(), all.data() + inputs, from.data(), to.data(), workspace,
                                             static_cast<cudaStream_t>(stream)));
}

}  // extern "C"
