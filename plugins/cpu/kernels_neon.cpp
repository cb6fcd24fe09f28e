// NEON: an exclusive or and a population count of bytes for 4 pixels of 32 channels, summed in bytes while they fit.

#if defined(__aarch64__)

#include <arm_neon.h>

#include "cpu/average_pool_lanes.h"
#include "cpu/finish_lanes.h"
#include "cpu/gather_runs.h"
#include "cpu/pack_lanes.h"
#include "cpu/stem_lanes.h"

namespace bnn::cpu {
namespace {

struct NeonLanes {
  static constexpr bool kStoresApart = false;
  static constexpr int kWidth = 4;
  using Count = int32_t;
  static constexpr int64_t kFewClasses = INT64_MAX;  // all the same
  static constexpr bool kHasBases = false;
  static constexpr int kFloatOutputs = 8;

  static int32x4_t load(const int32_t* p) { return vld1q_s32(p); }
  static uint32x4_t load(const uint32_t* p) { return vld1q_u32(p); }
  static void store(uint32_t* p, uint32x4_t words) { vst1q_u32(p, words); }
  static float32x4_t load(const float* p) { return vld1q_f32(p); }
  static void store(float* p, float32x4_t z) { vst1q_f32(p, z); }
  static float32x4_t load(const float* p, int lanes) {
    float row[kWidth] = {};
    for (int i = 0; i < lanes; ++i) row[i] = p[i];
    return vld1q_f32(row);
  }
  static void store(float* p, float32x4_t z, int lanes) {
    float row[kWidth];
    vst1q_f32(row, z);
    for (int i = 0; i < lanes; ++i) p[i] = row[i];
  }
  static float32x4_t load(const Half* p) {
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(reinterpret_cast<const uint16_t*>(p))));
  }
  static void store(Half* p, float32x4_t z) {
    vst1_u16(reinterpret_cast<uint16_t*>(p), vreinterpret_u16_f16(vcvt_f16_f32(z)));
  }
  static float32x4_t load(const Half* p, int lanes) {
    Half row[kWidth] = {};
    for (int i = 0; i < lanes; ++i) row[i] = p[i];
    return load(row);
  }
  static void store(Half* p, float32x4_t z, int lanes) {
    Half row[kWidth];
    store(row, z);
    for (int i = 0; i < lanes; ++i) p[i] = row[i];
  }
  static int32x4_t set(int32_t value) { return vdupq_n_s32(value); }
  static float32x4_t set(float value) { return vdupq_n_f32(value); }
  static float32x4_t spread(const float* p) { return vld1q_dup_f32(p); }
  template <bool>
  static int32x4_t look_up(const int32_t* table, int32x4_t index) {
    const int32_t row[kWidth] = {table[vgetq_lane_s32(index, 0)], table[vgetq_lane_s32(index, 1)],
                                 table[vgetq_lane_s32(index, 2)], table[vgetq_lane_s32(index, 3)]};
    return vld1q_s32(row);
  }
  template <bool>
  static float32x4_t look_up(const float* table, int32x4_t index) {
    const float row[kWidth] = {table[vgetq_lane_s32(index, 0)], table[vgetq_lane_s32(index, 1)],
                               table[vgetq_lane_s32(index, 2)], table[vgetq_lane_s32(index, 3)]};
    return vld1q_f32(row);
  }
  // The values in even and in odd places of two vectors, one behind the other.
  static float32x4_t evens(float32x4_t a, float32x4_t b) { return vuzp1q_f32(a, b); }
  static float32x4_t odds(float32x4_t a, float32x4_t b) { return vuzp2q_f32(a, b); }
  // The values of two vectors in turn: the first half of them, and the second.
  static float32x4_t interleave_low(float32x4_t a, float32x4_t b) { return vzip1q_f32(a, b); }
  static float32x4_t interleave_high(float32x4_t a, float32x4_t b) { return vzip2q_f32(a, b); }
  // The last value of `before`, then all of x but its last.
  static float32x4_t shift_in(float32x4_t before, float32x4_t x) { return vextq_f32(before, x, 3); }
  static float32x4_t to_float(int32x4_t value) { return vcvtq_f32_s32(value); }
  static int32x4_t add(int32x4_t a, int32x4_t b) { return vaddq_s32(a, b); }
  static float32x4_t add(float32x4_t a, float32x4_t b) { return vaddq_f32(a, b); }
  static float32x4_t subtract(float32x4_t a, float32x4_t b) { return vsubq_f32(a, b); }
  static float32x4_t min(float32x4_t a, float32x4_t b) { return vminq_f32(a, b); }
  static float32x4_t max(float32x4_t a, float32x4_t b) { return vmaxq_f32(a, b); }
  static int32x4_t multiply(int32x4_t a, int32x4_t b) { return vmulq_s32(a, b); }
  static float32x4_t multiply(float32x4_t a, float32x4_t b) { return vmulq_f32(a, b); }
  static float32x4_t multiply_add(float32x4_t a, float32x4_t b, float32x4_t c) { return vfmaq_f32(c, a, b); }
  static float32x4_t where_not_negative(float32x4_t z, float32x4_t a, float32x4_t b) {
    return vbslq_f32(vcgeq_f32(z, vdupq_n_f32(0.0f)), a, b);
  }
  static float32x4_t clip(float32x4_t z, float32x4_t low, float32x4_t high) {
    z = vbslq_f32(vcltq_f32(z, low), low, z);
    return vbslq_f32(vcgtq_f32(z, high), high, z);
  }
  static uint32x4_t between(float32x4_t low, float32x4_t z, float32x4_t high) {
    return vandq_u32(vcleq_f32(low, z), vcleq_f32(z, high));
  }
  static uint32x4_t between(int32x4_t low, int32x4_t z, int32x4_t high) {
    return vandq_u32(vcleq_s32(low, z), vcleq_s32(z, high));
  }
  template <Compare kCompare>
  static uint32x4_t holds(float32x4_t x, float32x4_t lower, float32x4_t upper) {
    if constexpr (kCompare == Compare::kGreaterOrEqual) return vcgeq_f32(x, lower);
    if constexpr (kCompare == Compare::kGreater) return vcgtq_f32(x, lower);
    if constexpr (kCompare == Compare::kNotGreaterOrEqual) return vmvnq_u32(vcgeq_f32(x, lower));
    return between(lower, x, upper);
  }
  static uint32x4_t with_bit(uint32x4_t words, uint32x4_t is_set, uint32_t bit) {
    return vorrq_u32(words, vandq_u32(is_set, vdupq_n_u32(bit)));
  }
};

constexpr int kLanes = 16;  // pixels, four to a register
constexpr int kRegisters = 4;
constexpr int kRowsToFlush = 31;  // 31 * 8 bits fit a byte

// One output, kLanes pixels. row_cells: from one row of the column to the next.
void count_output(const uint32_t* column, int64_t row_cells, int64_t rows, const uint32_t* weights, int32_t* counts) {
  uint32x4_t sums[kRegisters] = {};
  for (int64_t done = 0; done < rows;) {
    const int64_t until = rows - done < kRowsToFlush ? rows : done + kRowsToFlush;
    uint8x16_t bytes[kRegisters] = {};
    for (; done < until; ++done) {
      const uint32x4_t weight = vdupq_n_u32(weights[done * kBlockOutputs]);
      for (int r = 0; r < kRegisters; ++r) {
        const uint32x4_t differ = veorq_u32(vld1q_u32(column + done * row_cells + 4 * r), weight);
        bytes[r] = vaddq_u8(bytes[r], vcntq_u8(vreinterpretq_u8_u32(differ)));
      }
    }
    for (int r = 0; r < kRegisters; ++r) sums[r] = vpadalq_u16(sums[r], vpaddlq_u8(bytes[r]));
  }
  for (int r = 0; r < kRegisters; ++r) vst1q_s32(counts + 4 * r, vreinterpretq_s32_u32(sums[r]));
}

void count(const CountTask& t) {
  const auto* column = static_cast<const uint32_t*>(t.column);
  const auto* weights = static_cast<const uint32_t*>(t.weights);
  for (int v = 0; v < t.vectors; ++v)
    for (int o = 0; o < kBlockOutputs; ++o)
      count_output(column + v * kLanes, t.row_cells, t.rows, weights + o, counts_of<int32_t>(t.counts, o) + v * kLanes);
}

int64_t differing_bits(const int32_t* a, const int32_t* b, int64_t words) {
  int64_t total = 0, i = 0;
  for (; i + 4 <= words; i += 4) {
    const int32x4_t differ = veorq_s32(vld1q_s32(a + i), vld1q_s32(b + i));
    total += vaddvq_u8(vcntq_u8(vreinterpretq_u8_s32(differ)));
  }
  for (; i < words; ++i) total += __builtin_popcount(static_cast<uint32_t>(a[i] ^ b[i]));
  return total;
}

}  // namespace

const Kernels& neon_kernels() {
  static constexpr Kernels kernels{"neon",
                                   Cell::kWord,
                                   kLanes,
                                   4,
                                   4,
                                   0,
                                   1,
                                   int64_t{1} << 25,
                                   100,
                                   [] { return true; },
                                   count,
                                   finish<NeonLanes, FinishTask>,
                                   gather_runs<NeonLanes, 16, 4>,
                                   nullptr,
                                   nullptr,
                                   pack<NeonLanes>,
                                   differing_bits,
                                   NeonLanes::kWidth,
                                   NeonLanes::kFloatOutputs,
                                   10,
                                   average<NeonLanes>,
                                   pointwise<NeonLanes>,
                                   stem<NeonLanes>};
  return kernels;
}

}  // namespace bnn::cpu

#endif
