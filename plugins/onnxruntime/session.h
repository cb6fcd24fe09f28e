// ONNX Runtime's objects, in C++: errors are exceptions, what is acquired is released.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/conv_shape.h"
#include "core/error.h"
#include "cpu/runtime.h"
#include "onnxruntime/ort_abi.h"

namespace bnn::ort {

// Throws InvalidInput with the message of a status that is not null, and releases it.
void check_status(const Api& api, Status* status);

// A tensor of a kernel: its data is not copied.
struct Tensor {
  Dims dims;
  ElementType type;
  const void* data;

  const float* floats() const { return static_cast<const float*>(data); }
  const int32_t* words() const { return static_cast<const int32_t*>(data); }
};

Tensor read_tensor(const Api& api, const Value* value);

// The attributes and constant inputs of a node, while its kernel is created.
class NodeInfo {
 public:
  NodeInfo(const Api& api, const KernelInfo* info) : api_(api), info_(info) {}

  std::string name() const;
  int64_t integer(const char* attribute) const;
  float number(const char* attribute) const;
  // Throws InvalidInput unless there are `count` values.
  void integers(const char* attribute, int64_t* values, size_t count) const;
  // Whether the input is known now; if so, `tensor` is it.
  bool constant_input(size_t index, Tensor* tensor) const;

 private:
  const Api& api_;
  const KernelInfo* info_;
};

// The inputs of a node that are constant vectors, copied when its kernel is created: to ask ONNX Runtime for them anew
// at each run takes longer than a small layer.
class ConstantVectors {
 public:
  ConstantVectors(const NodeInfo& node, size_t inputs);

  const Tensor* find(size_t input) const;  // null for an input that is none

 private:
  struct Vector {
    Tensor tensor;
    std::unique_ptr<uint8_t[]> bytes;
  };
  std::vector<Vector> vectors_;  // one for each input; without bytes where that is none
};

// One run of a node: its tensors, memory from ONNX Runtime's arena, threads from its pool.
class Call : public cpu::Runtime {
 public:
  Call(const Api& api, KernelContext* context, const ConstantVectors& constants);
  ~Call() override;

  Tensor input(size_t index) const;
  void* output(size_t index, const Dims& dims);

  void* allocate(size_t bytes) override;
  void release(void* memory) noexcept override;

 protected:
  void parallel(size_t count, const std::function<void(size_t)>& task) override;

 private:
  const Api& api_;
  KernelContext* context_;
  const ConstantVectors& constants_;
  Allocator* allocator_ = nullptr;  // made when it is first asked for
};

}  // namespace bnn::ort
