#include "tensorrt/fields.h"

#include <cstring>

#include "core/error.h"

namespace bnn::tensorrt {
namespace {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;

const PluginField* find(const nvinfer1::PluginFieldCollection& collection, const char* name) {
  for (int32_t i = 0; i < collection.nbFields; ++i)
    if (std::strcmp(collection.fields[i].name, name) == 0) return &collection.fields[i];
  return nullptr;
}

// Integers come as int32 or int64, by the version of the parser; levels and padding values as float32, as ONNX has
// them.
void read(const AttributeField& wanted, const PluginField& found, void* into) {
  if (found.length != wanted.count)
    refuse("attribute ", wanted.name, " has ", found.length, " values, wanted ", wanted.count);
  if (!found.data) refuse("attribute ", wanted.name, " has no value");
  for (int i = 0; i < wanted.count; ++i) {
    if (wanted.real && found.type == PluginFieldType::kFLOAT32) {
      static_cast<float*>(into)[i] = static_cast<const float*>(found.data)[i];
    } else if (!wanted.real && found.type == PluginFieldType::kINT32) {
      static_cast<int32_t*>(into)[i] = static_cast<const int32_t*>(found.data)[i];
    } else if (!wanted.real && found.type == PluginFieldType::kINT64) {
      const int64_t value = static_cast<const int64_t*>(found.data)[i];
      if (value != static_cast<int32_t>(value)) refuse("attribute ", wanted.name, " is ", value);
      static_cast<int32_t*>(into)[i] = static_cast<int32_t>(value);
    } else if (!wanted.real && found.type == PluginFieldType::kFLOAT32) {
      const float value = static_cast<const float*>(found.data)[i];
      if (!(value >= -1.0f && value <= 1.0f) || value != static_cast<float>(static_cast<int32_t>(value)))
        refuse("attribute ", wanted.name, " is ", value, ", wanted -1, 0 or 1");
      static_cast<int32_t*>(into)[i] = static_cast<int32_t>(value);
    } else {
      refuse("attribute ", wanted.name, " has the field type ", static_cast<int32_t>(found.type), ", wanted ",
             wanted.real ? "float32" : "int32, int64 or float32");
    }
  }
}

}  // namespace

Attributes read_attributes(const Operator& op, const nvinfer1::PluginFieldCollection& collection) {
  Attributes attributes;
  for (const AttributeField& wanted : attribute_fields(op)) {
    const PluginField* found = find(collection, wanted.name);
    if (found)
      read(wanted, *found, wanted.in(attributes));
    else if (wanted.required)
      refuse("attribute ", wanted.name, " is missing");
  }
  check_attributes(op, attributes);
  return attributes;
}

FieldList::FieldList(const Operator& op, const Attributes* attributes) {
  for (const AttributeField& field : attribute_fields(op))
    fields_.emplace_back(field.name, attributes ? field.in(*attributes) : nullptr,
                         field.real ? PluginFieldType::kFLOAT32 : PluginFieldType::kINT32, field.count);
  collection_ = {static_cast<int32_t>(fields_.size()), fields_.data()};
}

}  // namespace bnn::tensorrt
