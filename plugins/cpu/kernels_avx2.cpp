// AVX2: counting by table lookup. A lane is a pixel, a cell is 4 channels of it.
//
// A byte shuffle looks 32 cells up in a table of 16 entries, which four weight bits of *two* output channels choose:
// the low half of each result byte is the count for the one, the high half for the other. One shuffle so does 256
// bit-multiplications, and the sums are kept in bytes as long as they fit:
//
// - three lookups added: at most 12 in each half, so the halves do not run into each other;
// - these sums, added up modulo 256, and beside that their high halves alone: multiples of 16, averaged by twos, four
//   times. That is exact, and in the end a byte is the sum of the high halves of 16 of them, at most 192;
// - sixteen times as many is their share of the sum modulo 256; the rest of it is the sum of the low halves, at most
//   192 as well. Then both are added to 16-bit sums.

#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
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
  static constexpr bool kStoresApart = false;
  static constexpr int kWidth = 8;
  using Count = uint16_t;
  static constexpr int64_t kFewClasses = 8;
  static constexpr bool kHasBases = true;
  static constexpr int kFloatOutputs = 4;

  static __m256i first(int lanes) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(lanes), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static __m256i load(const uint16_t* p) {
    return _mm256_cvtepu16_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(p)));
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
  static __m256 spread(const float* p) { return _mm256_broadcast_ss(p); }
  template <bool kFew>
  static __m256i look_up(const int32_t* row, __m256i classes) {
    if constexpr (!kFew) return _mm256_i32gather_epi32(row, classes, 4);
    return _mm256_permutevar8x32_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(row)), classes);
  }
  template <bool kFew>
  static __m256 look_up(const float* row, __m256i classes) {
    if constexpr (!kFew) return _mm256_i32gather_ps(row, classes, 4);
    return _mm256_permutevar8x32_ps(_mm256_loadu_ps(row), classes);
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
constexpr int kHalfStepRows = 6;              // two times three lookups
constexpr int kStepRows = 2 * kHalfStepRows;  // whose high halves are averaged twice
constexpr int kGroupSteps = 4;                // and twice more: of 16 times three lookups
constexpr int kMostGroups = 6;                // of a part, whose rows of the column stay in the nearest cache

constexpr NibbleTable kTable = make_nibble_table();

inline __m256i table_row(uint16_t offset) {
  return _mm256_broadcastsi128_si256(*reinterpret_cast<const __m128i*>(kTable.rows + offset));
}

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
// and keeps sums in memory, which costs a fifth of the speed.
inline void keep_in_register(__m256i& sum) { asm volatile("" : "+x"(sum)); }

// Adds six rows of the column to the sums of both halves. Returns the average of their high halves in `high`.
template <int kVectors>
inline __attribute__((always_inline)) void add_half_step(const __m256i* cells, const uint16_t* offsets, __m256i* both,
                                                         __m256i* high) {
  const __m256i low_half = _mm256_set1_epi8(15);
  const ThreeRows first(offsets);
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const __m256i found = first.look_up<kVectors>(cells + v);
    both[v] = _mm256_add_epi8(both[v], found);
    high[v] = _mm256_andnot_si256(low_half, found);
    keep_in_register(both[v]);
  }
  const ThreeRows second(offsets + 3);
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const __m256i found = second.look_up<kVectors>(cells + 3 * kVectors + v);
    both[v] = _mm256_add_epi8(both[v], found);
    high[v] = _mm256_avg_epu8(high[v], _mm256_andnot_si256(low_half, found));
    keep_in_register(both[v]);
  }
}

// What a group of steps adds up to: the sum of both halves modulo 256, and the averages of the high ones of each step.
template <int kVectors>
struct Group {
  __m256i both[kVectors];
  __m256i high[kGroupSteps][kVectors];
};

// 16-bit sums of one output channel and one vector of pixels: of whole words modulo 65536, which are an even byte and
// 256 times an odd one, and of the odd bytes.
struct PixelSums {
  __m256i words, odd;

  void add(__m256i bytes) {
    words = _mm256_add_epi16(words, bytes);
    odd = _mm256_add_epi16(odd, _mm256_srli_epi16(bytes, 8));
  }
  void store(uint16_t* counts) const {
    const __m256i even = _mm256_sub_epi16(words, _mm256_slli_epi16(odd, 8));
    const __m256i low = _mm256_unpacklo_epi16(even, odd);   // pixels 0-7, 16-23
    const __m256i high = _mm256_unpackhi_epi16(even, odd);  // pixels 8-15, 24-31
    auto* eights = reinterpret_cast<__m128i*>(counts);
    _mm_store_si128(eights, _mm256_castsi256_si128(low));
    _mm_store_si128(eights + 1, _mm256_castsi256_si128(high));
    _mm_store_si128(eights + 2, _mm256_extracti128_si256(low, 1));
    _mm_store_si128(eights + 3, _mm256_extracti128_si256(high, 1));
  }
};

// The sums of two output channels.
struct PairSums {
  PixelSums even, odd;

  template <int kVectors>
  void add(const Group<kVectors>& group, int v) {
    const auto of_two = [&](int step) { return _mm256_avg_epu8(group.high[step][v], group.high[step + 1][v]); };
    const __m256i high = _mm256_avg_epu8(of_two(0), of_two(2));
    const __m256i high_share = _mm256_slli_epi16(_mm256_and_si256(high, _mm256_set1_epi8(15)), 4);
    even.add(_mm256_sub_epi8(group.both[v], high_share));
    odd.add(high);
  }
};

// Goes on in the column by up to a group's steps.
template <int kVectors>
inline __attribute__((always_inline)) void add_group(const __m256i*& cells, const uint16_t*& offsets, int64_t& rows,
                                                     Group<kVectors>& group) {
  const __m256i zero = _mm256_setzero_si256();
  __m256i both[kVectors];
  for (int v = 0; v < kVectors; ++v) both[v] = zero;
  int step = 0;
  for (; step < kGroupSteps && rows >= kStepRows; ++step, rows -= kStepRows) {
    __m256i first[kVectors], second[kVectors];
    add_half_step<kVectors>(cells, offsets, both, first);
    add_half_step<kVectors>(cells + kHalfStepRows * kVectors, offsets + kHalfStepRows, both, second);
    for (int v = 0; v < kVectors; ++v) group.high[step][v] = _mm256_avg_epu8(first[v], second[v]);
    cells += kStepRows * kVectors;
    offsets += kStepRows;
  }
  if (step < kGroupSteps && rows > 0) {
    __m256i first[kVectors];
    add_half_step<kVectors>(cells, offsets, both, first);
    for (int v = 0; v < kVectors; ++v) group.high[step][v] = _mm256_avg_epu8(first[v], zero);
    rows = 0;
    ++step;
  }
  for (; step < kGroupSteps; ++step)
    for (int v = 0; v < kVectors; ++v) group.high[step][v] = zero;
  for (int v = 0; v < kVectors; ++v) group.both[v] = both[v];
}

// Up to kMostGroups groups of the column for one pair of output channels.
struct Part {
  const __m256i* cells;
  const uint16_t* offsets;
  int64_t rows;
  bool is_first, is_last;
  PairSums* sums;    // [kVectors], of the parts before
  uint16_t* counts;  // what the last part makes of them, in the rows of two outputs
};

template <int kVectors>
__attribute__((noinline)) void add_part(Part part) {
  Group<kVectors> groups[kMostGroups];
  int count = 0;
  while (part.rows > 0) add_group<kVectors>(part.cells, part.offsets, part.rows, groups[count++]);
  for (int v = 0; v < kVectors; ++v) {
    PairSums sum{};
    if (!part.is_first) sum = part.sums[v];
    for (int i = 0; i < count; ++i) sum.add(groups[i], v);
    if (!part.is_last) {
      part.sums[v] = sum;
      continue;
    }
    sum.even.store(part.counts + v * kLanes);
    sum.odd.store(part.counts + kMostTilePixels + v * kLanes);
  }
}

// A part of the column is in the nearest cache when the second pair of outputs meets it.
template <int kVectors>
void count_vectors(const CountTask& t) {
  constexpr int kPairs = kBlockOutputs / 2;
  constexpr int64_t kMostRows = int64_t{kMostGroups} * kGroupSteps * kStepRows;
  const auto* cells = static_cast<const __m256i*>(t.column);
  const auto* offsets = static_cast<const uint16_t*>(t.weights);
  PairSums sums[kPairs][kVectors];
  for (int64_t row = 0; row < t.rows; row += kMostRows) {
    const int64_t rows = std::min(kMostRows, t.rows - row);
    for (int pair = 0; pair < kPairs; ++pair)
      add_part<kVectors>({cells + row * kVectors, offsets + pair * t.rows + row, rows, row == 0, row + rows == t.rows,
                          sums[pair], counts_of<uint16_t>(t.counts, 2 * pair)});
  }
}

void count(const CountTask& t) {
  if (t.vectors == 1) count_vectors<1>(t);
  if (t.vectors == 2) count_vectors<2>(t);
  if (t.vectors == 3) count_vectors<3>(t);
}

// Byte by byte: four vectors of bytes, and of each the low and the high nibbles.
void split_nibbles(const SplitTask& t) {
  const __m256i low_half = _mm256_set1_epi8(15), order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  const __m256i by_byte =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
  for (int64_t i = 0; i < t.count; i += kLanes) {
    const __m256i padding = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(t.padding + i));
    __m256i part[4];
    for (int j = 0; j < 4; ++j)
      part[j] = _mm256_shuffle_epi8(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(t.words + i + 8 * j)), by_byte);
    const __m256i low[2] = {_mm256_unpacklo_epi32(part[0], part[1]), _mm256_unpacklo_epi32(part[2], part[3])};
    const __m256i high[2] = {_mm256_unpackhi_epi32(part[0], part[1]), _mm256_unpackhi_epi32(part[2], part[3])};
    const __m256i bytes[4] = {_mm256_unpacklo_epi64(low[0], low[1]), _mm256_unpackhi_epi64(low[0], low[1]),
                              _mm256_unpacklo_epi64(high[0], high[1]), _mm256_unpackhi_epi64(high[0], high[1])};
    for (int j = 0; j < 4; ++j) {
      const __m256i sorted = _mm256_permutevar8x32_epi32(bytes[j], order);
      const __m256i low_nibbles = _mm256_and_si256(sorted, low_half);
      const __m256i high_nibbles = _mm256_and_si256(_mm256_srli_epi16(sorted, 4), low_half);
      auto* row = reinterpret_cast<__m256i*>(t.cells + 2 * j * kSplitWords + i);
      _mm256_storeu_si256(row, _mm256_or_si256(low_nibbles, padding));
      _mm256_storeu_si256(row + kSplitWords / kLanes, _mm256_or_si256(high_nibbles, padding));
    }
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
                                   kHalfStepRows,
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
