// PackedMaxPool2d.

#include "cpu/packed_max_pool.h"
#include "onnxruntime/kernel.h"

namespace bnn::ort {
namespace {

class MaxPoolKernel : public Kernel {
 public:
  explicit MaxPoolKernel(const NodeInfo& node) {
    attributes_.channels = node.integer("channels");
    node.integers("kernel_shape", attributes_.kernel, 2);
    node.integers("strides", attributes_.strides, 2);
    node.integers("pads", attributes_.pads, 4);
  }

  void run(Call& call) const override {
    const Tensor packed = call.input(0), flip = call.input(1);
    const cpu::MaxPoolShape shape = max_pool_shape(attributes_, packed.dims, flip.dims);
    void* out = call.output(0, {shape.batch, shape.out_height, shape.out_width, shape.words});
    max_pool(attributes_, shape, packed.words(), flip.words(), static_cast<int32_t*>(out), call);
  }

 private:
  cpu::MaxPoolAttributes attributes_;
};

}  // namespace

void add_max_pool_operators(std::vector<Operator>& operators) {
  operators.push_back({"PackedMaxPool2d",
                       {kInt32, kInt32},
                       {kInt32},
                       [](const Operator&, const NodeInfo& node) -> std::unique_ptr<Kernel> {
                         return std::make_unique<MaxPoolKernel>(node);
                       }});
}

}  // namespace bnn::ort
