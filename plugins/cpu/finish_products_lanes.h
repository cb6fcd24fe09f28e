// The epilogue behind a matrix unit: the steps of `finish_lanes.h`, for accumulators that are products.
#pragma once

#include <cstring>

#include "cpu/finish_lanes.h"
#include "cpu/matrix_unit.h"

namespace bnn::cpu {

alignas(64) constexpr uint32_t kBitOf[kTileOutputs] = {1,        1u << 1,  1u << 2,  1u << 3, 1u << 4,  1u << 5,
                                                       1u << 6,  1u << 7,  1u << 8,  1u << 9, 1u << 10, 1u << 11,
                                                       1u << 12, 1u << 13, 1u << 14, 1u << 15};

static inline void store_bits(const FinishProductsTask& t, int64_t pixel, uint32_t bits) {
  std::memcpy(t.bits + pixel * t.bit_stride * 4, &bits, t.bit_bytes == 2 ? 2 : 4);  // of little-endian words
}

template <class Lanes, class Bits>
__attribute__((always_inline)) inline void store_bits(const FinishProductsTask& t, Bits bits) {
  if (t.pixels == kTileRows && Lanes::can_store_apart(t.bit_stride)) {
    if (t.bit_bytes == 2) return Lanes::store_halves_apart(t.bits, bits, t.bit_stride);
    return Lanes::store_apart(reinterpret_cast<int32_t*>(t.bits), bits, t.bit_stride);
  }
  alignas(64) uint32_t of_pixels[kTileRows];
  Lanes::store(of_pixels, bits);
  for (int64_t p = 0; p < t.pixels; ++p) store_bits(t, p, of_pixels[p]);
}

// kTileRows pixels of kTileOutputs outputs; or, with `lanes`, so many pixels of as many outputs as the task says.
template <class Lanes, class Value, bool kResidual, Activation kActivation, bool kPack, class... Count>
void finish_block(const EpilogueOperands& operands, const FinishProductsTask& task, Count... lanes) {
  using Outputs = Channel<Lanes, Value>;
  const EpilogueOperands e = operands;
  const FinishProductsTask t = task;
  decltype(Lanes::set(0)) accumulators[kTileOutputs];
  Lanes::turn(t.products, t.offsets, accumulators);
  auto bits = Lanes::set(0);
  const uint32_t* bit_of = kBitOf;
  asm("" : "+r"(bit_of));  // or the compiler makes them anew, and spreads them on a port that is busy
  const auto* residual = static_cast<const Value*>(t.residual);
  auto* y = static_cast<Value*>(t.y);
  // The operands of so many outputs do not fit in registers: each is spread where it is used. Nor do their addresses.
#pragma GCC unroll 16
  for (int i = 0; i < kTileOutputs; ++i) {
    if (sizeof...(lanes) > 0 && i == t.outputs) break;
    const auto output =
        Outputs::template read<kActivation == Activation::kPRelu, kPack>(e, t.first_output + i, residual, y);
    const auto z = output.template finish<kResidual, kActivation>(e, Lanes::to_float(accumulators[i]), 0, lanes...);
    if constexpr (kPack) bits = Lanes::with_bit(bits, Lanes::between(output.lower, z, output.upper), bit_of + i);
    residual += kResidual ? t.plane_stride : 0;
    y += t.plane_stride;
  }
  if constexpr (kPack) store_bits<Lanes>(t, bits);
}

template <class Lanes, class Value, bool kResidual, Activation kActivation, bool kPack>
void finish_floats(const EpilogueOperands& e, const FinishProductsTask& t) {
  if (t.pixels == kTileRows && t.outputs == kTileOutputs)
    return finish_block<Lanes, Value, kResidual, kActivation, kPack>(e, t);
  finish_block<Lanes, Value, kResidual, kActivation, kPack>(e, t, static_cast<int>(t.pixels));
}

// A bit needs no neighbouring pixels: nothing is turned.
template <class Lanes>
void finish_integers(const EpilogueOperands& e, const FinishProductsTask& t) {
  const auto outputs = static_cast<int>(t.outputs);
  // Outputs that do not exist are in no interval.
  const auto lower = Lanes::load(e.accumulator_lower + t.first_output, outputs, 0);
  const auto upper = Lanes::load(e.accumulator_upper + t.first_output, outputs, -1);
  for (int64_t p = 0; p < t.pixels; ++p)
    store_bits(t, p, Lanes::bits_of(Lanes::between(lower, Lanes::load(t.products + t.offsets[p]), upper)));
}

}  // namespace bnn::cpu
