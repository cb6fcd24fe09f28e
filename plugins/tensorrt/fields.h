// A node's attributes as TensorRT hands them over and stores them: collections of named fields.
#pragma once

#include <vector>

#include <NvInferRuntime.h>

#include "tensorrt/operators.h"

namespace bnn::tensorrt {

// Throws InvalidInput where a field is missing, or of another type or length than the op has it.
Attributes read_attributes(const Operator& op, const nvinfer1::PluginFieldCollection& collection);

// The fields of an op. The collection borrows from the object that made it.
class FieldList {
 public:
  explicit FieldList(const Operator& op) : FieldList(op, nullptr) {}                           // names and types alone
  FieldList(const Operator& op, const Attributes& attributes) : FieldList(op, &attributes) {}  // with their values
  FieldList(const FieldList&) = delete;
  FieldList& operator=(const FieldList&) = delete;

  const nvinfer1::PluginFieldCollection* collection() const { return &collection_; }

 private:
  FieldList(const Operator& op, const Attributes* attributes);

  std::vector<nvinfer1::PluginField> fields_;
  nvinfer1::PluginFieldCollection collection_;
};

}  // namespace bnn::tensorrt
