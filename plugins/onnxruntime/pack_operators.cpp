// PackBipolar, PackUnipolar, PackTernary, PackInterval.

#include "cpu/pack.h"
#include "onnxruntime/kernel.h"

namespace bnn::ort {
namespace {

class PackKernel : public Kernel {
 public:
  PackKernel(cpu::PackKind kind, const NodeInfo& node)
      : kind_(kind), channels_(node.integer("channels")), kernels_(cpu::chosen_kernels()) {}

  void run(Call& call) const override {
    const Tensor x = call.input(0);
    const int bound_count = kind_ == cpu::PackKind::kTernary ? 0 : kind_ == cpu::PackKind::kInterval ? 2 : 1;
    Tensor bounds[2] = {};
    Dims dims[2];
    for (int i = 0; i < bound_count; ++i) {
      bounds[i] = call.input(static_cast<size_t>(i) + 1);
      dims[i] = bounds[i].dims;
    }
    const cpu::PackShape shape = pack_shape(kind_, channels_, x.dims, dims, bound_count);
    auto* packed = static_cast<int32_t*>(call.output(0, shape.packed));
    const auto per_channel = [&](int i) { return i < bound_count && dims[i][0] != 1; };
    pack(kernels_, kind_, shape, x.data, x.type == kFloat16, bounds[0].floats(), bounds[1].floats(), per_channel(0),
         per_channel(1), packed, call);
  }

 private:
  const cpu::PackKind kind_;
  const int64_t channels_;
  const cpu::Kernels& kernels_;
};

template <cpu::PackKind kKind>
std::unique_ptr<Kernel> create(const Operator&, const NodeInfo& node) {
  return std::make_unique<PackKernel>(kKind, node);
}

}  // namespace

void add_pack_operators(std::vector<Operator>& operators) {
  for (const ElementType type : {kFloat, kFloat16}) {
    operators.push_back({"PackBipolar", {type, kFloat}, {kInt32}, create<cpu::PackKind::kBipolar>});
    operators.push_back({"PackUnipolar", {type, kFloat}, {kInt32}, create<cpu::PackKind::kUnipolar>});
    operators.push_back({"PackTernary", {type}, {kInt32}, create<cpu::PackKind::kTernary>});
    operators.push_back({"PackInterval", {type, kFloat, kFloat}, {kInt32}, create<cpu::PackKind::kInterval>});
  }
}

}  // namespace bnn::ort
