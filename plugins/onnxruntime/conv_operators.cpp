// PackedConv2d with every epilogue, PackedConv2dBits, PackedTernaryConv2d.

#include "cpu/packed_conv.h"
#include "onnxruntime/kernel.h"

namespace bnn::ort {
namespace {

// A member of the family: what the name adds to PackedConv2d, and what that means.
struct Suffix {
  const char* text;
  bool residual;
  Activation activation;
  bool packed_output;
};

constexpr Suffix kSuffixes[] = {
    {"", false, Activation::kNone, false},         {"Pack", false, Activation::kNone, true},
    {"PRelu", false, Activation::kPRelu, false},   {"PReluPack", false, Activation::kPRelu, true},
    {"Clip", false, Activation::kClip, false},     {"ClipPack", false, Activation::kClip, true},
    {"Add", true, Activation::kNone, false},       {"AddPack", true, Activation::kNone, true},
    {"AddPRelu", true, Activation::kPRelu, false}, {"AddPReluPack", true, Activation::kPRelu, true},
    {"AddClip", true, Activation::kClip, false},   {"AddClipPack", true, Activation::kClip, true},
};
constexpr const char* kBase = "PackedConv2d";
constexpr const char* kTernary = "PackedTernaryConv2d";
constexpr const char* kIntegerBits = "PackedConv2dBits";

EpilogueKind kind_of(std::string name) {
  if (name == kIntegerBits) return {false, Activation::kNone, false, true};
  const bool float16 = remove_float16_suffix(&name);
  for (const Suffix& suffix : kSuffixes)
    if (name == std::string(kBase) + suffix.text)
      return {suffix.residual, suffix.activation, true, suffix.packed_output, float16};
  return {false, Activation::kNone, true, false, float16};  // kTernary
}

bool is_ternary(const std::string& name) { return name.rfind(kTernary, 0) == 0; }

ConvAttributes read_attributes(const NodeInfo& node, bool ternary) {
  ConvAttributes attributes;
  attributes.channels = node.integer("channels");
  attributes.levels = read_levels(node, ternary);
  node.integers("strides", attributes.strides, 2);
  node.integers("pads", attributes.pads, 4);
  node.integers("dilations", attributes.dilations, 2);
  attributes.group = node.integer("group");
  const float pad_value = node.number("pad_value");
  if (pad_value != -1.0f && pad_value != 0.0f && pad_value != 1.0f)
    refuse("attribute pad_value is ", pad_value, ", wanted -1, 0 or 1");
  attributes.pad_value = static_cast<int32_t>(pad_value);
  check(attributes);
  return attributes;
}

class ConvKernel : public WeightKernel<cpu::PackedConv> {
 public:
  ConvKernel(const Operator& op, const NodeInfo& node)
      : kind_(kind_of(op.name)),
        attributes_(read_attributes(node, is_ternary(op.name))),
        kernels_(cpu::chosen_kernels()) {
    if (kind_.activation == Activation::kClip) {
      clip_low_ = node.number("clip_low");
      clip_high_ = node.number("clip_high");
    }
    make_if_constant(node);
  }

 private:
  std::unique_ptr<const cpu::PackedConv> make(const Tensor& weight) const override {
    return std::make_unique<cpu::PackedConv>(kernels_, attributes_, weight.dims, weight.words());
  }

  void run(const cpu::PackedConv& conv, Call& call) const override {
    const Tensor packed = call.input(0);
    const ConvShape shape = conv_shape(attributes_, conv.weight_shape(), packed.dims);
    const int64_t outputs = conv.weight_shape().outputs;
    const Dims y_dims{shape.batch, outputs, shape.out_height, shape.out_width};

    size_t next = 2;
    const auto floats = [&](const char* name) {
      return static_cast<const float*>(vector_data(call.input(next++), name, outputs));
    };
    const auto integers = [&](const char* name) {
      return static_cast<const int32_t*>(vector_data(call.input(next++), name, outputs));
    };
    EpilogueOperands operands;
    operands.clip_low = clip_low_;
    operands.clip_high = clip_high_;
    cpu::ConvTensors tensors{packed.words(), nullptr, nullptr, nullptr};
    if (kind_.float_output) {
      operands.scale = floats("scale");
      operands.bias = floats("bias");
    }
    if (kind_.residual) {
      const Tensor residual = call.input(next++);
      if (residual.dims != y_dims)
        refuse("residual has shape ", to_text(residual.dims), ", wanted ", to_text(y_dims), " of the output");
      tensors.residual = residual.data;
    }
    if (kind_.activation == Activation::kPRelu) {
      operands.slope = floats("slope");
      operands.shift = floats("shift");
    }
    if (kind_.integer_bits()) {
      operands.accumulator_lower = integers("lower");
      operands.accumulator_upper = integers("upper");
    } else if (kind_.packed_output) {
      operands.lower = floats("lower");
      operands.upper = floats("upper");
    }
    size_t output = 0;
    if (kind_.float_output) tensors.y = call.output(output++, y_dims);
    if (kind_.packed_output)
      tensors.bits = static_cast<int32_t*>(
          call.output(output, {shape.batch, shape.out_height, shape.out_width, words_for(outputs)}));
    conv.run(shape, kind_, operands, tensors, call);
  }

  const EpilogueKind kind_;
  const ConvAttributes attributes_;
  const cpu::Kernels& kernels_;
  float clip_low_ = 0.0f, clip_high_ = 0.0f;
};

std::unique_ptr<Kernel> create(const Operator& op, const NodeInfo& node) {
  return std::make_unique<ConvKernel>(op, node);
}

Operator make_operator(const std::string& name) {
  const EpilogueKind kind = kind_of(name);
  Operator op{name, {kInt32, kInt32}, {}, create};
  const auto add = [&](int count, ElementType type) { op.inputs.insert(op.inputs.end(), count, type); };
  if (kind.float_output) add(2, kFloat);
  const ElementType type = kind.float16 ? kFloat16 : kFloat;
  if (kind.residual) {
    // Every value of it is read before y is written there, and by the same thread. y then needs no memory of its own
    // and, a line of the cache that was just read, no reading before it is written.
    op.in_place = op.inputs.size() == kInPlaceInput;
    add(1, type);
  }
  if (kind.activation == Activation::kPRelu) add(2, kFloat);
  if (kind.packed_output) add(2, kind.integer_bits() ? kInt32 : kFloat);
  if (kind.float_output) op.outputs.push_back(type);
  if (kind.packed_output) op.outputs.push_back(kInt32);
  return op;
}

}  // namespace

void add_conv_operators(std::vector<Operator>& operators) {
  for (const std::string precision : {"", kFloat16Suffix}) {
    for (const Suffix& suffix : kSuffixes) operators.push_back(make_operator(kBase + (suffix.text + precision)));
    operators.push_back(make_operator(kTernary + precision));
  }
  operators.push_back(make_operator(kIntegerBits));
}

}  // namespace bnn::ort
