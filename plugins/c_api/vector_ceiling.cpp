#include "c_api/vector_ceiling.h"

#include <chrono>
#include <cstdint>
#include <string>

#include "core/error.h"
#include "cpu/kernels.h"
#include "cpu/matrix_unit.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

// The compiler takes these values for new ones, and so neither hoists nor drops what is done with them.
#if defined(__x86_64__)
#define BNN_OPAQUE(value) asm volatile("" : "+v"(value))
#elif defined(__aarch64__)
#define BNN_OPAQUE(value) asm volatile("" : "+w"(value))
#endif

namespace bnn {
namespace {

#if defined(__x86_64__)

// As `count_vectors<3>` of kernels_avx512.cpp: three vectors of pixels, four output channels, two rows.
__attribute__((target("avx512f,avx512vpopcntdq"))) int64_t count_avx512(int runs) {
  __m512i cells[3], weights[2], sums[12], chains[12];
  for (int i = 0; i < 3; ++i) cells[i] = _mm512_set1_epi32(i);
  for (__m512i& weight : weights) {
    weight = _mm512_set1_epi32(1);
    BNN_OPAQUE(weight);
  }
#pragma GCC unroll 12
  for (int i = 0; i < 12; ++i) sums[i] = chains[i] = _mm512_setzero_si512();
  for (int run = 0; run < runs; ++run) {
#pragma GCC unroll 12
    for (int i = 0; i < 12; ++i) {
      BNN_OPAQUE(cells[i / 4]);
      const __m512i x = _mm512_xor_si512(cells[i / 4], weights[0]), next = _mm512_xor_si512(cells[i / 4], weights[1]);
      const __m512i carry = _mm512_ternarylogic_epi32(chains[i], x, next, 0xd4);
      sums[i] = _mm512_add_epi32(sums[i], _mm512_popcnt_epi32(carry));
      chains[i] = next;
      BNN_OPAQUE(sums[i]);
    }
  }
#pragma GCC unroll 12
  for (int i = 0; i < 12; ++i) {
    BNN_OPAQUE(sums[i]);
    BNN_OPAQUE(chains[i]);
  }
  return 2 * 12 * 512;
}

__attribute__((target("avx2"))) inline __m256i look_three_up(const __m256i (&tables)[3], __m256i& cells) {
  BNN_OPAQUE(cells);
  return _mm256_add_epi8(_mm256_add_epi8(_mm256_shuffle_epi8(tables[0], cells), _mm256_shuffle_epi8(tables[1], cells)),
                         _mm256_shuffle_epi8(tables[2], cells));
}

// As `add_group` of kernels_avx2.cpp: four times three lookups for two output channels, here of two vectors of pixels.
__attribute__((target("avx2"))) int64_t count_avx2(int runs) {
  const __m256i low_half = _mm256_set1_epi8(15);
  __m256i cells = low_half, tables[3] = {low_half, low_half, low_half};
  for (__m256i& table : tables) BNN_OPAQUE(table);
  __m256i both[2];
  for (__m256i& sum : both) sum = _mm256_setzero_si256();
  const auto high_of = [&](int v) __attribute__((target("avx2"), always_inline)) {
    const __m256i found = look_three_up(tables, cells);
    both[v] = _mm256_add_epi8(both[v], found);
    return _mm256_andnot_si256(low_half, found);
  };
  for (int run = 0; run < runs; ++run)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      const __m256i first = high_of(v), second = high_of(v), third = high_of(v), fourth = high_of(v);
      __m256i quarter = _mm256_avg_epu8(_mm256_avg_epu8(first, second), _mm256_avg_epu8(third, fourth));
      BNN_OPAQUE(quarter);
    }
  for (__m256i& sum : both) BNN_OPAQUE(sum);
  return 2 * 12 * 256;
}

#if defined(BNN_AMX)

// As `multiply_tiles<4>` of kernels_amx.cpp: four tiles of products.
__attribute__((target("amx-tile,amx-int8"))) int64_t multiply_amx(int runs) {
  const cpu::MatrixUnit& unit = *cpu::amx_kernels().matrix_unit;
  unit.acquire();
  for (int run = 0; run < runs; ++run) {
    _tile_dpbssd(0, 4, 5);
    _tile_dpbssd(1, 4, 5);
    _tile_dpbssd(2, 4, 5);
    _tile_dpbssd(3, 4, 5);
  }
  unit.release();
  return 4 * cpu::kTileProducts * cpu::kStepChannels;
}

#endif

#elif defined(__aarch64__)

// As `count_output` of kernels_neon.cpp, here for two output channels.
int64_t count_neon(int runs) {
  uint8x16_t cells[4], weights[2], sums[8];
  for (int i = 0; i < 4; ++i) cells[i] = vdupq_n_u8(static_cast<uint8_t>(i));
  for (uint8x16_t& weight : weights) {
    weight = vdupq_n_u8(1);
    BNN_OPAQUE(weight);
  }
  for (auto& sum : sums) sum = vdupq_n_u8(0);
  for (int run = 0; run < runs; ++run) {
    for (auto& cell : cells) BNN_OPAQUE(cell);
#pragma GCC unroll 8
    for (int i = 0; i < 8; ++i) sums[i] = vaddq_u8(sums[i], vcntq_u8(veorq_u8(cells[i % 4], weights[i / 4])));
  }
  for (auto& sum : sums) BNN_OPAQUE(sum);
  return 8 * 128;
}

#endif

using Count = int64_t (*)(int runs);  // returns the products of one run

Count count_of(const std::string& name) {
#if defined(BNN_AMX)
  if (name == "amx") return multiply_amx;
#endif
#if defined(__x86_64__)
  if (name == "avx512") return count_avx512;
  if (name == "avx2") return count_avx2;
#elif defined(__aarch64__)
  if (name == "neon") return count_neon;
#endif
  return nullptr;
}

}  // namespace

double vector_ceiling(const char* kernels, int runs) {
  const std::string name = cpu::kernels_named(kernels).name;  // refuses those that do not run here
  const Count count = count_of(name);
  if (count == nullptr) refuse("the kernels '", name, "' have no vector instructions of their own");
  const auto start = std::chrono::steady_clock::now();
  const int64_t products = count(runs);
  const std::chrono::duration<double, std::nano> time = std::chrono::steady_clock::now() - start;
  return static_cast<double>(products) * runs / time.count();
}

}  // namespace bnn
