// The epilogue of a tile, once for every instruction set: `Lanes` wraps its vectors. `core/epilogue.h` defines the
// arithmetic; the order of operations here is the same, so results are equal bit for bit.
//
// Included by files that are compiled for different instruction sets, each with a Lanes type of its own in an unnamed
// namespace: no function in here is shared between them.
#pragma once

#include "core/float16.h"
#include "cpu/kernels.h"

namespace bnn::cpu {

// The operands of one output channel, in every lane of a vector.
template <class Lanes>
struct ChannelOperands {
  using Floats = decltype(Lanes::set(0.0f));
  Floats scale, bias, slope, shift, lower, upper;

  template <bool kPRelu, bool kPack>
  static ChannelOperands read(const EpilogueOperands& e, int64_t o) {
    const Floats none = Lanes::set(0.0f);
    return {Lanes::set(e.scale[o]),
            Lanes::set(e.bias[o]),
            kPRelu ? Lanes::set(e.slope[o]) : none,
            kPRelu ? Lanes::set(e.shift[o]) : none,
            kPack ? Lanes::set(e.lower[o]) : none,
            kPack ? Lanes::set(e.upper[o]) : none};
  }
};

// Value: the type of the residual and of y, float or Half.
template <class Lanes, class Value, bool kResidual, Activation kActivation, bool kPack>
void finish_floats(const EpilogueOperands& e, const FinishTask& t) {
  const auto multiplier = Lanes::set(static_cast<float>(t.multiplier));
  const auto clip_low = Lanes::set(e.clip_low), clip_high = Lanes::set(e.clip_high);
  const int whole = t.pixels / Lanes::kWidth * Lanes::kWidth;
  for (int i = 0; i < t.outputs; ++i) {
    const int64_t o = t.first_output + i;
    const auto channel = ChannelOperands<Lanes>::template read<kActivation == Activation::kPRelu, kPack>(e, o);
    const int32_t* counts = t.counts + i * kMostTilePixels;
    const float* table = t.float_table + o * t.table_stride;
    const Value* residual = kResidual ? static_cast<const Value*>(t.residual) + o * t.plane_stride : nullptr;
    Value* y = static_cast<Value*>(t.y) + o * t.plane_stride;
    const auto uniform = Lanes::set(table[t.uniform_class]);
    // `lanes`: none for a whole vector, else how many of them count.
    const auto step = [&](int p, auto... lanes) {
      const auto base = t.class_of_pixel ? Lanes::look_up(table, t.class_of_pixel + p, t.classes) : uniform;
      // Integers far below 2^24, the product and the sum as well: exact in float32, fused or not.
      const auto accumulator = Lanes::multiply_add(multiplier, Lanes::to_float(Lanes::load(counts + p)), base);
      auto z = Lanes::multiply(channel.scale, accumulator);
      z = Lanes::add(z, channel.bias);
      if constexpr (kResidual) z = Lanes::add(z, Lanes::load(residual + p, lanes...));
      if constexpr (kActivation == Activation::kPRelu) {
        z = Lanes::where_not_negative(z, z, Lanes::multiply(channel.slope, z));
        z = Lanes::add(z, channel.shift);
      }
      if constexpr (kActivation == Activation::kClip) z = Lanes::clip(z, clip_low, clip_high);
      Lanes::store(y + p, z, lanes...);
      if constexpr (kPack)
        Lanes::or_bit(t.words + p, Lanes::between(channel.lower, z, channel.upper), uint32_t{1} << (o % 32));
    };
    for (int p = 0; p < whole; p += Lanes::kWidth) step(p);
    if (whole < t.pixels) step(whole, t.pixels - whole);
  }
}

template <class Lanes>
void finish_integers(const EpilogueOperands& e, const FinishTask& t) {
  for (int i = 0; i < t.outputs; ++i) {
    const int64_t o = t.first_output + i;
    const int32_t* table = t.table + o * t.table_stride;
    const auto multiplier = Lanes::set(t.multiplier), uniform = Lanes::set(table[t.uniform_class]);
    const auto lower = Lanes::set(e.accumulator_lower[o]), upper = Lanes::set(e.accumulator_upper[o]);
    for (int p = 0; p < t.pixels; p += Lanes::kWidth) {
      const auto base = t.class_of_pixel ? Lanes::look_up(table, t.class_of_pixel + p, t.classes) : uniform;
      const auto counts = Lanes::load(t.counts + i * kMostTilePixels + p);
      const auto accumulator = Lanes::add(base, Lanes::multiply(multiplier, counts));
      Lanes::or_bit(t.words + p, Lanes::between(lower, accumulator, upper), uint32_t{1} << (o % 32));
    }
  }
}

template <class Lanes, class Value, bool kResidual, Activation kActivation>
void finish_with_bits_or_not(const EpilogueKind& kind, const EpilogueOperands& e, const FinishTask& t) {
  if (kind.packed_output) return finish_floats<Lanes, Value, kResidual, kActivation, true>(e, t);
  return finish_floats<Lanes, Value, kResidual, kActivation, false>(e, t);
}

template <class Lanes, class Value, bool kResidual>
void finish_with_activation(const EpilogueKind& kind, const EpilogueOperands& e, const FinishTask& t) {
  if (kind.activation == Activation::kPRelu)
    return finish_with_bits_or_not<Lanes, Value, kResidual, Activation::kPRelu>(kind, e, t);
  if (kind.activation == Activation::kClip)
    return finish_with_bits_or_not<Lanes, Value, kResidual, Activation::kClip>(kind, e, t);
  return finish_with_bits_or_not<Lanes, Value, kResidual, Activation::kNone>(kind, e, t);
}

template <class Lanes, class Value>
void finish_with_residual_or_not(const EpilogueKind& kind, const EpilogueOperands& e, const FinishTask& t) {
  if (kind.residual) return finish_with_activation<Lanes, Value, true>(kind, e, t);
  return finish_with_activation<Lanes, Value, false>(kind, e, t);
}

template <class Lanes>
void finish(const EpilogueKind& kind, const EpilogueOperands& e, const FinishTask& t) {
  if (kind.integer_bits()) return finish_integers<Lanes>(e, t);
  if (kind.float16) return finish_with_residual_or_not<Lanes, Half>(kind, e, t);
  return finish_with_residual_or_not<Lanes, float>(kind, e, t);
}

}  // namespace bnn::cpu
