// What happens to an accumulator, one output value at a time: the definition that every kernel, on any processor, is
// held to.
//
//   z = scale[o] * acc        (acc exact, converted to float32)
//   z = z + bias[o]
//   z = z + residual          where there is one
//   z = z >= 0 ? z : slope[o] * z;  z = z + shift[o]     kPRelu, a NaN stays one
//   z = min(max(z, clip_low), clip_high)                 kClip, a NaN stays one
//   y = z                     rounded to nearest even where y is float16
//   bit = lower[o] <= z && z <= upper[o]                 where bits are asked for, a NaN makes 0
//
// Each operation rounds once: no fused multiply-add, no reassociation. `constexpr` is what lets device code call it.
#pragma once

#include <cstdint>

namespace bnn {

enum class Activation { kNone, kPRelu, kClip };

// Which steps an operator has. `PackedConv2dBits` has none of the float ones: it compares the accumulator itself.
struct EpilogueKind {
  bool residual = false;
  Activation activation = Activation::kNone;
  bool float_output = true;
  bool packed_output = false;
  bool float16 = false;  // the type of the residual, which is widened, and of y; z and what decides the bits is float32

  constexpr bool integer_bits() const { return packed_output && !float_output; }
};

// The operands, [O] each and borrowed; those that the kind does not have are null.
struct EpilogueOperands {
  const float* scale = nullptr;
  const float* bias = nullptr;
  const float* slope = nullptr;
  const float* shift = nullptr;
  const float* lower = nullptr;
  const float* upper = nullptr;
  const int32_t* accumulator_lower = nullptr;
  const int32_t* accumulator_upper = nullptr;
  float clip_low = 0.0f;
  float clip_high = 0.0f;
};

// The steps, one value each.
constexpr float scaled(int32_t accumulator, float scale, float bias) {
  const float product = scale * static_cast<float>(accumulator);
  return product + bias;
}
constexpr float prelu(float z, float slope, float shift) {
  const float bent = z >= 0.0f ? z : slope * z;
  return bent + shift;
}
constexpr float clip(float z, float low, float high) {
  const float raised = z < low ? low : z;
  return raised > high ? high : raised;
}
template <class Value>
constexpr bool within(Value lower, Value value, Value upper) {
  return lower <= value && value <= upper;
}

// All that make up y.
constexpr float finish_value(const EpilogueKind& kind, const EpilogueOperands& e, int64_t o, int32_t accumulator,
                             float residual) {
  float z = scaled(accumulator, e.scale[o], e.bias[o]);
  if (kind.residual) z = z + residual;
  if (kind.activation == Activation::kPRelu) z = prelu(z, e.slope[o], e.shift[o]);
  if (kind.activation == Activation::kClip) z = clip(z, e.clip_low, e.clip_high);
  return z;
}

constexpr bool finish_bit(const EpilogueKind& kind, const EpilogueOperands& e, int64_t o, int32_t accumulator,
                          float z) {
  return kind.integer_bits() ? within(e.accumulator_lower[o], accumulator, e.accumulator_upper[o])
                             : within(e.lower[o], z, e.upper[o]);
}

}  // namespace bnn
