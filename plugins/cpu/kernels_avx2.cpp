// AVX2: counting by table lookup. A lane is a pixel, a cell is 4 channels of it.
//
// A byte shuffle looks 32 cells up in a table of 16 entries, which four weight bits of *two* output channels choose:
// the low half of each result byte is the count for the one, the high half for the other. One shuffle so does 256
// bit-multiplications, and the sums are kept in bytes as long as they fit:
//
// - three lookups added: at most 12 in each half, so the halves do not run into each other;
// - the low halves masked out and added to a byte sum; the high halves of two such steps averaged first,
//   (16 h1 + 16 h2) / 2 / 8 = h1 + h2, which saves a shift;
// - eight such double steps add at most 2 * 12 * 8 = 192 to a byte; then the bytes are added to 16-bit sums.

#if defined(__x86_64__)

#include <immintrin.h>

#include <cstring>

#include "cpu/average_pool_lanes.h"
#include "cpu/finish_lanes.h"
#include "cpu/gather_runs.h"
#include "cpu/nibble_table.h"
#include "cpu/pack_lanes.h"
#include "cpu/stem_lanes.h"

namespace bnn::cpu {
namespace {

struct Avx2Lanes {
  static constexpr int kWidth = 8;
  static constexpr int64_t kFewClasses = 9;  // as many as a 3x3 kernel has
  static constexpr int kFloatOutputs = 4;

  static __m256i first(int lanes) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static __m256i load(const int32_t* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }
  static __m256i load(const uint32_t* p) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(p)); }
  static void store(uint32_t* p, __m256i words) { _mm256_store_si256(reinterpret_cast<__m256i*>(p), words); }
  static __m256 load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, __m256 z) { _mm256_storeu_ps(p, z); }
  static __m256 load(const float* p, int lanes) { return _mm256_maskload_ps(p, first(lanes)); }
  static void store(float* p, __m256 z, int lanes) { _mm256_maskstore_ps(p, first(lanes), z); }
  static __m256 load(const Half* p) { return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static void store(Half* p, __m256 z) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(z, _MM_FROUND_TO_NEAREST_INT));
  }
  static __m256 load(const Half* p, int lanes) {
    Half row[kWidth] = {};
    std::memcpy(row, p, static_cast<size_t>(lanes) * sizeof(Half));
    return load(row);
  }
  static void store(Half* p, __m256 z, int lanes) {
    Half row[kWidth];
    store(row, z);
    std::memcpy(p, row, static_cast<size_t>(lanes) * sizeof(Half));
  }
  static __m256i set(int32_t value) { return _mm256_set1_epi32(value); }
  static __m256 set(float value) { return _mm256_set1_ps(value); }
  // A permutation reaches eight entries, and gives the ninth class the first one's: what the two differ in makes it
  // good.
  template <class Value>
  struct BorderRow {
    const Value* values;
    __m256i ninth;
  };
  struct Classes {
    __m256i index, is_ninth;
  };
  template <class Value>
  static BorderRow<Value> border_row(const Value* values) {
    int32_t first, ninth;
    std::memcpy(&first, values, sizeof first);
    std::memcpy(&ninth, values + 8, sizeof ninth);
    return {values, _mm256_set1_epi32(first ^ ninth)};
  }
  static Classes classes(const int32_t* p) {
    const __m256i index = load(p);
    return {index, _mm256_cmpeq_epi32(index, _mm256_set1_epi32(8))};
  }
  template <bool kFew>
  static __m256i look_up(const BorderRow<int32_t>& row, const Classes& classes) {
    if constexpr (!kFew) return _mm256_i32gather_epi32(row.values, classes.index, 4);
    const __m256i eight = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row.values));
    const __m256i found = _mm256_permutevar8x32_epi32(eight, classes.index);
    return _mm256_xor_si256(found, _mm256_and_si256(classes.is_ninth, row.ninth));
  }
  template <bool kFew>
  static __m256 look_up(const BorderRow<float>& row, const Classes& classes) {
    if constexpr (!kFew) return _mm256_i32gather_ps(row.values, classes.index, 4);
    const __m256 found = _mm256_permutevar8x32_ps(_mm256_loadu_ps(row.values), classes.index);
    return _mm256_xor_ps(found, _mm256_castsi256_ps(_mm256_and_si256(classes.is_ninth, row.ninth)));
  }
  // The values in even and in odd places of two vectors, one behind the other.
  static __m256 evens(__m256 a, __m256 b) { return in_order(_mm256_shuffle_ps(a, b, 0x88)); }
  static __m256 odds(__m256 a, __m256 b) { return in_order(_mm256_shuffle_ps(a, b, 0xdd)); }
  static __m256 in_order(__m256 halves_of_both) {
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(halves_of_both), 0xd8));
  }
  // The values of two vectors in turn: the first half of them, and the second.
  static __m256 interleave_low(__m256 a, __m256 b) {
    return _mm256_permute2f128_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b), 0x20);
  }
  static __m256 interleave_high(__m256 a, __m256 b) {
    return _mm256_permute2f128_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b), 0x31);
  }
  // The last value of `before`, then all of x but its last.
  static __m256 shift_in(__m256 before, __m256 x) {
    const __m256 middle = _mm256_permute2f128_ps(before, x, 0x21);  // the half of 128 bits before each of x
    return _mm256_castsi256_ps(_mm256_alignr_epi8(_mm256_castps_si256(x), _mm256_castps_si256(middle), 12));
  }
  static __m256 to_float(__m256i value) { return _mm256_cvtepi32_ps(value); }
  static __m256i add(__m256i a, __m256i b) { return _mm256_add_epi32(a, b); }
  static __m256 add(__m256 a, __m256 b) { return _mm256_add_ps(a, b); }
  static __m256 subtract(__m256 a, __m256 b) { return _mm256_sub_ps(a, b); }
  static __m256 min(__m256 a, __m256 b) { return _mm256_min_ps(a, b); }
  static __m256 max(__m256 a, __m256 b) { return _mm256_max_ps(a, b); }
  static __m256i multiply(__m256i a, __m256i b) { return _mm256_mullo_epi32(a, b); }
  static __m256 multiply(__m256 a, __m256 b) { return _mm256_mul_ps(a, b); }
  static __m256 multiply_add(__m256 a, __m256 b, __m256 c) { return _mm256_fmadd_ps(a, b, c); }
  static __m256 where_not_negative(__m256 z, __m256 a, __m256 b) {
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(z, _mm256_setzero_ps(), _CMP_GE_OQ));
  }
  // The second operand is what comes out where one is a NaN, or both are zeros.
  static __m256 clip(__m256 z, __m256 low, __m256 high) { return _mm256_min_ps(high, _mm256_max_ps(low, z)); }
  static __m256i between(__m256 low, __m256 z, __m256 high) {
    const __m256 both = _mm256_and_ps(_mm256_cmp_ps(low, z, _CMP_LE_OQ), _mm256_cmp_ps(z, high, _CMP_LE_OQ));
    return _mm256_castps_si256(both);
  }
  static __m256i between(__m256i low, __m256i z, __m256i high) {
    const __m256i outside = _mm256_or_si256(_mm256_cmpgt_epi32(low, z), _mm256_cmpgt_epi32(z, high));
    return _mm256_xor_si256(outside, _mm256_set1_epi32(-1));
  }
  template <Compare kCompare>
  static __m256i holds(__m256 x, __m256 lower, __m256 upper) {
    if constexpr (kCompare == Compare::kGreaterOrEqual) return _mm256_castps_si256(_mm256_cmp_ps(x, lower, _CMP_GE_OQ));
    if constexpr (kCompare == Compare::kGreater) return _mm256_castps_si256(_mm256_cmp_ps(x, lower, _CMP_GT_OQ));
    if constexpr (kCompare == Compare::kNotGreaterOrEqual)
      return _mm256_castps_si256(_mm256_cmp_ps(x, lower, _CMP_NGE_UQ));
    return between(lower, x, upper);
  }
  static __m256i with_bit(__m256i words, __m256i is_set, uint32_t bit) {
    return _mm256_or_si256(words, _mm256_and_si256(is_set, _mm256_set1_epi32(static_cast<int32_t>(bit))));
  }
};

constexpr int kLanes = 32;
constexpr int kStepRows = 6;      // two times three lookups
constexpr int kStepsToFlush = 8;  // before a byte sum could overflow

constexpr NibbleTable kTable = make_nibble_table();

inline __m256i table_row(uint16_t offset) {
  return _mm256_broadcastsi128_si256(*reinterpret_cast<const __m128i*>(kTable.rows + offset));
}

// 16-bit sums of one output channel, for the even and the odd bytes of each vector.
template <int kVectors>
struct PixelSums {
  __m256i even[kVectors], odd[kVectors];

  void clear() {
    for (int v = 0; v < kVectors; ++v) even[v] = odd[v] = _mm256_setzero_si256();
  }
  void add(const __m256i* bytes) {
    const __m256i even_bytes = _mm256_set1_epi16(255);
    for (int v = 0; v < kVectors; ++v) {
      even[v] = _mm256_add_epi16(even[v], _mm256_and_si256(bytes[v], even_bytes));
      odd[v] = _mm256_add_epi16(odd[v], _mm256_srli_epi16(bytes[v], 8));
    }
  }
  void store(int32_t* counts) const {
    for (int v = 0; v < kVectors; ++v, counts += kLanes) {
      const __m256i low = _mm256_unpacklo_epi16(even[v], odd[v]);   // pixels 0-7, 16-23
      const __m256i high = _mm256_unpackhi_epi16(even[v], odd[v]);  // pixels 8-15, 24-31
      store_eight(counts, _mm256_castsi256_si128(low));
      store_eight(counts + 8, _mm256_castsi256_si128(high));
      store_eight(counts + 16, _mm256_extracti128_si256(low, 1));
      store_eight(counts + 24, _mm256_extracti128_si256(high, 1));
    }
  }
  static void store_eight(int32_t* counts, __m128i values) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(counts), _mm256_cvtepu16_epi32(values));
  }
};

// The table rows of three rows of the column, and their lookups for one vector, added.
struct ThreeRows {
  __m256i first, second, third;

  explicit ThreeRows(const uint16_t* offsets)
      : first(table_row(offsets[0])), second(table_row(offsets[1])), third(table_row(offsets[2])) {}

  template <int kVectors>
  __m256i look_up(const __m256i* cells) const {
    return _mm256_add_epi8(
        _mm256_add_epi8(_mm256_shuffle_epi8(first, cells[0]), _mm256_shuffle_epi8(second, cells[kVectors])),
        _mm256_shuffle_epi8(third, cells[2 * kVectors]));
  }
};

// Ends the work on one vector before the next one begins: with all of them in flight the compiler runs out of registers
// and keeps sums in memory, which costs a tenth of the speed.
inline void keep_in_registers(__m256i& a, __m256i& b) { asm volatile("" : "+x"(a), "+x"(b)); }

// counts: two rows, of the even and the odd output channel.
template <int kVectors>
void count_pair(const void* column, int64_t rows, const uint16_t* offsets, int32_t* counts) {
  const __m256i low_half = _mm256_set1_epi8(15);
  const auto* cells = static_cast<const __m256i*>(column);
  PixelSums<kVectors> even, odd;
  even.clear();
  odd.clear();
  for (int64_t steps = rows / kStepRows; steps > 0; steps -= kStepsToFlush) {
    __m256i low[kVectors], high[kVectors];
    for (int v = 0; v < kVectors; ++v) low[v] = high[v] = _mm256_setzero_si256();
    const int until_flush = steps < kStepsToFlush ? static_cast<int>(steps) : kStepsToFlush;
    for (int step = 0; step < until_flush; ++step) {
      __m256i first_high[kVectors];
      const ThreeRows first(offsets);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const __m256i found = first.look_up<kVectors>(cells + v);
        low[v] = _mm256_add_epi8(low[v], _mm256_and_si256(found, low_half));
        first_high[v] = _mm256_andnot_si256(low_half, found);
        keep_in_registers(low[v], first_high[v]);
      }
      const ThreeRows second(offsets + 3);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) {
        const __m256i found = second.look_up<kVectors>(cells + 3 * kVectors + v);
        low[v] = _mm256_add_epi8(low[v], _mm256_and_si256(found, low_half));
        const __m256i halves = _mm256_avg_epu8(first_high[v], _mm256_andnot_si256(low_half, found));
        high[v] = _mm256_add_epi8(high[v], _mm256_srli_epi16(halves, 3));
        keep_in_registers(low[v], high[v]);
      }
      cells += kStepRows * kVectors;
      offsets += kStepRows;
    }
    even.add(low);
    odd.add(high);
  }
  even.store(counts);
  odd.store(counts + kMostTilePixels);
}

void count(const CountTask& t) {
  const auto* offsets = static_cast<const uint16_t*>(t.weights);
  int32_t* counts = t.counts;
  for (int pair = 0; pair < kBlockOutputs / 2; ++pair, offsets += t.rows, counts += 2 * kMostTilePixels) {
    if (t.vectors == 1) count_pair<1>(t.column, t.rows, offsets, counts);
    if (t.vectors == 2) count_pair<2>(t.column, t.rows, offsets, counts);
    if (t.vectors == 3) count_pair<3>(t.column, t.rows, offsets, counts);
  }
}

// words: [count] -> cells: [count], the four bits from `shift` on. count is a multiple of 32.
void split_nibbles(const uint32_t* words, int64_t count, int shift, uint8_t* cells) {
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7), four_bits = _mm256_set1_epi32(15);
  const __m128i by = _mm_cvtsi32_si128(shift);
  for (int64_t i = 0; i < count; i += kLanes) {
    __m256i part[4];
    for (int j = 0; j < 4; ++j) {
      const __m256i loaded = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(words + i + 8 * j));
      part[j] = _mm256_and_si256(_mm256_srl_epi32(loaded, by), four_bits);
    }
    const __m256i bytes =
        _mm256_packus_epi16(_mm256_packus_epi32(part[0], part[1]), _mm256_packus_epi32(part[2], part[3]));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(cells + i), _mm256_permutevar8x32_epi32(bytes, order));
  }
}

int64_t differing_bits(const int32_t* a, const int32_t* b, int64_t words) {
  int64_t total = 0, i = 0;
  for (; i + 2 <= words; i += 2) {
    uint64_t left, right;
    std::memcpy(&left, a + i, sizeof left);
    std::memcpy(&right, b + i, sizeof right);
    total += _mm_popcnt_u64(left ^ right);
  }
  return i < words ? total + _mm_popcnt_u32(static_cast<uint32_t>(a[i] ^ b[i])) : total;
}

bool supported() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("popcnt") &&
         __builtin_cpu_supports("f16c");
}

}  // namespace

const Kernels& avx2_kernels() {
  static constexpr Kernels kernels{"avx2",
                                   Cell::kNibble,
                                   kLanes,
                                   3,
                                   3,
                                   0,
                                   kStepRows,
                                   65535 / 4,  // the sums are 16 bits wide
                                   600,
                                   supported,
                                   count,
                                   finish<Avx2Lanes, FinishTask>,
                                   gather_runs<Avx2Lanes, 32, 1>,
                                   nullptr,
                                   split_nibbles,
                                   pack<Avx2Lanes>,
                                   differing_bits,
                                   Avx2Lanes::kWidth,
                                   Avx2Lanes::kFloatOutputs,
                                   50,
                                   average<Avx2Lanes>,
                                   pointwise<Avx2Lanes>,
                                   stem<Avx2Lanes>};
  return kernels;
}

}  // namespace bnn::cpu

#endif
