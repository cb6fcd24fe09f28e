// AMX: a matrix unit beside AVX-512, which does everything else. 16384 products of bytes in 16 cycles: 2.5 times as
// many as the vector ports count bits.
//
// Every operand of a step is 1 KiB, loaded in 8 cycles from the nearest cache and in 20 from the next one, so what
// bounds a layer is where its bytes are. Weights are spread from bits as they are needed, two steps ahead: a tile that
// was just stored takes long to load.

#if defined(__x86_64__) && defined(__linux__)

#include <cpuid.h>
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "cpu/avx512_lanes.h"
#include "cpu/finish_products_lanes.h"
#include "cpu/kernels.h"
#include "cpu/matrix_unit.h"

namespace bnn::cpu {
namespace {

// All eight tiles are whole. The layout is that of the instruction LDTILECFG.
struct alignas(64) TileConfiguration {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

void acquire() {
  static constexpr TileConfiguration configuration;
  _tile_loadconfig(&configuration);
}

// Without it the system would save 8 KiB more whenever it takes the processor away.
void release() { _tile_release(); }

__mmask64 bits_of(const int32_t* words, int channels) {
  if (channels <= kWordBits) return static_cast<uint32_t>(*words);
  uint64_t bits;
  std::memcpy(&bits, words, sizeof bits);
  return bits;
}

void spread(const SpreadTask& t) {
  const __mmask64 used = ~uint64_t{0} >> (kStepChannels - t.channels);
  const __m512i one = _mm512_maskz_set1_epi8(used, 1), minus_one = _mm512_maskz_set1_epi8(used, -1);
  const __m512i lesser = t.levels == Levels::kBipolar ? minus_one : _mm512_setzero_si512();
  const __m512i padding = _mm512_maskz_set1_epi8(used, static_cast<char>(t.pad_value));
  const int32_t* words = t.words;
  for (int64_t p = 0; p < t.pixels; ++p, words += t.pixel_stride) {
    __m512i bytes = padding;
    if (t.words) bytes = _mm512_mask_blend_epi8(bits_of(words, t.channels), lesser, one);
    if (t.words && t.levels == Levels::kTernary)
      bytes = _mm512_mask_add_epi8(bytes, bits_of(words + t.second_plane, t.channels), bytes, minus_one);
    _mm512_store_si512(t.bytes + p * kStepChannels, bytes);
  }
}

inline __attribute__((always_inline)) void spread_weights(const MultiplyTask& t, int64_t step) {
  if (step >= t.steps) return;
  const __m512i one = _mm512_set1_epi8(1), minus_one = _mm512_set1_epi8(-1);
  const uint64_t* bits = t.weight_bits + step * kTileRows;
  int8_t* bytes = t.weights + (step & (t.kept_steps - 1)) * kTileBytes;
  for (int line = 0; line < 2; ++line)
    _mm_prefetch(reinterpret_cast<const char*>(bits) + kPrefetchedBytes + line * kStepChannels, _MM_HINT_T0);
#pragma GCC unroll 16
  for (int r = 0; r < kTileRows; ++r)
    _mm512_store_si512(bytes + r * kStepChannels, _mm512_mask_blend_epi8(bits[r], minus_one, one));
  asm volatile("" ::: "memory");  // tile loads do not tell the compiler what they read
}

template <int kTiles, bool kSpread>
void multiply_tiles(const MultiplyTask& task) {
  const MultiplyTask t = task;
  if (t.adds) {
    _tile_loadd(0, t.products, 64);
    if constexpr (kTiles > 1) _tile_loadd(1, t.products + kTileProducts, 64);
    if constexpr (kTiles > 2) _tile_loadd(2, t.products + 2 * kTileProducts, 64);
    if constexpr (kTiles > 3) _tile_loadd(3, t.products + 3 * kTileProducts, 64);
  } else {
    _tile_zero(0);
    if constexpr (kTiles > 1) _tile_zero(1);
    if constexpr (kTiles > 2) _tile_zero(2);
    if constexpr (kTiles > 3) _tile_zero(3);
  }
  if constexpr (kSpread) {
    spread_weights(t, 0);
    spread_weights(t, 1);
  }
  for (int64_t step = 0; step < t.steps; ++step) {
    const int8_t* activations = t.activations + t.offsets[step];
    _tile_loadd(4, t.weights + (step & (t.kept_steps - 1)) * kTileBytes, 64);
    _tile_loadd(5, activations, 64);
    _tile_dpbssd(0, 5, 4);
    if constexpr (kTiles > 1) {
      _tile_loadd(6, activations + kTileBytes, 64);
      _tile_dpbssd(1, 6, 4);
    }
    if constexpr (kSpread) spread_weights(t, step + 2);
    if constexpr (kTiles > 2) {
      _tile_loadd(7, activations + 2 * kTileBytes, 64);
      _tile_dpbssd(2, 7, 4);
    }
    if constexpr (kTiles > 3) {
      _tile_loadd(5, activations + 3 * kTileBytes, 64);
      _tile_dpbssd(3, 5, 4);
    }
    if (!t.meanwhile.is_done()) t.meanwhile.next_piece();
  }
  _tile_stored(0, t.products, 64);
  if constexpr (kTiles > 1) _tile_stored(1, t.products + kTileProducts, 64);
  if constexpr (kTiles > 2) _tile_stored(2, t.products + 2 * kTileProducts, 64);
  if constexpr (kTiles > 3) _tile_stored(3, t.products + 3 * kTileProducts, 64);
}

template <bool kSpread>
void multiply_with(const MultiplyTask& t) {
  if (t.tiles == 1) multiply_tiles<1, kSpread>(t);
  if (t.tiles == 2) multiply_tiles<2, kSpread>(t);
  if (t.tiles == 3) multiply_tiles<3, kSpread>(t);
  if (t.tiles == 4) multiply_tiles<4, kSpread>(t);
}

void multiply(const MultiplyTask& t) { t.are_kept ? multiply_with<false>(t) : multiply_with<true>(t); }

constexpr MatrixUnit kUnit{acquire, release, spread, multiply, finish<Avx512Lanes, FinishProductsTask>};

// Whether the system lets this process use tiles: it has to be asked (arch_prctl, Linux 5.16).
bool may_use_tiles() {
  constexpr int kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

bool supported() {
  static const bool is_supported = [] {
    constexpr unsigned kTiles = 1u << 24, kInt8 = 1u << 25;
    unsigned a = 0, b = 0, c = 0, d = 0;
    const bool has_tiles = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & kTiles) && (d & kInt8);
    return has_tiles && avx512_kernels().supported() && may_use_tiles();
  }();
  return is_supported;
}

}  // namespace

const Kernels& amx_kernels() {
  static const Kernels kernels = [] {
    Kernels with_unit = avx512_kernels();
    with_unit.name = "amx";
    with_unit.supported = supported;
    with_unit.matrix_unit = &kUnit;
    return with_unit;
  }();
  return kernels;
}

}  // namespace bnn::cpu

#endif
