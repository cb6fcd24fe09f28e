// The deploy-level ops that the plugin serves, and their attributes. `bnn_deploy/opset.py` and `docs/operators.md`
// define them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/conv_shape.h"
#include "core/epilogue.h"
#include "cuda/tasks.h"

namespace bnn::tensorrt {

enum class Layer { kPack, kConv, kLinear, kMaxPool };

// An op. Inputs of a convolution, in order: packed, weight, scale, bias, residual, slope, shift, lower, upper; a linear
// layer the same; those that `epilogue` does not have are not there, and integer bounds stand alone.
struct Operator {
  std::string name;
  Layer layer;
  cuda::PackKind pack = cuda::PackKind::kBipolar;  // of kPack
  bool ternary = false;                            // of kConv and kLinear
  EpilogueKind epilogue = {};                      // likewise

  int input_count() const;
  int output_count() const;
};

// All of them. The list never changes, so pointers into it stay good.
const std::vector<Operator>& operators();

// The attributes of a node. Those that its op does not have keep these values.
struct Attributes {
  int32_t channels = 0;
  int32_t low = -1;
  int32_t strides[2] = {1, 1};
  int32_t pads[4] = {0, 0, 0, 0};
  int32_t dilations[2] = {1, 1};
  int32_t group = 1;
  int32_t pad_value = 0;
  int32_t kernel_shape[2] = {1, 1};
  float clip_low = 0.0f, clip_high = 0.0f;
};

// One attribute of an op: where it is kept, and how many values it has.
struct AttributeField {
  const char* name;
  int count;
  bool real;      // float32, else int32
  bool required;  // the others may be absent from a node
  size_t offset;  // in Attributes

  void* in(Attributes& attributes) const { return reinterpret_cast<char*>(&attributes) + offset; }
  const void* in(const Attributes& attributes) const { return reinterpret_cast<const char*>(&attributes) + offset; }
};

std::vector<AttributeField> attribute_fields(const Operator& op);

// As the checks of `core/` and the kernels want them.
ConvAttributes conv_attributes(const Operator& op, const Attributes& attributes);

// Throws InvalidInput unless every attribute is in its range.
void check_attributes(const Operator& op, const Attributes& attributes);

}  // namespace bnn::tensorrt
