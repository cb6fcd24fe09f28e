// AVX-512 with VPOPCNTDQ: a lane is a pixel, a cell is 32 channels of it, and one instruction counts 16 of them.
//
// Counting differences takes an exclusive or, a population count and an addition for each 512 bits, 1.5 cycles of the
// two vector ports. Here it is 1.25, by adding up bits before they are counted: three numbers s, x and y of one bit
// each are the sum bit s ^ x ^ y and a carry, so that
//
//     popcount(s) + popcount(x) + popcount(y) = popcount(s ^ x ^ y) + 2 popcount(carry)
//
// That is a carry-save adder (Harley and Seal; Warren, "Hacker's Delight", 5-2), which by itself saves nothing: it
// takes as many instructions as it leaves out. But here the x are differences of activations and weights, whose sum
// bits are those of sums: an exclusive or over rows of activations is made once for all output channels, one over rows
// of weights once and for all. So for a row and the next one, with s the exclusive or of all rows before,
//
//     x = a ^ w,  next = chained a ^ chained w (which is s ^ x ^ y),  carry(s, x, next),  population count,  addition
//
// are five instructions for 1024 bits, and y is never made. Included headers hold no function that other files could
// share: see `finish_lanes.h`.

#if defined(__x86_64__)

#include <immintrin.h>

#include "cpu/average_pool_lanes.h"
#include "cpu/avx512_lanes.h"
#include "cpu/finish_lanes.h"
#include "cpu/gather_runs.h"
#include "cpu/pack_lanes.h"
#include "cpu/stem_lanes.h"

namespace bnn::cpu {
namespace {

constexpr int kLanes = 16;
constexpr int kMostCounted = 3;
constexpr int kMostTail = 8;  // beyond that another vector is cheaper

// Of rows x_0, x_1, x_2... every other one becomes the exclusive or of all so far: x_0, s_1, x_2, s_3... What is done
// to activations and to weights is done to their differences.
void chain_rows(uint32_t* cells, int64_t rows, int64_t row_cells) {
  for (int64_t k = 1; k < rows; k += 2) {
    uint32_t* row = cells + k * row_cells;
    for (int64_t i = 0; i < row_cells; ++i) row[i] ^= row[i - row_cells];
    if (k == 1) continue;
    for (int64_t i = 0; i < row_cells; ++i) row[i] ^= row[i - 2 * row_cells];
  }
}

constexpr int kCarry = 0xd4;  // of s + x + y, for s, x and s ^ x ^ y: x where s and x are the same, else y

// Ends the work on one vector before the next one begins: with all of them in flight the compiler runs out of
// registers.
inline void keep_in_registers(__m512i& a, __m512i& b) { asm volatile("" : "+v"(a), "+v"(b)); }

// kVectors of the tile's vectors, from `first` on.
template <int kVectors>
void count_vectors(const CountTask& t, int first) {
  const auto* column = static_cast<const uint32_t*>(t.column) + first * kLanes;
  const auto* weights = static_cast<const uint32_t*>(t.weights);
  __m512i carries[kBlockOutputs][kVectors], chains[kBlockOutputs][kVectors];
#pragma GCC unroll 4
  for (int o = 0; o < kBlockOutputs; ++o)
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) carries[o][v] = chains[o][v] = _mm512_setzero_si512();
  for (int64_t k = 0; k < t.rows; k += 2, column += 2 * t.row_cells, weights += 2 * kBlockOutputs) {
    _mm_prefetch(reinterpret_cast<const char*>(weights) + kPrefetchedBytes, _MM_HINT_T0);
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) {
      asm("" : "+r"(weights));  // read anew as operands for each vector, and not held in eight registers
      const __m512i cells = _mm512_load_si512(column + v * kLanes);
      const __m512i chained = _mm512_load_si512(column + t.row_cells + v * kLanes);
#pragma GCC unroll 4
      for (int o = 0; o < kBlockOutputs; ++o) {
        const auto weight = static_cast<int32_t>(weights[o]);
        const auto chained_weight = static_cast<int32_t>(weights[kBlockOutputs + o]);
        const __m512i x = _mm512_xor_si512(cells, _mm512_set1_epi32(weight));
        const __m512i next = _mm512_xor_si512(chained, _mm512_set1_epi32(chained_weight));
        const __m512i carry = _mm512_ternarylogic_epi32(chains[o][v], x, next, kCarry);
        carries[o][v] = _mm512_add_epi32(carries[o][v], _mm512_popcnt_epi32(carry));
        chains[o][v] = next;
        keep_in_registers(carries[o][v], chains[o][v]);
      }
    }
  }
#pragma GCC unroll 4
  for (int o = 0; o < kBlockOutputs; ++o)
#pragma GCC unroll 3
    for (int v = 0; v < kVectors; ++v) {
      const __m512i twice = _mm512_add_epi32(carries[o][v], carries[o][v]);
      const __m512i counts = _mm512_add_epi32(twice, _mm512_popcnt_epi32(chains[o][v]));
      _mm512_store_si512(counts_of<int32_t>(t.counts, o) + (first + v) * kLanes, counts);
    }
}

// The pixels of a tail: here a lane is an output channel of the block. Eight rows are counted at a time, then two.
void count_tail(const CountTask& t) {
  const auto* weights = static_cast<const uint32_t*>(t.weights);
  const int64_t words = t.rows * kBlockOutputs;
  const auto differ = [](const uint32_t* a, const uint32_t* b) {
    return _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a)),
                         _mm_loadu_si128(reinterpret_cast<const __m128i*>(b)));
  };
  for (int p = 0; p < t.tail_pixels; ++p) {
    const uint32_t* cells = t.tail + p * words;
    __m512i sums = _mm512_setzero_si512(), chains = sums;
    int64_t i = 0;
    for (; i + 2 * kLanes <= words; i += 2 * kLanes) {
      const __m512i low = _mm512_xor_si512(_mm512_loadu_si512(cells + i), _mm512_loadu_si512(weights + i));
      const __m512i high =
          _mm512_xor_si512(_mm512_loadu_si512(cells + i + kLanes), _mm512_loadu_si512(weights + i + kLanes));
      // In quarters: x_0 s_1 x_2 s_3 and x_4 s_5 x_6 s_7.
      const __m512i x = _mm512_shuffle_i64x2(low, high, 0x88), next = _mm512_shuffle_i64x2(low, high, 0xdd);
      const __m512i before = _mm512_alignr_epi64(next, chains, 6);
      sums = _mm512_add_epi32(sums, _mm512_popcnt_epi32(_mm512_ternarylogic_epi32(before, x, next, kCarry)));
      chains = next;
    }
    const __m256i eight = _mm256_add_epi32(_mm512_castsi512_si256(sums), _mm512_extracti64x4_epi64(sums, 1));
    __m128i carries = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
    __m128i chain = _mm512_extracti32x4_epi32(chains, 3);
    for (; i < words; i += 2 * kBlockOutputs) {
      const __m128i x = differ(cells + i, weights + i);
      const __m128i next = differ(cells + i + kBlockOutputs, weights + i + kBlockOutputs);
      carries = _mm_add_epi32(carries, _mm_popcnt_epi32(_mm_ternarylogic_epi32(chain, x, next, kCarry)));
      chain = next;
    }
    alignas(16) int32_t row[kBlockOutputs];
    const __m128i counts = _mm_add_epi32(_mm_add_epi32(carries, carries), _mm_popcnt_epi32(chain));
    _mm_store_si128(reinterpret_cast<__m128i*>(row), counts);
    for (int o = 0; o < kBlockOutputs; ++o) counts_of<int32_t>(t.counts, o)[t.vectors * kLanes + p] = row[o];
  }
}

void count(const CountTask& t) {
  // In parts as even as can be, of as many vectors as registers hold the sums of.
  const int parts = (t.vectors + kMostCounted - 1) / kMostCounted;
  for (int part = 0; part < parts; ++part) {
    const int first = part * t.vectors / parts, vectors = (part + 1) * t.vectors / parts - first;
    if (vectors == 1) count_vectors<1>(t, first);
    if (vectors == 2) count_vectors<2>(t, first);
    if (vectors == 3) count_vectors<3>(t, first);
  }
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

const Kernels& avx512_kernels() {
  static constexpr Kernels kernels{"avx512",
                                   Cell::kWord,
                                   kLanes,
                                   kMostCounted,
                                   12,
                                   kMostTail,
                                   2,
                                   int64_t{1} << 25,
                                   1000,
                                   supported,
                                   count,
                                   finish<Avx512Lanes, FinishTask>,
                                   gather_runs<Avx512Lanes, 64, 4>,
                                   chain_rows,
                                   nullptr,
                                   pack<Avx512Lanes>,
                                   differing_bits,
                                   Avx512Lanes::kWidth,
                                   Avx512Lanes::kFloatOutputs,
                                   90,
                                   average<Avx512Lanes>,
                                   pointwise<Avx512Lanes>,
                                   stem<Avx512Lanes>};
  return kernels;
}

}  // namespace bnn::cpu

#endif
