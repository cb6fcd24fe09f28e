// PackedLinear, PackedTernaryLinear, PackedLinearBits.

#include "cpu/packed_linear.h"
#include "onnxruntime/kernel.h"

namespace bnn::ort {
namespace {

constexpr const char* kTernary = "PackedTernaryLinear";
constexpr const char* kIntegerBits = "PackedLinearBits";

class LinearKernel : public WeightKernel<cpu::PackedLinear> {
 public:
  LinearKernel(const Operator& op, const NodeInfo& node)
      : channels_(node.integer("channels")),
        levels_(read_levels(node, op.name.rfind(kTernary, 0) == 0)),
        kernels_(cpu::chosen_kernels()) {
    if (op.name == kIntegerBits) kind_ = {false, Activation::kNone, false, true};
    kind_.float16 = op.outputs[0] == kFloat16;
    make_if_constant(node);
  }

 private:
  std::unique_ptr<const cpu::PackedLinear> make(const Tensor& weight) const override {
    return std::make_unique<cpu::PackedLinear>(kernels_, channels_, levels_, weight.dims, weight.words());
  }

  void run(const cpu::PackedLinear& linear, Call& call) const override {
    const Tensor packed = call.input(0), first = call.input(2), second = call.input(3);
    const int64_t batch = linear.batch_of(packed.dims), outputs = linear.outputs();
    EpilogueOperands operands;
    void* y = nullptr;
    int32_t* bits = nullptr;
    if (kind_.integer_bits()) {
      operands.accumulator_lower = static_cast<const int32_t*>(vector_data(first, "lower", outputs));
      operands.accumulator_upper = static_cast<const int32_t*>(vector_data(second, "upper", outputs));
      bits = static_cast<int32_t*>(call.output(0, {batch, words_for(outputs)}));
    } else {
      operands.scale = static_cast<const float*>(vector_data(first, "scale", outputs));
      operands.bias = static_cast<const float*>(vector_data(second, "bias", outputs));
      y = call.output(0, {batch, outputs});
    }
    linear.run(batch, kind_, operands, packed.words(), y, bits, call);
  }

  EpilogueKind kind_;
  const int64_t channels_;
  const Levels levels_;
  const cpu::Kernels& kernels_;
};

std::unique_ptr<Kernel> create(const Operator& op, const NodeInfo& node) {
  return std::make_unique<LinearKernel>(op, node);
}

}  // namespace

void add_linear_operators(std::vector<Operator>& operators) {
  for (const std::string name : {"PackedLinear", kTernary}) {
    operators.push_back({name, {kInt32, kInt32, kFloat, kFloat}, {kFloat}, create});
    operators.push_back({name + kFloat16Suffix, {kInt32, kInt32, kFloat, kFloat}, {kFloat16}, create});
  }
  operators.push_back({kIntegerBits, {kInt32, kInt32, kInt32, kInt32}, {kInt32}, create});
}

}  // namespace bnn::ort
