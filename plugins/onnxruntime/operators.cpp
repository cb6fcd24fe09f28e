#include <cstring>

#include "onnxruntime/kernel.h"

namespace bnn::ort {

const std::vector<Operator>& all_operators() {
  static const std::vector<Operator> operators = [] {
    std::vector<Operator> all;
    add_pack_operators(all);
    add_conv_operators(all);
    add_linear_operators(all);
    add_max_pool_operators(all);
    add_float_operators(all);
    return all;
  }();
  return operators;
}

bool remove_float16_suffix(std::string* name) {
  const size_t length = std::strlen(kFloat16Suffix);
  if (name->size() < length || name->compare(name->size() - length, length, kFloat16Suffix) != 0) return false;
  name->resize(name->size() - length);
  return true;
}

Levels read_levels(const NodeInfo& node, bool ternary) {
  if (ternary) return Levels::kTernary;
  const float low = node.number("low");
  if (low == -1.0f) return Levels::kBipolar;
  if (low == 0.0f) return Levels::kUnipolar;
  refuse("attribute low is ", low, ", wanted -1 or 0");
}

const void* vector_data(const Tensor& tensor, const char* name, int64_t count) {
  if (tensor.dims.size() != 1 || tensor.dims[0] != count)
    refuse(name, " has shape ", to_text(tensor.dims), ", wanted ", count, " values");
  return tensor.data;
}

}  // namespace bnn::ort
