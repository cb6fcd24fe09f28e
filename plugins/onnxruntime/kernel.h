// What an operator is to this library: a name, the types of its inputs and outputs, and how its kernel is made.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "onnxruntime/session.h"

namespace bnn::ort {

// One node of a session. `run` is called by any number of threads at a time.
class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual void run(Call& call) const = 0;  // throws InvalidInput
};

struct Operator {
  std::string name;
  std::vector<ElementType> inputs, outputs;
  std::unique_ptr<Kernel> (*create)(const Operator&, const NodeInfo&);  // throws InvalidInput
};

// All operators, for the life of the library. `operators.cpp` puts the families together.
const std::vector<Operator>& all_operators();

void add_pack_operators(std::vector<Operator>& operators);
void add_conv_operators(std::vector<Operator>& operators);
void add_linear_operators(std::vector<Operator>& operators);
void add_max_pool_operators(std::vector<Operator>& operators);

// The levels of a layer's activations: those of a ternary operator, or what the attribute `low` says.
Levels read_levels(const NodeInfo& node, bool ternary);

// The data of a vector of `count` elements. Throws InvalidInput where it has another shape.
const void* vector_data(const Tensor& tensor, const char* name, int64_t count);

}  // namespace bnn::ort
