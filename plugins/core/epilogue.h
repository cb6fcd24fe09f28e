// What happens to an accumulator, one output value at a time: the definition that every vector kernel is held to.
//
//   z = scale[o] * acc        (acc exact, converted to float32)
//   z = z + bias[o]
//   z = z + residual          where there is one
//   z = z >= 0 ? z : slope[o] * z;  z = z + shift[o]     kPRelu, a NaN stays one
//   z = min(max(z, clip_low), clip_high)                 kClip, a NaN stays one
//   y = z
//   bit = lower[o] <= z && z <= upper[o]                 where bits are asked for, a NaN makes 0
//
// Each operation rounds once: no fused multiply-add, no reassociation.
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

inline float finish_value(const EpilogueKind& kind, const EpilogueOperands& e, int64_t o, int32_t accumulator,
                          float residual) {
  float z = e.scale[o] * static_cast<float>(accumulator);
  z = z + e.bias[o];
  if (kind.residual) z = z + residual;
  if (kind.activation == Activation::kPRelu) {
    z = z >= 0.0f ? z : e.slope[o] * z;
    z = z + e.shift[o];
  }
  if (kind.activation == Activation::kClip) {
    z = z < e.clip_low ? e.clip_low : z;
    z = z > e.clip_high ? e.clip_high : z;
  }
  return z;
}

inline bool finish_bit(const EpilogueKind& kind, const EpilogueOperands& e, int64_t o, int32_t accumulator, float z) {
  if (kind.integer_bits()) return e.accumulator_lower[o] <= accumulator && accumulator <= e.accumulator_upper[o];
  return e.lower[o] <= z && z <= e.upper[o];
}

}  // namespace bnn
