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
#include <type_traits>

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

template <bool kWholeStep>
__mmask64 bits_of(const int32_t* words) {
  if constexpr (!kWholeStep) return static_cast<uint32_t>(*words);
  uint64_t bits;
  std::memcpy(&bits, words, sizeof bits);
  return bits;
}

// kWholeStep: more channels than a word has.
template <bool kWholeStep, bool kTernary>
int8_t* spread_pixels(const SpreadTask& t, __m512i lesser, __m512i one, int8_t* bytes) {
  const int32_t* words = t.words;
  const int64_t stride = t.pixel_stride, second_plane = t.second_plane;
  for (int8_t* const end = bytes + t.pixels * kStepChannels; bytes != end; bytes += kStepChannels, words += stride) {
    __m512i values = _mm512_mask_blend_epi8(bits_of<kWholeStep>(words), lesser, one);
    if constexpr (kTernary)
      values = _mm512_mask_sub_epi8(values, bits_of<kWholeStep>(words + second_plane), values, one);
    _mm512_store_si512(bytes, values);
  }
  return bytes;
}

int8_t* spread_padding(__m512i padding, int64_t pixels, int8_t* bytes) {
  for (int64_t p = 0; p < pixels; ++p, bytes += kStepChannels) _mm512_store_si512(bytes, padding);
  return bytes;
}

void spread(const SpreadTask& t) {
  const __mmask64 used = ~uint64_t{0} >> (kStepChannels - t.channels);
  const __m512i one = _mm512_maskz_set1_epi8(used, 1), minus_one = _mm512_maskz_set1_epi8(used, -1);
  const __m512i lesser = t.levels == Levels::kBipolar ? minus_one : _mm512_setzero_si512();
  const __m512i padding = _mm512_maskz_set1_epi8(used, static_cast<char>(t.pad_value));
  int8_t* bytes = spread_padding(padding, t.before, t.bytes);
  const bool is_whole = t.channels > kWordBits, is_ternary = t.levels == Levels::kTernary;
  const auto spread_with = is_ternary ? is_whole ? spread_pixels<true, true> : spread_pixels<false, true>
                           : is_whole ? spread_pixels<true, false>
                                      : spread_pixels<false, false>;
  spread_padding(padding, t.after, spread_with(t, lesser, one, bytes));
}

template <int kOutputTiles>
inline __attribute__((always_inline)) void spread_weights(const MultiplyTask& t, int64_t step) {
  if (step >= t.steps) return;
  const __m512i one = _mm512_set1_epi8(1), minus_one = _mm512_set1_epi8(-1);
  for (int tile = 0; tile < kOutputTiles; ++tile) {
    const uint64_t* bits = t.weight_bits + tile * t.second_bits + step * kTileRows;
    int8_t* bytes = t.weights + (tile * t.kept_steps + (step & (t.kept_steps - 1))) * kTileBytes;
    for (int line = 0; line < 2; ++line)
      _mm_prefetch(reinterpret_cast<const char*>(bits) + kPrefetchedBytes + line * kStepChannels, _MM_HINT_T0);
#pragma GCC unroll 16
    for (int r = 0; r < kTileRows; ++r)
      _mm512_store_si512(bytes + r * kStepChannels, _mm512_mask_blend_epi8(bits[r], minus_one, one));
  }
  asm volatile("" ::: "memory");  // tile loads do not tell the compiler what they read
}

// Of register i: what it has goes to memory, and what it is to add to comes. A register's number has to be written out.
#define BNN_STORE_TILE(i, products) \
  if ((products).tiles[i]) _tile_stored(i, (products).tiles[i], 64)
#define BNN_BEGIN_TILE(i)                              \
  if constexpr (is_first) {                            \
    BNN_STORE_TILE(i, t.earlier);                      \
    if constexpr (i < kPositionTiles * kOutputTiles) { \
      if (t.adds)                                      \
        _tile_loadd(i, t.products.tiles[i], 64);       \
      else                                             \
        _tile_zero(i);                                 \
    }                                                  \
  }

template <int kPositionTiles, int kOutputTiles, bool kSpread>
void multiply_tiles(const MultiplyTask& task) {
  const MultiplyTask t = task;
  if constexpr (kSpread) {
    spread_weights<kOutputTiles>(t, 0);
    spread_weights<kOutputTiles>(t, 1);
  }
  const auto multiply_step = [&](int64_t step, auto is_first) __attribute__((always_inline)) {
    const int8_t* activations = t.activations + t.offsets[step];
    const int8_t* weights = t.weights + (step & (t.kept_steps - 1)) * kTileBytes;
    _tile_loadd(4, weights, 64);
    _tile_loadd(5, activations, 64);
    BNN_BEGIN_TILE(0);
    _tile_dpbssd(0, 5, 4);
    if constexpr (kOutputTiles > 1) {
      _tile_loadd(6, weights + t.kept_steps * kTileBytes, 64);
      BNN_BEGIN_TILE(1);
      _tile_dpbssd(1, 5, 6);
    } else {
      if constexpr (kPositionTiles > 1) _tile_loadd(6, activations + kTileBytes, 64);
      BNN_BEGIN_TILE(1);
      if constexpr (kPositionTiles > 1) _tile_dpbssd(1, 6, 4);
    }
    if constexpr (kSpread) spread_weights<kOutputTiles>(t, step + 2);
    if constexpr (kOutputTiles > 1) {
      if constexpr (kPositionTiles > 1) _tile_loadd(7, activations + kTileBytes, 64);
      BNN_BEGIN_TILE(2);
      if constexpr (kPositionTiles > 1) _tile_dpbssd(2, 7, 4);
      BNN_BEGIN_TILE(3);
      if constexpr (kPositionTiles > 1) _tile_dpbssd(3, 7, 6);
    } else {
      if constexpr (kPositionTiles > 2) _tile_loadd(7, activations + 2 * kTileBytes, 64);
      BNN_BEGIN_TILE(2);
      if constexpr (kPositionTiles > 2) _tile_dpbssd(2, 7, 4);
      if constexpr (kPositionTiles > 3) _tile_loadd(5, activations + 3 * kTileBytes, 64);
      BNN_BEGIN_TILE(3);
      if constexpr (kPositionTiles > 3) _tile_dpbssd(3, 5, 4);
    }
  };
  multiply_step(0, std::true_type{});
  for (int64_t step = 1; step < t.steps; ++step) {
    multiply_step(step, std::false_type{});
    if (!t.meanwhile.is_done()) t.meanwhile.next_piece();
  }
}

template <bool kSpread>
void multiply_with(const MultiplyTask& t) {
  if (t.output_tiles == 2)
    return t.position_tiles == 1 ? multiply_tiles<1, 2, kSpread>(t) : multiply_tiles<2, 2, kSpread>(t);
  if (t.position_tiles == 1) multiply_tiles<1, 1, kSpread>(t);
  if (t.position_tiles == 2) multiply_tiles<2, 1, kSpread>(t);
  if (t.position_tiles == 3) multiply_tiles<3, 1, kSpread>(t);
  if (t.position_tiles == 4) multiply_tiles<4, 1, kSpread>(t);
}

void multiply(const MultiplyTask& t) { t.are_kept ? multiply_with<false>(t) : multiply_with<true>(t); }

void store(const ProductTiles& products) {
  BNN_STORE_TILE(0, products);
  BNN_STORE_TILE(1, products);
  BNN_STORE_TILE(2, products);
  BNN_STORE_TILE(3, products);
}

constexpr MatrixUnit kUnit{acquire, release, spread, multiply, store, finish<Avx512Lanes, FinishProductsTask>};

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
