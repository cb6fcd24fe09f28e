// The three ways in which a matrix instruction sums products of bits, and how the exact integer comes out of each.
//
// With A the bits of an activation and W those of a weight (0 or 1), over all taps of a window:
//
//   X = popcount(A xor W)   XorPopcount   sm_75 to sm_89
//   D = popcount(A and W)   AndPopcount   sm_90, where xor is emulated
//   V = sum of A (2 W - 1)  Int8          sm_100 and later, where both are emulated: bits become bytes
//
// and, for AND, S = popcount(A) over the same taps. A padded tap has A = 0. The integer is
//
//   accumulator = kCount * count + kSum * S + border[class][output]
//
// where `border`, which depends only on which taps of the window are padded, sums over the taps what `Levels` and the
// product ask for: with c the channels, and ones = popcount(W) of the tap,
//
//                        count    S   valid tap       padded tap
//   Xor  bipolar           -2     .   c               2 ones            K - 2X, and X of a padded tap is ones
//        unipolar          -1     .   ones            ones              2D - S = popcount(W) - X
//        ternary           -1     .   0               0                 the same for P less that for N
//   And  bipolar            4    -2   c - 2 ones      0                 4D - 2S - 2 popcount(W) + K
//        unipolar, ternary  2    -1   0               0                 2D - S
//   Int8 bipolar            2     .   c - 2 ones      0                 A = (a + 1) / 2
//        unipolar, ternary  1     .   0               0
//
// and for a padding value other than 0, value * (2 ones - c) for each padded tap. A ternary count is that of plane P
// less that of plane N, and so is its S.
//
// Int8 counts 64 V. Where bits are widened in shared memory (widened_operands.cuh), A is 0 or 1 and the factor of it
// -64 or +64. Where they are widened in registers, two ones make 128, and 128 D less 64 S is 64 V.
#pragma once

#include "core/bits.h"
#include "cuda/ptx.cuh"

namespace bnn::cuda {

// A product takes the words of a step in kParts parts: `widen_a` and `widen_b` make the operands of one part of them,
// each once for all the products that it is used in.
//
//   kCountShift   counts are 2^kCountShift times those above
//   kNeedsSums    whether S is wanted
//   kSumInCount   times S is added to the count; 0: S is kept beside it
//   kWidens       whether it multiplies bytes, and WidenedOperands can take the place of these parts

constexpr bool is_bipolar(Levels levels) { return levels == Levels::kBipolar; }

struct XorPopcount {
  static constexpr bool kNeedsSums = false, kWidens = false;
  static constexpr int kCountShift = 0, kSumInCount = 0;
  static constexpr int count_factor(Levels levels) { return is_bipolar(levels) ? -2 : -1; }
  static constexpr int sum_factor(Levels) { return 0; }
  static constexpr int valid_tap(Levels levels, int channels, int ones) {
    return levels == Levels::kTernary ? 0 : is_bipolar(levels) ? channels : ones;
  }
  static constexpr int padded_tap(Levels levels, int, int ones) {
    return levels == Levels::kTernary ? 0 : is_bipolar(levels) ? 2 * ones : ones;
  }
  static constexpr int kParts = 1;
  BNN_DEVICE static uint32_t widen_a(uint32_t word, int) { return word; }
  BNN_DEVICE static uint32_t widen_b(uint32_t word, int) { return word; }
  BNN_DEVICE static void multiply(int (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    multiply_xor_popcount(c, a, b);
  }
};

struct AndPopcount {
  static constexpr bool kNeedsSums = true, kWidens = false;
  static constexpr int kCountShift = 0, kSumInCount = 0;
  static constexpr int count_factor(Levels levels) { return is_bipolar(levels) ? 4 : 2; }
  static constexpr int sum_factor(Levels levels) { return is_bipolar(levels) ? -2 : -1; }
  static constexpr int valid_tap(Levels levels, int channels, int ones) {
    return is_bipolar(levels) ? channels - 2 * ones : 0;
  }
  static constexpr int padded_tap(Levels, int, int) { return 0; }
  static constexpr int kParts = 1;
  BNN_DEVICE static uint32_t widen_a(uint32_t word, int) { return word; }
  BNN_DEVICE static uint32_t widen_b(uint32_t word, int) { return word; }
  BNN_DEVICE static void multiply(int (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    multiply_and_popcount(c, a, b);
  }
};

// The bits of each byte in the reverse order.
BNN_DEVICE uint32_t mirror_bytes(uint32_t word) {
  word = (word & 0x0f0f0f0fu) << 4 | (word >> 4 & 0x0f0f0f0fu);
  word = (word & 0x33333333u) << 2 | (word >> 2 & 0x33333333u);
  return (word & 0x55555555u) << 1 | (word >> 1 & 0x55555555u);
}

// Four bits of a word at a time, each left where it is in its byte: bit i of A's bytes counts 2^i, and of B's, which
// are mirrored in shared memory, 2^(7 - i). So a bit costs no shift, and each product that is not 0 is 128.
struct Int8 {
  static constexpr bool kNeedsSums = true, kWidens = true;
  static constexpr int kCountShift = 6, kSumInCount = -64;
  static constexpr int count_factor(Levels levels) { return is_bipolar(levels) ? 2 : 1; }
  static constexpr int sum_factor(Levels) { return 0; }
  static constexpr int valid_tap(Levels levels, int channels, int ones) {
    return is_bipolar(levels) ? channels - 2 * ones : 0;
  }
  static constexpr int padded_tap(Levels, int, int) { return 0; }
  static constexpr int kParts = 8;
  BNN_DEVICE static uint32_t widen_a(uint32_t word, int part) { return word & (0x01010101u << part); }
  BNN_DEVICE static uint32_t widen_b(uint32_t word, int part) { return word & (0x80808080u >> part); }
  BNN_DEVICE static void multiply(int (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    multiply_uint8(c, a, b);
  }
};

// Stands for the product that the device code is compiled for.
struct Native {};
constexpr int kFirstInt8 = 100;  // from compute capability 10.0 on that is Int8

template <class Product>
struct Resolve {
  using Type = Product;
};
template <>
struct Resolve<Native> {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
  using Type = Int8;
#elif defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  using Type = AndPopcount;
#else
  using Type = XorPopcount;
#endif
};

}  // namespace bnn::cuda
