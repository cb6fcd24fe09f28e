// From what a pack is asked for when it runs to the loop that was compiled for it: a type of x, and a comparison.
//
// Included by files that are compiled for different instruction sets: `pixels` is a lambda of theirs, whose type keeps
// the copies apart.
#pragma once

#include <type_traits>

#include "core/float16.h"
#include "cpu/kernels.h"

namespace bnn::cpu {

template <Compare kCompare>
using Comparison = std::integral_constant<Compare, kCompare>;

// Calls pixels(value, comparison): a float or a Half whose type is that of x, and the Comparison.
template <class Pixels>
void dispatch_pack(const PackTask& t, const Pixels& pixels) {
  const auto with_value = [&](auto value) {
    switch (t.compare) {
      case Compare::kGreaterOrEqual:
        return pixels(value, Comparison<Compare::kGreaterOrEqual>{});
      case Compare::kGreater:
        return pixels(value, Comparison<Compare::kGreater>{});
      case Compare::kNotGreaterOrEqual:
        return pixels(value, Comparison<Compare::kNotGreaterOrEqual>{});
      case Compare::kBetween:
        return pixels(value, Comparison<Compare::kBetween>{});
    }
  };
  t.float16 ? with_value(Half{}) : with_value(float{});
}

}  // namespace bnn::cpu
