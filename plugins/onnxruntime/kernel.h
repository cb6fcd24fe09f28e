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

// A node whose second input is a weight, of which something is made before it runs: once, where the weight is a
// constant, and else at each run.
template <class Made>
class WeightKernel : public Kernel {
 public:
  void run(Call& call) const final { made_ ? run(*made_, call) : run(*make(call.input(kWeightInput)), call); }

 protected:
  // To be called when everything that `make` reads is there.
  void make_if_constant(const NodeInfo& node) {
    Tensor weight;
    if (node.constant_input(kWeightInput, &weight)) made_ = make(weight);
  }

  virtual std::unique_ptr<const Made> make(const Tensor& weight) const = 0;  // throws InvalidInput
  virtual void run(const Made& made, Call& call) const = 0;                  // throws InvalidInput

 private:
  static constexpr size_t kWeightInput = 1;

  std::unique_ptr<const Made> made_;  // null where the weight is no constant
};

constexpr const char* kFloat16Suffix = "Fp16";

// Two operators of one name differ in the types of their inputs: ONNX Runtime chooses by those. It never chooses by
// an attribute, and derives the types of outputs from those of inputs: one that writes float16 has another name.
struct Operator {
  std::string name;
  std::vector<ElementType> inputs, outputs;
  std::unique_ptr<Kernel> (*create)(const Operator&, const NodeInfo&);  // throws InvalidInput
  bool in_place = false;  // output 0 may have the memory of input kInPlaceInput
};
constexpr int kInPlaceInput = 4;

// All operators, for the life of the library. `operators.cpp` puts the families together.
const std::vector<Operator>& all_operators();

void add_pack_operators(std::vector<Operator>& operators);
void add_conv_operators(std::vector<Operator>& operators);
void add_linear_operators(std::vector<Operator>& operators);
void add_max_pool_operators(std::vector<Operator>& operators);
void add_float_operators(std::vector<Operator>& operators);

// Takes the suffix of a layer on float16 off its name; false, and the name as it was, where there is none.
bool remove_float16_suffix(std::string* name);

// The levels of a layer's activations: those of a ternary operator, or what the attribute `low` says.
Levels read_levels(const NodeInfo& node, bool ternary);

// The data of a vector of `count` elements. Throws InvalidInput where it has another shape.
const void* vector_data(const Tensor& tensor, const char* name, int64_t count);

}  // namespace bnn::ort
