#include "tensorrt/operators.h"

#include <cstddef>

#include "core/error.h"

namespace bnn::tensorrt {
namespace {

std::vector<Operator> make_operators() {
  using cuda::PackKind;
  std::vector<Operator> all;
  const auto pack = [&](const char* name, PackKind kind) {
    Operator op{name, Layer::kPack};
    op.pack = kind;
    all.push_back(op);
  };
  pack("PackBipolar", PackKind::kBipolar);
  pack("PackUnipolar", PackKind::kUnipolar);
  pack("PackTernary", PackKind::kTernary);
  pack("PackInterval", PackKind::kInterval);

  const auto layer = [&](const std::string& name, Layer kind, bool ternary, EpilogueKind epilogue) {
    Operator op{name, kind};
    op.ternary = ternary;
    op.epilogue = epilogue;
    all.push_back(op);
  };
  const std::pair<const char*, Activation> activations[] = {
      {"", Activation::kNone}, {"PRelu", Activation::kPRelu}, {"Clip", Activation::kClip}};
  for (const bool float16 : {false, true}) {
    const std::string precision = float16 ? "Fp16" : "";
    const EpilogueKind plain{false, Activation::kNone, true, false, float16};
    for (const bool residual : {false, true})
      for (const auto& [activation, kind] : activations)
        for (const bool packs : {false, true})
          layer(std::string("PackedConv2d") + (residual ? "Add" : "") + activation + (packs ? "Pack" : "") + precision,
                Layer::kConv, false, {residual, kind, true, packs, float16});
    layer("PackedTernaryConv2d" + precision, Layer::kConv, true, plain);
    layer("PackedLinear" + precision, Layer::kLinear, false, plain);
    layer("PackedTernaryLinear" + precision, Layer::kLinear, true, plain);
  }
  const EpilogueKind bits{false, Activation::kNone, false, true, false};
  layer("PackedConv2dBits", Layer::kConv, false, bits);
  layer("PackedLinearBits", Layer::kLinear, false, bits);
  all.push_back({"PackedMaxPool2d", Layer::kMaxPool});
  return all;
}

void check_range(const char* name, int64_t found, int64_t least, int64_t most) {
  if (found < least || found > most) refuse("attribute ", name, " is ", found, ", wanted ", least, " to ", most);
}

}  // namespace

int Operator::input_count() const {
  switch (layer) {
    case Layer::kPack:
      return pack == cuda::PackKind::kTernary ? 1 : pack == cuda::PackKind::kInterval ? 3 : 2;
    case Layer::kMaxPool:
      return 2;
    default:
      break;
  }
  return 2 + (epilogue.float_output ? 2 : 0) + (epilogue.residual ? 1 : 0) +
         (epilogue.activation == Activation::kPRelu ? 2 : 0) + (epilogue.packed_output ? 2 : 0);
}

int Operator::output_count() const {
  const bool writes = layer == Layer::kConv || layer == Layer::kLinear;
  return writes && epilogue.float_output && epilogue.packed_output ? 2 : 1;
}

const std::vector<Operator>& operators() {
  static const std::vector<Operator> all = make_operators();
  return all;
}

std::vector<AttributeField> attribute_fields(const Operator& op) {
  std::vector<AttributeField> fields{{"channels", 1, false, true, offsetof(Attributes, channels)}};
  const bool weighs = op.layer == Layer::kConv || op.layer == Layer::kLinear;
  if (weighs && !op.ternary) fields.push_back({"low", 1, false, true, offsetof(Attributes, low)});
  if (op.layer == Layer::kConv || op.layer == Layer::kMaxPool) {
    fields.push_back({"strides", 2, false, false, offsetof(Attributes, strides)});
    fields.push_back({"pads", 4, false, false, offsetof(Attributes, pads)});
  }
  if (op.layer == Layer::kConv) {
    fields.push_back({"dilations", 2, false, false, offsetof(Attributes, dilations)});
    fields.push_back({"group", 1, false, false, offsetof(Attributes, group)});
    fields.push_back({"pad_value", 1, false, false, offsetof(Attributes, pad_value)});
  }
  if (op.layer == Layer::kMaxPool)
    fields.push_back({"kernel_shape", 2, false, true, offsetof(Attributes, kernel_shape)});
  if (op.epilogue.activation == Activation::kClip) {
    fields.push_back({"clip_low", 1, true, true, offsetof(Attributes, clip_low)});
    fields.push_back({"clip_high", 1, true, true, offsetof(Attributes, clip_high)});
  }
  return fields;
}

ConvAttributes conv_attributes(const Operator& op, const Attributes& a) {
  ConvAttributes conv;
  conv.channels = a.channels;
  conv.levels = op.ternary ? Levels::kTernary : a.low == 0 ? Levels::kUnipolar : Levels::kBipolar;
  for (int i = 0; i < 2; ++i) conv.strides[i] = a.strides[i];
  for (int i = 0; i < 4; ++i) conv.pads[i] = a.pads[i];
  for (int i = 0; i < 2; ++i) conv.dilations[i] = a.dilations[i];
  conv.group = a.group;
  conv.pad_value = a.pad_value;
  return conv;
}

void check_attributes(const Operator& op, const Attributes& attributes) {
  check(conv_attributes(op, attributes));
  check_range("low", attributes.low, -1, 0);
  for (const int32_t size : attributes.kernel_shape) check_range("kernel_shape", size, 1, 1 << 24);
}

}  // namespace bnn::tensorrt
