// Sizes in steps.
#pragma once

#include <cstdint>

namespace bnn::cpu {

constexpr int64_t divided_up(int64_t value, int64_t by) { return (value + by - 1) / by; }

constexpr int64_t rounded_up(int64_t value, int64_t multiple) { return divided_up(value, multiple) * multiple; }

}  // namespace bnn::cpu
