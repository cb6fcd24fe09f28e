// The epilogue behind a matrix unit: the steps of `finish_lanes.h`, for accumulators that are products.
#pragma once

#include "cpu/finish_lanes.h"
#include "cpu/matrix_unit.h"

namespace bnn::cpu {

// The accumulators of some channels: see `Counts`.
template <class Lanes, int kOutputs>
class Products {
 public:
  using Floats = decltype(Lanes::set(0.0f));

  Products(const FinishProductsTask& t, int first) : products_(t.products + first), offsets_(t.offsets) {}

  void read(int p, Floats (&accumulators)[kOutputs]) const {
    decltype(Lanes::set(0)) turned[kBlockOutputs];
    Lanes::turn(products_, offsets_ + p, turned);
    for (int i = 0; i < kOutputs; ++i) accumulators[i] = Lanes::to_float(turned[i]);
  }

 private:
  const int32_t* products_;
  const int64_t* offsets_;
};

template <class Lanes, class Value, bool kResidual, Activation kActivation, bool kPack>
void finish_floats(const EpilogueOperands& e, const FinishProductsTask& t) {
  if (t.outputs == kBlockOutputs) {
    using Source = Products<Lanes, kBlockOutputs>;
    return finish_channels<Lanes, Value, kResidual, kActivation, kPack, Source, kBlockOutputs>(e, t, 0);
  }
  for (int i = 0; i < t.outputs; ++i)
    finish_channels<Lanes, Value, kResidual, kActivation, kPack, Products<Lanes, 1>, 1>(e, t, i);
}

template <class Lanes>
void finish_integers(const EpilogueOperands& e, const FinishProductsTask& t) {
  for (int p = 0; p < t.pixels; p += Lanes::kWidth) {
    decltype(Lanes::set(0)) accumulators[kBlockOutputs];
    Lanes::turn(t.products, t.offsets + p, accumulators);
    auto words = Lanes::load(t.words + p);
    for (int i = 0; i < t.outputs; ++i) {
      const int64_t o = t.first_output + i;
      const auto lower = Lanes::set(e.accumulator_lower[o]), upper = Lanes::set(e.accumulator_upper[o]);
      words = Lanes::with_bit(words, Lanes::between(lower, accumulators[i], upper), uint32_t{1} << (o % 32));
    }
    Lanes::store(t.words + p, words);
  }
}

}  // namespace bnn::cpu
