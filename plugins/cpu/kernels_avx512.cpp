// AVX-512 with VPOPCNTDQ: a lane is a pixel, a cell is 32 channels of it, and one instruction counts 16 of them.
//
// An exclusive or, a population count and an addition for each 512 bit-multiplications: two vector ports make that 1.5
// cycles. Included headers hold no function that other files could share: see `finish_lanes.h`.

#if defined(__x86_64__)

#include <immintrin.h>

#include "cpu/finish_lanes.h"
#include "cpu/gather_runs.h"
#include "cpu/pack_lanes.h"

namespace bnn::cpu {
namespace {

struct Avx512Lanes {
  static constexpr int kWidth = 16;
  static constexpr int64_t kFewClasses = 16;

  static __mmask16 first(int lanes) { return static_cast<__mmask16>((1u << lanes) - 1u); }
  static __m512i load(const int32_t* p) { return _mm512_load_si512(p); }
  static __m512i load(const uint32_t* p) { return _mm512_load_si512(p); }
  static void store(uint32_t* p, __m512i words) { _mm512_store_si512(p, words); }
  static __m512 load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, __m512 z) { _mm512_storeu_ps(p, z); }
  static __m512 load(const float* p, int lanes) { return _mm512_maskz_loadu_ps(first(lanes), p); }
  static void store(float* p, __m512 z, int lanes) { _mm512_mask_storeu_ps(p, first(lanes), z); }
  static __m512 load(const Half* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  static void store(Half* p, __m512 z) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(z, _MM_FROUND_TO_NEAREST_INT));
  }
  static __m512 load(const Half* p, int lanes) { return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first(lanes), p)); }
  static void store(Half* p, __m512 z, int lanes) {
    _mm256_mask_storeu_epi16(p, first(lanes), _mm512_cvtps_ph(z, _MM_FROUND_TO_NEAREST_INT));
  }
  static __m512i set(int32_t value) { return _mm512_set1_epi32(value); }
  static __m512 set(float value) { return _mm512_set1_ps(value); }
  static const int32_t* border_row(const int32_t* values) { return values; }
  static const float* border_row(const float* values) { return values; }
  static __m512i classes(const int32_t* p) { return load(p); }
  template <bool kFew>
  static __m512i look_up(const int32_t* table, __m512i index) {
    if constexpr (kFew) return _mm512_permutexvar_epi32(index, _mm512_loadu_si512(table));
    return _mm512_i32gather_epi32(index, table, 4);
  }
  template <bool kFew>
  static __m512 look_up(const float* table, __m512i index) {
    if constexpr (kFew) return _mm512_permutexvar_ps(index, _mm512_loadu_ps(table));
    return _mm512_i32gather_ps(index, table, 4);
  }
  static __m512 to_float(__m512i value) { return _mm512_cvtepi32_ps(value); }
  static __m512i add(__m512i a, __m512i b) { return _mm512_add_epi32(a, b); }
  static __m512 add(__m512 a, __m512 b) { return _mm512_add_ps(a, b); }
  static __m512i multiply(__m512i a, __m512i b) { return _mm512_mullo_epi32(a, b); }
  static __m512 multiply(__m512 a, __m512 b) { return _mm512_mul_ps(a, b); }
  static __m512 multiply_add(__m512 a, __m512 b, __m512 c) { return _mm512_fmadd_ps(a, b, c); }
  static __m512 where_not_negative(__m512 z, __m512 a, __m512 b) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(z, _mm512_setzero_ps(), _CMP_GE_OQ), b, a);
  }
  // The second operand is what comes out where one is a NaN, or both are zeros.
  static __m512 clip(__m512 z, __m512 low, __m512 high) { return _mm512_min_ps(high, _mm512_max_ps(low, z)); }
  static __mmask16 between(__m512 low, __m512 z, __m512 high) {
    return _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(low, z, _CMP_LE_OQ), z, high, _CMP_LE_OQ);
  }
  static __mmask16 between(__m512i low, __m512i z, __m512i high) {
    return _mm512_mask_cmple_epi32_mask(_mm512_cmple_epi32_mask(low, z), z, high);
  }
  template <Compare kCompare>
  static __mmask16 holds(__m512 x, __m512 lower, __m512 upper) {
    if constexpr (kCompare == Compare::kGreaterOrEqual) return _mm512_cmp_ps_mask(x, lower, _CMP_GE_OQ);
    if constexpr (kCompare == Compare::kGreater) return _mm512_cmp_ps_mask(x, lower, _CMP_GT_OQ);
    if constexpr (kCompare == Compare::kNotGreaterOrEqual) return _mm512_cmp_ps_mask(x, lower, _CMP_NGE_UQ);
    return between(lower, x, upper);
  }
  static __m512i with_bit(__m512i words, __mmask16 is_set, uint32_t bit) {
    return _mm512_mask_or_epi32(words, is_set, words, _mm512_set1_epi32(static_cast<int32_t>(bit)));
  }
};

constexpr int kLanes = 16;
constexpr int kMostTail = 8;  // beyond that another vector is cheaper

template <int kVectors>
void count_vectors(const CountTask& t) {
  const auto* column = static_cast<const uint32_t*>(t.column);
  const auto* weights = static_cast<const uint32_t*>(t.weights);
  __m512i sums[kBlockOutputs][kVectors];
#pragma GCC unroll 4
  for (int o = 0; o < kBlockOutputs; ++o)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[o][v] = _mm512_setzero_si512();
  for (int64_t k = 0; k < t.rows; ++k, column += t.row_cells, weights += kBlockOutputs) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const __m512i cells = _mm512_load_si512(column + v * kLanes);
#pragma GCC unroll 4
      for (int o = 0; o < kBlockOutputs; ++o) {
        const __m512i weight = _mm512_set1_epi32(static_cast<int32_t>(weights[o]));
        sums[o][v] = _mm512_add_epi32(sums[o][v], _mm512_popcnt_epi32(_mm512_xor_si512(cells, weight)));
      }
    }
  }
#pragma GCC unroll 4
  for (int o = 0; o < kBlockOutputs; ++o)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) _mm512_store_si512(t.counts + o * kMostTilePixels + v * kLanes, sums[o][v]);
}

// The pixels of a tail: here a lane is an output channel of the block, and four rows are counted at a time.
void count_tail(const CountTask& t) {
  const auto* weights = static_cast<const uint32_t*>(t.weights);
  const int64_t words = t.rows * kBlockOutputs;
  for (int p = 0; p < t.tail_pixels; ++p) {
    const uint32_t* cells = t.tail + p * words;
    __m512i sums = _mm512_setzero_si512();
    for (int64_t i = 0; i < words; i += kLanes) {
      const __mmask16 lanes = words - i < kLanes ? Avx512Lanes::first(static_cast<int>(words - i)) : __mmask16(0xffff);
      const __m512i differ =
          _mm512_xor_si512(_mm512_maskz_loadu_epi32(lanes, cells + i), _mm512_maskz_loadu_epi32(lanes, weights + i));
      sums = _mm512_add_epi32(sums, _mm512_popcnt_epi32(differ));
    }
    const __m256i eight = _mm256_add_epi32(_mm512_castsi512_si256(sums), _mm512_extracti64x4_epi64(sums, 1));
    const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    alignas(16) int32_t row[kBlockOutputs];
    _mm_store_si128(reinterpret_cast<__m128i*>(row), four);
    for (int o = 0; o < kBlockOutputs; ++o) t.counts[o * kMostTilePixels + t.vectors * kLanes + p] = row[o];
  }
}

void count(const CountTask& t) {
  if (t.vectors == 1) count_vectors<1>(t);
  if (t.vectors == 2) count_vectors<2>(t);
  if (t.vectors == 3) count_vectors<3>(t);
  if (t.vectors == 4) count_vectors<4>(t);
  count_tail(t);
}

int64_t differing_bits(const int32_t* a, const int32_t* b, int64_t words) {
  __m512i total = _mm512_setzero_si512();
  for (int64_t i = 0; i < words; i += kLanes) {
    const __mmask16 lanes = words - i < kLanes ? Avx512Lanes::first(static_cast<int>(words - i)) : __mmask16(0xffff);
    const __m512i differ =
        _mm512_xor_si512(_mm512_maskz_loadu_epi32(lanes, a + i), _mm512_maskz_loadu_epi32(lanes, b + i));
    total = _mm512_add_epi64(total, _mm512_popcnt_epi64(differ));
  }
  return _mm512_reduce_add_epi64(total);
}

bool supported() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vpopcntdq");
}

}  // namespace

const Kernels& avx512_kernels();

const Kernels& avx512_kernels() {
  static constexpr Kernels kernels{"avx512",
                                   Cell::kWord,
                                   kLanes,
                                   4,
                                   kMostTail,
                                   1,
                                   int64_t{1} << 25,
                                   1000,
                                   supported,
                                   count,
                                   finish<Avx512Lanes>,
                                   gather_runs<Avx512Lanes, 64, 4>,
                                   nullptr,
                                   pack<Avx512Lanes>,
                                   differing_bits};
  return kernels;
}

}  // namespace bnn::cpu

#endif
