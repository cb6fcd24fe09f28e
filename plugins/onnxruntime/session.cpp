#include "onnxruntime/session.h"

#include <cstring>

namespace bnn::ort {
namespace {

// A task of KernelContext_ParallelFor.
void BNN_ORT_CALL run_task(void* function, size_t index) {
  (*static_cast<const std::function<void(size_t)>*>(function))(index);
}

}  // namespace

void check_status(const Api& api, Status* status) {
  if (status == nullptr) return;
  const std::string message = api.GetErrorMessage(status);
  api.ReleaseStatus(status);
  throw InvalidInput(message);
}

Tensor read_tensor(const Api& api, const Value* value) {
  Tensor tensor{};
  TensorInfo* info = nullptr;
  check_status(api, api.GetTensorTypeAndShape(value, &info));
  size_t rank = 0;
  Status* failed = api.GetDimensionsCount(info, &rank);
  if (!failed) {
    tensor.dims.resize(rank);
    failed = api.GetDimensions(info, tensor.dims.data(), rank);
  }
  if (!failed) failed = api.GetTensorElementType(info, &tensor.type);
  api.ReleaseTensorTypeAndShapeInfo(info);
  check_status(api, failed);
  void* data = nullptr;
  check_status(api, api.GetTensorMutableData(const_cast<Value*>(value), &data));
  tensor.data = data;
  return tensor;
}

std::string NodeInfo::name() const {
  size_t size = 0;
  check_status(api_, api_.KernelInfo_GetNodeName(info_, static_cast<char*>(nullptr), &size));
  std::string name(size, '\0');
  check_status(api_, api_.KernelInfo_GetNodeName(info_, name.data(), &size));
  name.resize(size > 0 ? size - 1 : 0);  // the size counts the terminating zero
  return name;
}

int64_t NodeInfo::integer(const char* attribute) const {
  int64_t value = 0;
  check_status(api_, api_.KernelInfoGetAttribute_int64(info_, attribute, &value));
  return value;
}

float NodeInfo::number(const char* attribute) const {
  float value = 0.0f;
  check_status(api_, api_.KernelInfoGetAttribute_float(info_, attribute, &value));
  return value;
}

void NodeInfo::integers(const char* attribute, int64_t* values, size_t count) const {
  size_t found = 0;
  check_status(api_, api_.KernelInfoGetAttributeArray_int64(info_, attribute, static_cast<int64_t*>(nullptr), &found));
  if (found != count) refuse("attribute ", attribute, " has ", found, " values, wanted ", count);
  check_status(api_, api_.KernelInfoGetAttributeArray_int64(info_, attribute, values, &found));
}

bool NodeInfo::constant_input(size_t index, Tensor* tensor) const {
  int is_constant = 0;
  const Value* value = nullptr;
  check_status(api_, api_.KernelInfoGetConstantInput_tensor(info_, index, &is_constant, &value));
  if (!is_constant || value == nullptr) return false;
  *tensor = read_tensor(api_, value);
  return true;
}

ConstantVectors::ConstantVectors(const NodeInfo& node, size_t inputs) : vectors_(inputs) {
  for (size_t i = 0; i < inputs; ++i) {
    Tensor found;
    if (!node.constant_input(i, &found) || found.dims.size() != 1) continue;
    const size_t size = static_cast<size_t>(found.dims[0]) * (found.type == kFloat16 ? 2 : 4);
    auto bytes = std::make_unique<uint8_t[]>(size);
    std::memcpy(bytes.get(), found.data, size);
    found.data = bytes.get();
    vectors_[i] = {std::move(found), std::move(bytes)};
  }
}

const Tensor* ConstantVectors::find(size_t input) const {
  return input < vectors_.size() && vectors_[input].bytes ? &vectors_[input].tensor : nullptr;
}

Call::Call(const Api& api, KernelContext* context, const ConstantVectors& constants)
    : api_(api), context_(context), constants_(constants) {}

Call::~Call() {
  if (allocator_) api_.ReleaseAllocator(allocator_);
}

Tensor Call::input(size_t index) const {
  if (const Tensor* constant = constants_.find(index)) return *constant;
  const Value* value = nullptr;
  check_status(api_, api_.KernelContext_GetInput(context_, index, &value));
  if (value == nullptr) refuse("input ", index, " is missing");
  return read_tensor(api_, value);
}

void* Call::output(size_t index, const Dims& dims) {
  Value* value = nullptr;
  check_status(api_, api_.KernelContext_GetOutput(context_, index, dims.data(), dims.size(), &value));
  if (value == nullptr) return nullptr;  // an output that nobody reads
  void* data = nullptr;
  check_status(api_, api_.GetTensorMutableData(value, &data));
  return data;
}

void* Call::allocate(size_t bytes) {
  if (allocator_ == nullptr) {
    MemoryInfo* info = nullptr;
    check_status(api_, api_.CreateCpuMemoryInfo(kArena, kDefaultMemory, &info));
    Status* failed = api_.KernelContext_GetAllocator(context_, info, &allocator_);
    api_.ReleaseMemoryInfo(info);
    check_status(api_, failed);
  }
  void* memory = nullptr;
  check_status(api_, api_.AllocatorAlloc(allocator_, bytes, &memory));
  if (memory == nullptr) refuse("no memory for ", bytes, " bytes");
  return memory;
}

void Call::release(void* memory) noexcept {
  if (Status* failed = api_.AllocatorFree(allocator_, memory)) api_.ReleaseStatus(failed);
}

void Call::parallel(size_t count, const std::function<void(size_t)>& task) {
  void* function = const_cast<std::function<void(size_t)>*>(&task);
  check_status(api_, api_.KernelContext_ParallelFor(context_, &run_task, count, size_t{0}, function));
}

}  // namespace bnn::ort
