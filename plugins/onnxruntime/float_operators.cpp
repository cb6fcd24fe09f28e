// The float layers between 1-bit ones: AveragePool2d, AveragePoolConv2d, StemConv2dMaxPool.

#include "cpu/average_pool.h"
#include "cpu/stem.h"
#include "onnxruntime/kernel.h"

namespace bnn::ort {
namespace {

cpu::AveragePoolAttributes read_average_pool(const NodeInfo& node) {
  cpu::AveragePoolAttributes attributes;
  node.integers("kernel_shape", attributes.kernel, 2);
  node.integers("strides", attributes.strides, 2);
  check(attributes);
  return attributes;
}

class AveragePoolKernel : public Kernel {
 public:
  explicit AveragePoolKernel(const NodeInfo& node)
      : attributes_(read_average_pool(node)), kernels_(cpu::chosen_kernels()) {}

  void run(Call& call) const override {
    const Tensor x = call.input(0);
    const cpu::AveragePoolShape shape = average_pool_shape(attributes_, x.dims);
    void* y = call.output(0, {shape.batch, shape.channels, shape.out_height, shape.out_width});
    average_pool(kernels_, attributes_, shape, x.floats(), static_cast<float*>(y), call);
  }

 private:
  const cpu::AveragePoolAttributes attributes_;
  const cpu::Kernels& kernels_;
};

class AveragePoolConvKernel : public WeightKernel<cpu::AveragePoolConv> {
 public:
  explicit AveragePoolConvKernel(const NodeInfo& node)
      : attributes_(read_average_pool(node)), kernels_(cpu::chosen_kernels()) {
    make_if_constant(node);
  }

 private:
  std::unique_ptr<const cpu::AveragePoolConv> make(const Tensor& weight) const override {
    return std::make_unique<cpu::AveragePoolConv>(kernels_, attributes_, weight.dims, weight.floats());
  }

  void run(const cpu::AveragePoolConv& conv, Call& call) const override {
    const Tensor x = call.input(0);
    const auto* bias = static_cast<const float*>(vector_data(call.input(2), "bias", conv.outputs()));
    const cpu::AveragePoolShape shape = conv.shape(x.dims);
    void* y = call.output(0, {shape.batch, conv.outputs(), shape.out_height, shape.out_width});
    conv.run(shape, bias, x.floats(), static_cast<float*>(y), call);
  }

  const cpu::AveragePoolAttributes attributes_;
  const cpu::Kernels& kernels_;
};

class StemKernel : public WeightKernel<cpu::Stem> {
 public:
  explicit StemKernel(const NodeInfo& node) : kernels_(cpu::chosen_kernels()) {
    node.integers("pads", pads_, 4);
    make_if_constant(node);
  }

 private:
  std::unique_ptr<const cpu::Stem> make(const Tensor& weight) const override {
    return std::make_unique<cpu::Stem>(kernels_, pads_, weight.dims, weight.floats());
  }

  void run(const cpu::Stem& stem, Call& call) const override {
    const Tensor x = call.input(0);
    const cpu::StemShape shape = stem.shape(x.dims);
    const auto* bias = static_cast<const float*>(vector_data(call.input(2), "bias", stem.outputs()));
    void* y = call.output(0, {shape.batch, stem.outputs(), shape.out_height, shape.out_width});
    stem.run(shape, x.floats(), bias, static_cast<float*>(y), call);
  }

  const cpu::Kernels& kernels_;
  int64_t pads_[4];
};

template <class Made>
std::unique_ptr<Kernel> create(const Operator&, const NodeInfo& node) {
  return std::make_unique<Made>(node);
}

}  // namespace

void add_float_operators(std::vector<Operator>& operators) {
  operators.push_back({"AveragePool2d", {kFloat}, {kFloat}, create<AveragePoolKernel>});
  operators.push_back({"AveragePoolConv2d", {kFloat, kFloat, kFloat}, {kFloat}, create<AveragePoolConvKernel>});
  operators.push_back({"StemConv2dMaxPool", {kFloat, kFloat, kFloat}, {kFloat}, create<StemKernel>});
}

}  // namespace bnn::ort
