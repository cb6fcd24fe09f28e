// The epilogue of a tile, once for every instruction set: `Lanes` wraps its vectors. `core/epilogue.h` defines the
// arithmetic; the order of operations here is the same, so results are equal bit for bit.
//
// `Lanes::look_up<true>` is the quick way to take a vector's values out of a row of the border table, where that has no
// more than kFewClasses entries in use. `Lanes::kHasBases` says whether its set's cells let padded taps count nothing.
//
// Included by files that are compiled for different instruction sets, each with a Lanes type of its own in an unnamed
// namespace: no function in here is shared between them.
#pragma once

#include <type_traits>

#include "core/float16.h"
#include "cpu/kernels.h"

namespace bnn::cpu {

// What an output channel is finished with: its operands, in every lane of a vector, and where its values are.
template <class Lanes, class Value>
struct Channel {
  using Floats = decltype(Lanes::set(0.0f));
  Floats scale, bias, slope, shift, lower, upper;
  const Value* residual;
  Value* y;

  // Of output o of the layer, with values at `residual` and `y`.
  template <bool kPRelu, bool kPack>
  static Channel read(const EpilogueOperands& e, int64_t o, const Value* residual, Value* y) {
    const Floats none = Lanes::set(0.0f);
    return {Lanes::spread(e.scale + o),
            Lanes::spread(e.bias + o),
            kPRelu ? Lanes::spread(e.slope + o) : none,
            kPRelu ? Lanes::spread(e.shift + o) : none,
            kPack ? Lanes::spread(e.lower + o) : none,
            kPack ? Lanes::spread(e.upper + o) : none,
            residual,
            y};
  }

  // From accumulators to values, of the vector from pixel p on, which are stored. `lanes`: none for a whole vector,
  // else how many of them count.
  template <bool kResidual, Activation kActivation, class... Count>
  __attribute__((always_inline)) Floats finish(const EpilogueOperands& e, Floats accumulators, int p,
                                               Count... lanes) const {
    Floats z = Lanes::add(Lanes::multiply(scale, accumulators), bias);
    if constexpr (kResidual) z = Lanes::add(z, Lanes::load(residual + p, lanes...));
    if constexpr (kActivation == Activation::kPRelu) {
      z = Lanes::where_not_negative(z, z, Lanes::multiply(slope, z));
      z = Lanes::add(z, shift);
    }
    if constexpr (kActivation == Activation::kClip) z = Lanes::clip(z, Lanes::set(e.clip_low), Lanes::set(e.clip_high));
    Lanes::store(y + p, z, lanes...);
    return z;
  }
};

// What counts are added to: the pixel's own base, or that of its class in the border table, of which no more than
// Lanes::kFewClasses are in use, or any number.
enum class Bases { kOfPixel, kOfFewClasses, kOfClasses };

// The accumulators of kOutputs channels, of index `first` of a task on. All integers are far below 2^24, the products
// and the sums as well: exact in float32, fused or not.
template <class Lanes, Bases kBases, int kOutputs>
class Counts {
 public:
  using Floats = decltype(Lanes::set(0.0f));

  Counts(const FinishTask& t, int first)
      : counts_(counts_of<typename Lanes::Count>(t.counts, t.first_count + first)),
        of_pixel_(kBases == Bases::kOfPixel ? t.base_of_pixel : t.class_of_pixel),
        multiplier_(Lanes::set(static_cast<float>(t.multiplier))) {
    for (int i = 0; i < kOutputs; ++i) rows_[i] = t.float_table + (t.first_output + first + i) * t.table_stride;
  }

  // Of the vector from pixel p on.
  void read(int p, Floats (&accumulators)[kOutputs]) const {
    const auto of_pixel = Lanes::load(of_pixel_ + p);
#pragma GCC unroll 4
    for (int i = 0; i < kOutputs; ++i) {
      const auto counts = Lanes::to_float(Lanes::load(counts_ + i * kMostTilePixels + p));
      Floats base;
      if constexpr (kBases == Bases::kOfPixel)
        base = Lanes::to_float(of_pixel);
      else
        base = Lanes::template look_up<kBases == Bases::kOfFewClasses>(rows_[i], of_pixel);
      accumulators[i] = Lanes::multiply_add(multiplier_, counts, base);
    }
  }

 private:
  const typename Lanes::Count* counts_;
  const int32_t* of_pixel_;
  Floats multiplier_;
  const float* rows_[kOutputs];  // of the border table
};

// Finishes kOutputs channels together, from index `first` of the task on: a vector of packed words, and what the source
// reads, is read once for all of them. Value: the type of the residual and of y, float or Half.
template <class Lanes, class Value, bool kResidual, Activation kActivation, bool kPack, class Source, int kOutputs,
          class Task>
void finish_channels(const EpilogueOperands& e, const Task& task, int first) {
  const Task t = task;  // a copy that no store can change
  const Source source(t, first);
  Channel<Lanes, Value> channels[kOutputs];
  uint32_t bits[kOutputs];
#pragma GCC unroll 4
  for (int i = 0; i < kOutputs; ++i) {
    const int64_t o = t.first_output + first + i, at = o * t.plane_stride;
    channels[i] = Channel<Lanes, Value>::template read<kActivation == Activation::kPRelu, kPack>(
        e, o, kResidual ? static_cast<const Value*>(t.residual) + at : nullptr, static_cast<Value*>(t.y) + at);
    bits[i] = uint32_t{1} << (o % 32);
  }
  const EpilogueOperands operands = e;
  // `lanes`: none for a whole vector, else how many of them count.
  const auto step = [&](int p, auto... lanes) {
    auto words = Lanes::load(t.words + p);
    typename Source::Floats accumulators[kOutputs];
    source.read(p, accumulators);
#pragma GCC unroll 4
    for (int i = 0; i < kOutputs; ++i) {
      const Channel<Lanes, Value>& c = channels[i];
      const auto z = c.template finish<kResidual, kActivation>(operands, accumulators[i], p, lanes...);
      if constexpr (kPack) words = Lanes::with_bit(words, Lanes::between(c.lower, z, c.upper), bits[i]);
    }
    if constexpr (kPack) Lanes::store(t.words + p, words);
  };
  const int whole = t.pixels / Lanes::kWidth * Lanes::kWidth;
  for (int p = 0; p < whole; p += Lanes::kWidth) step(p);
  if (whole < t.pixels) step(whole, t.pixels - whole);
}

// Calls finish(bases), with the bases that a task has.
template <class Lanes, class Finish>
void with_bases(const FinishTask& t, const Finish& finish) {
  using std::integral_constant;
  if constexpr (Lanes::kHasBases)
    if (t.base_of_pixel) return finish(integral_constant<Bases, Bases::kOfPixel>{});
  if (t.classes > Lanes::kFewClasses) return finish(integral_constant<Bases, Bases::kOfClasses>{});
  finish(integral_constant<Bases, Bases::kOfFewClasses>{});
}

template <class Lanes, class Value, bool kResidual, Activation kActivation, bool kPack>
void finish_floats(const EpilogueOperands& e, const FinishTask& t) {
  with_bases<Lanes>(t, [&](auto bases) {
    constexpr Bases kBases = decltype(bases)::value;
    if constexpr (kBases != Bases::kOfClasses)
      if (t.outputs == kBlockOutputs) {
        using Source = Counts<Lanes, kBases, kBlockOutputs>;
        return finish_channels<Lanes, Value, kResidual, kActivation, kPack, Source, kBlockOutputs>(e, t, 0);
      }
    for (int i = 0; i < t.outputs; ++i)
      finish_channels<Lanes, Value, kResidual, kActivation, kPack, Counts<Lanes, kBases, 1>, 1>(e, t, i);
  });
}

template <class Lanes, Bases kBases>
void finish_integers_with(const EpilogueOperands& e, const FinishTask& t) {
  const auto multiplier = Lanes::set(t.multiplier);
  const int32_t* of_pixels = kBases == Bases::kOfPixel ? t.base_of_pixel : t.class_of_pixel;
  for (int p = 0; p < t.pixels; p += Lanes::kWidth) {
    auto words = Lanes::load(t.words + p);
    for (int i = 0; i < t.outputs; ++i) {
      const int64_t o = t.first_output + i;
      auto base = Lanes::load(of_pixels + p);
      if constexpr (kBases != Bases::kOfPixel)
        base = Lanes::template look_up<kBases == Bases::kOfFewClasses>(t.table + o * t.table_stride, base);
      const auto counts = Lanes::load(counts_of<typename Lanes::Count>(t.counts, t.first_count + i) + p);
      const auto accumulator = Lanes::add(base, Lanes::multiply(multiplier, counts));
      const auto lower = Lanes::set(e.accumulator_lower[o]), upper = Lanes::set(e.accumulator_upper[o]);
      words = Lanes::with_bit(words, Lanes::between(lower, accumulator, upper), uint32_t{1} << (o % 32));
    }
    Lanes::store(t.words + p, words);
  }
}

template <class Lanes>
void finish_integers(const EpilogueOperands& e, const FinishTask& t) {
  with_bases<Lanes>(t, [&](auto bases) { finish_integers_with<Lanes, decltype(bases)::value>(e, t); });
}

template <class Lanes, class Value, bool kResidual, Activation kActivation, class Task>
void finish_with_bits_or_not(const EpilogueKind& kind, const EpilogueOperands& e, const Task& t) {
  if (kind.packed_output) return finish_floats<Lanes, Value, kResidual, kActivation, true>(e, t);
  return finish_floats<Lanes, Value, kResidual, kActivation, false>(e, t);
}

template <class Lanes, class Value, bool kResidual, class Task>
void finish_with_activation(const EpilogueKind& kind, const EpilogueOperands& e, const Task& t) {
  if (kind.activation == Activation::kPRelu)
    return finish_with_bits_or_not<Lanes, Value, kResidual, Activation::kPRelu>(kind, e, t);
  if (kind.activation == Activation::kClip)
    return finish_with_bits_or_not<Lanes, Value, kResidual, Activation::kClip>(kind, e, t);
  return finish_with_bits_or_not<Lanes, Value, kResidual, Activation::kNone>(kind, e, t);
}

template <class Lanes, class Value, class Task>
void finish_with_residual_or_not(const EpilogueKind& kind, const EpilogueOperands& e, const Task& t) {
  if (kind.residual) return finish_with_activation<Lanes, Value, true>(kind, e, t);
  return finish_with_activation<Lanes, Value, false>(kind, e, t);
}

// Task: of counts, or of what another header finishes; `finish_floats` and `finish_integers` are its own.
template <class Lanes, class Task>
void finish(const EpilogueKind& kind, const EpilogueOperands& e, const Task& t) {
  if (kind.integer_bits()) return finish_integers<Lanes>(e, t);
  if (kind.float16) return finish_with_residual_or_not<Lanes, Half>(kind, e, t);
  return finish_with_residual_or_not<Lanes, float>(kind, e, t);
}

}  // namespace bnn::cpu
