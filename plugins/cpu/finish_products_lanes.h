// The epilogue behind a matrix unit: the steps of `finish_lanes.h`, for accumulators that are products.
#pragma once

#include "cpu/finish_lanes.h"
#include "cpu/matrix_unit.h"

namespace bnn::cpu {

// kTileRows pixels of kTileOutputs outputs; or, with `lanes`, so many pixels of as many outputs as the task says.
template <class Lanes, class Value, bool kResidual, Activation kActivation, bool kPack, class... Count>
void finish_block(const EpilogueOperands& operands, const FinishProductsTask& task, Count... lanes) {
  using Outputs = Channel<Lanes, Value>;
  const EpilogueOperands e = operands;
  const FinishProductsTask t = task;
  decltype(Lanes::set(0)) accumulators[kTileOutputs];
  Lanes::turn(t.products, t.offsets, accumulators);
  auto words = Lanes::load(t.words);
  const auto* residual = static_cast<const Value*>(t.residual);
  auto* y = static_cast<Value*>(t.y);
  // The operands of so many outputs do not fit in registers: each is spread where it is used. Nor do their addresses.
#pragma GCC unroll 16
  for (int i = 0; i < kTileOutputs; ++i) {
    if (sizeof...(lanes) > 0 && i == t.outputs) break;
    const auto output =
        Outputs::template read<kActivation == Activation::kPRelu, kPack>(e, t.first_output + i, residual, y);
    output.template finish<kResidual, kActivation, kPack>(e, Lanes::to_float(accumulators[i]), 0, words, lanes...);
    residual += kResidual ? t.plane_stride : 0;
    y += t.plane_stride;
  }
  if constexpr (kPack) Lanes::store(t.words, words);
}

template <class Lanes, class Value, bool kResidual, Activation kActivation, bool kPack>
void finish_floats(const EpilogueOperands& e, const FinishProductsTask& t) {
  if (t.pixels == kTileRows && t.outputs == kTileOutputs)
    return finish_block<Lanes, Value, kResidual, kActivation, kPack>(e, t);
  finish_block<Lanes, Value, kResidual, kActivation, kPack>(e, t, static_cast<int>(t.pixels));
}

template <class Lanes>
void finish_integers(const EpilogueOperands& e, const FinishProductsTask& t) {
  decltype(Lanes::set(0)) accumulators[kTileOutputs];
  Lanes::turn(t.products, t.offsets, accumulators);
  auto words = Lanes::load(t.words);
#pragma GCC unroll 16
  for (int i = 0; i < kTileOutputs; ++i) {
    if (i == t.outputs) break;
    const int64_t o = t.first_output + i;
    const auto lower = Lanes::set(e.accumulator_lower[o]), upper = Lanes::set(e.accumulator_upper[o]);
    words = Lanes::with_bit(words, Lanes::between(lower, accumulators[i], upper), uint32_t{1} << (o % 32));
  }
  Lanes::store(t.words, words);
}

}  // namespace bnn::cpu
