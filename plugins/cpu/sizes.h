// Sizes and places in steps.
#pragma once

#include <algorithm>
#include <cstdint>

namespace bnn::cpu {

constexpr int64_t divided_up(int64_t value, int64_t by) { return (value + by - 1) / by; }

constexpr int64_t rounded_up(int64_t value, int64_t multiple) { return divided_up(value, multiple) * multiple; }

struct Span {
  int64_t begin, end;
  bool operator==(const Span& other) const { return begin == other.begin && end == other.end; }
};

// Which of `count` places, `step` apart from `first` on, are in [0, size).
inline Span places_inside(int64_t first, int64_t step, int64_t count, int64_t size) {
  const int64_t begin = std::min(count, divided_up(std::max<int64_t>(0, -first), step));
  const int64_t end = divided_up(std::max<int64_t>(0, size - first), step);
  return {begin, std::clamp(end, begin, count)};
}

}  // namespace bnn::cpu
