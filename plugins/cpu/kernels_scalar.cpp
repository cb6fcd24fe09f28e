// Kernels in plain C++: what runs where no vector instructions are known, and the second opinion in the tests.

#include "core/float_values.h"
#include "cpu/average_pool_lanes.h"
#include "cpu/finish_lanes.h"
#include "cpu/gather_runs.h"
#include "cpu/stem_lanes.h"

namespace bnn::cpu {
namespace {

struct ScalarLanes {
  static constexpr bool kStoresApart = false;
  static constexpr int kWidth = 1;
  using Count = int32_t;
  static constexpr int64_t kFewClasses = INT64_MAX;  // all the same
  static constexpr bool kHasBases = false;
  static constexpr int kFloatOutputs = 4;

  static int32_t load(const int32_t* p) { return *p; }
  static uint32_t load(const uint32_t* p) { return *p; }
  static void store(uint32_t* p, uint32_t words) { *p = words; }
  static float load(const float* p) { return *p; }
  static void store(float* p, float z) { *p = z; }
  static float load(const float* p, int) { return *p; }
  static void store(float* p, float z, int) { *p = z; }
  static float load(const Half* p) { return bnn::to_float(*p); }
  static void store(Half* p, float z) { *p = to_half(z); }
  static float load(const Half* p, int) { return bnn::to_float(*p); }
  static void store(Half* p, float z, int) { *p = to_half(z); }
  static int32_t set(int32_t value) { return value; }
  static float set(float value) { return value; }
  static float spread(const float* p) { return *p; }
  template <bool>
  static int32_t look_up(const int32_t* table, int32_t index) {
    return table[index];
  }
  template <bool>
  static float look_up(const float* table, int32_t index) {
    return table[index];
  }
  // The values in even and in odd places of two vectors, one behind the other.
  static float evens(float a, float) { return a; }
  static float odds(float, float b) { return b; }
  // The values of two vectors in turn: the first half of them, and the second.
  static float interleave_low(float a, float) { return a; }
  static float interleave_high(float, float b) { return b; }
  // The last value of `before`, then all of x but its last.
  static float shift_in(float before, float) { return before; }
  static float to_float(int32_t value) { return static_cast<float>(value); }
  static int32_t add(int32_t a, int32_t b) { return a + b; }
  static float add(float a, float b) { return a + b; }
  static float subtract(float a, float b) { return a - b; }
  static float min(float a, float b) { return a < b ? a : b; }
  static float max(float a, float b) { return a > b ? a : b; }
  static int32_t multiply(int32_t a, int32_t b) { return a * b; }
  static float multiply(float a, float b) { return a * b; }
  static float multiply_add(float a, float b, float c) { return a * b + c; }
  static float where_not_negative(float z, float a, float b) { return z >= 0.0f ? a : b; }
  static float clip(float z, float low, float high) {
    z = z < low ? low : z;
    return z > high ? high : z;
  }
  static bool between(float low, float z, float high) { return low <= z && z <= high; }
  static bool between(int32_t low, int32_t z, int32_t high) { return low <= z && z <= high; }
  static uint32_t with_bit(uint32_t words, bool is_set, uint32_t bit) { return is_set ? words | bit : words; }
};

constexpr int kLanes = 16;

// Counted in parallel within the word, so that a compiler can vectorise it anywhere.
inline uint32_t popcount(uint32_t x) {
  x = x - ((x >> 1) & 0x55555555u);
  x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
  x = (x + (x >> 4)) & 0x0f0f0f0fu;
  return (x * 0x01010101u) >> 24;
}

void count(const CountTask& t) {
  const auto* column = static_cast<const uint32_t*>(t.column);
  const auto* weights = static_cast<const uint32_t*>(t.weights);
  const int pixels = t.vectors * kLanes;
  for (int o = 0; o < kBlockOutputs; ++o) {
    int32_t* counts = counts_of<int32_t>(t.counts, o);
    for (int p = 0; p < pixels; ++p) counts[p] = 0;
    for (int64_t k = 0; k < t.rows; ++k) {
      const uint32_t weight = weights[k * kBlockOutputs + o];
      const uint32_t* row = column + k * t.row_cells;
      for (int p = 0; p < pixels; ++p) counts[p] += static_cast<int32_t>(popcount(row[p] ^ weight));
    }
  }
}

bool holds(Compare compare, float x, float lower, float upper) {
  switch (compare) {
    case Compare::kGreaterOrEqual:
      return x >= lower;
    case Compare::kGreater:
      return x > lower;
    case Compare::kNotGreaterOrEqual:
      return !(x >= lower);
    case Compare::kBetween:
      return lower <= x && x <= upper;
  }
  return false;
}

void pack(const PackTask& t) {
  for (int64_t p = 0; p < t.pixels; ++p) {
    uint32_t word = 0;
    for (int c = 0; c < t.channels; ++c) {
      const int64_t bound = c * t.bound_stride;
      const float upper = t.compare == Compare::kBetween ? t.upper[bound] : 0.0f;
      const float x = load_value(t.x, c * t.plane_stride + p, t.float16);
      word |= uint32_t{holds(t.compare, x, t.lower[bound], upper)} << c;
    }
    t.words[p * t.word_stride] = static_cast<int32_t>(word);
  }
}

int64_t differing_bits(const int32_t* a, const int32_t* b, int64_t words) {
  int64_t total = 0;
  for (int64_t i = 0; i < words; ++i) total += popcount(static_cast<uint32_t>(a[i] ^ b[i]));
  return total;
}

}  // namespace

const Kernels& scalar_kernels() {
  static constexpr Kernels kernels{"scalar",
                                   Cell::kWord,
                                   kLanes,
                                   4,
                                   4,
                                   0,
                                   1,
                                   int64_t{1} << 25,
                                   20,
                                   [] { return true; },
                                   count,
                                   finish<ScalarLanes, FinishTask>,
                                   gather_runs<ScalarLanes, 16, 4>,
                                   nullptr,
                                   nullptr,
                                   pack,
                                   differing_bits,
                                   ScalarLanes::kWidth,
                                   ScalarLanes::kFloatOutputs,
                                   7,
                                   average<ScalarLanes>,
                                   pointwise<ScalarLanes>,
                                   stem<ScalarLanes>};
  return kernels;
}

}  // namespace bnn::cpu
