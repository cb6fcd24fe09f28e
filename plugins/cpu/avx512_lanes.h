// Vectors of AVX-512, as the templates of `*_lanes.h` want them. For files that are compiled for it: the type is
// another one in each of them, so that no function made of it is shared.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "core/float16.h"
#include "cpu/kernels.h"

namespace bnn::cpu {
namespace {

struct Avx512Lanes {
  static constexpr bool kStoresApart = true;
  static constexpr int kWidth = 16;
  using Count = int32_t;
  static constexpr int64_t kFewClasses = 16;
  static constexpr bool kHasBases = false;
  static constexpr int kFloatOutputs = 8;

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
  static bool can_store_apart(int64_t stride) { return stride == 1 || stride == 2 || stride == 4 || stride == 8; }
  // One word at p, the next one at p + stride.
  static void store_apart(int32_t* p, __m512i words, int64_t stride) {
    each_apart(words, stride, [p](int64_t i, __mmask16 places, __m512i apart) {
      _mm512_mask_storeu_epi32(p + i * kWidth, places, apart);
    });
  }
  // The lower half of one word at p, of the next one `stride` words behind it.
  static void store_halves_apart(uint8_t* p, __m512i words, int64_t stride) {
    each_apart(words, stride, [p](int64_t i, __mmask16 places, __m512i apart) {
      const __mmask32 halves = _mm512_movepi16_mask(_mm512_maskz_set1_epi32(places, 0x8000));
      _mm512_mask_storeu_epi16(p + i * 64, halves, apart);
    });
  }
  // Calls store(i, places, apart) for each vector i that words `stride` apart take, with the next of them in their
  // places.
  template <class Store>
  static void each_apart(__m512i words, int64_t stride, const Store& store) {
    const auto places = static_cast<__mmask16>(stride == 1   ? 0xffff
                                               : stride == 2 ? 0x5555
                                               : stride == 4 ? 0x1111
                                                             : 0x0101);
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i next = _mm512_add_epi32(lanes, _mm512_set1_epi32(static_cast<int32_t>(kWidth / stride)));
    for (int64_t i = 0; i < stride; ++i) {
      store(i, places, _mm512_maskz_expand_epi32(places, words));
      words = _mm512_permutexvar_epi32(next, words);
    }
  }
  // The first `lanes` values, and `others` behind them.
  static __m512i load(const int32_t* p, int lanes, int32_t others) {
    return _mm512_mask_loadu_epi32(_mm512_set1_epi32(others), first(lanes), p);
  }
  static uint32_t bits_of(__mmask16 mask) { return mask; }
  static __m512i set(int32_t value) { return _mm512_set1_epi32(value); }
  static __m512 set(float value) { return _mm512_set1_ps(value); }
  // Spread as it is loaded, which needs none of the ports for vectors.
  static __m512 spread(const float* p) { return _mm512_broadcastss_ps(_mm_load_ss(p)); }
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
  // 16 pixels of 16 outputs, a vector for each output. offsets: from `values` to each pixel's.
  static void turn(const int32_t* values, const int64_t* offsets, __m512i (&outputs)[16]) {
    __m512i pairs[16], fours[16];  // of pixels
#pragma GCC unroll 8
    for (int i = 0; i < 16; i += 2) {
      const __m512i even = _mm512_load_si512(values + offsets[i]), odd = _mm512_load_si512(values + offsets[i + 1]);
      pairs[i] = _mm512_unpacklo_epi32(even, odd);
      pairs[i + 1] = _mm512_unpackhi_epi32(even, odd);
    }
    // In fours[4 k + j]: output j of every four, of pixels 4 k to 4 k + 3.
#pragma GCC unroll 4
    for (int i = 0; i < 16; i += 4)
#pragma GCC unroll 2
      for (int j = 0; j < 2; ++j) {
        fours[i + 2 * j] = _mm512_unpacklo_epi64(pairs[i + j], pairs[i + 2 + j]);
        fours[i + 2 * j + 1] = _mm512_unpackhi_epi64(pairs[i + j], pairs[i + 2 + j]);
      }
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const __m512i a = _mm512_shuffle_i32x4(fours[j], fours[4 + j], 0x44);
      const __m512i b = _mm512_shuffle_i32x4(fours[j], fours[4 + j], 0xee);
      const __m512i c = _mm512_shuffle_i32x4(fours[8 + j], fours[12 + j], 0x44);
      const __m512i d = _mm512_shuffle_i32x4(fours[8 + j], fours[12 + j], 0xee);
      outputs[j] = _mm512_shuffle_i32x4(a, c, 0x88);
      outputs[4 + j] = _mm512_shuffle_i32x4(a, c, 0xdd);
      outputs[8 + j] = _mm512_shuffle_i32x4(b, d, 0x88);
      outputs[12 + j] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
  }
  // The values in even and in odd places of two vectors, one behind the other.
  static __m512 evens(__m512 a, __m512 b) {
    const __m512i places = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return _mm512_permutex2var_ps(a, places, b);
  }
  static __m512 odds(__m512 a, __m512 b) {
    const __m512i places = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    return _mm512_permutex2var_ps(a, places, b);
  }
  // The values of two vectors in turn: the first half of them, and the second.
  static __m512 interleave_low(__m512 a, __m512 b) {
    const __m512i places = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    return _mm512_permutex2var_ps(a, places, b);
  }
  static __m512 interleave_high(__m512 a, __m512 b) {
    const __m512i places = _mm512_setr_epi32(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    return _mm512_permutex2var_ps(a, places, b);
  }
  // The last value of `before`, then all of x but its last.
  static __m512 shift_in(__m512 before, __m512 x) {
    return _mm512_castsi512_ps(_mm512_alignr_epi32(_mm512_castps_si512(x), _mm512_castps_si512(before), 15));
  }
  static __m512 to_float(__m512i value) { return _mm512_cvtepi32_ps(value); }
  static __m512i add(__m512i a, __m512i b) { return _mm512_add_epi32(a, b); }
  static __m512 add(__m512 a, __m512 b) { return _mm512_add_ps(a, b); }
  static __m512 subtract(__m512 a, __m512 b) { return _mm512_sub_ps(a, b); }
  static __m512 min(__m512 a, __m512 b) { return _mm512_min_ps(a, b); }
  static __m512 max(__m512 a, __m512 b) { return _mm512_max_ps(a, b); }
  static __m512i multiply(__m512i a, __m512i b) { return _mm512_mullo_epi32(a, b); }
  static __m512 multiply(__m512 a, __m512 b) { return _mm512_mul_ps(a, b); }
  static __m512 multiply_add(__m512 a, __m512 b, __m512 c) { return _mm512_fmadd_ps(a, b, c); }
  static __m512 where_not_negative(__m512 z, __m512 a, __m512 b) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(z, _mm512_setzero_ps(), _CMP_GE_OQ), b, a);
  }
  // The second operand is what comes out where one is a NaN, or both are zeros.
  static __m512 clip(__m512 z, __m512 low, __m512 high) { return _mm512_min_ps(high, _mm512_max_ps(low, z)); }
  static __mmask16 between(__m512 low, __m512 z, __m512 high) {
    return _mm512_mask_cmp_ps_mask(_mm512_cmp_ps_mask(z, low, _CMP_GE_OQ), z, high, _CMP_LE_OQ);
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
  // A bit that is in memory: see `spread`.
  static __m512i with_bit(__m512i words, __mmask16 is_set, const uint32_t* bit) {
    return _mm512_mask_or_epi32(words, is_set, words, _mm512_set1_epi32(static_cast<int32_t>(*bit)));
  }
};

}  // namespace
}  // namespace bnn::cpu
