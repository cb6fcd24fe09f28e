// The bit contract, in C++. `bnn_deploy/bits.py` states the same in Python.
//
// - Bit 1 is the greater of the two levels, bit 0 the lesser.
// - 32 channels to a word, channel 0 in the least significant bit; unused high bits of the last word are 0.
// - Activations [N, H, W, words], weights [O, KH, KW, words of one group]: channels last.
// - A ternary activation has two planes, P (+1) then N (-1), each of words_for(channels) words.
// - NaN is the lesser level of every kind.
#pragma once

#include <cstdint>

namespace bnn {

constexpr int64_t kWordBits = 32;

constexpr int64_t words_for(int64_t channels) { return (channels + kWordBits - 1) / kWordBits; }

enum class Levels { kBipolar, kUnipolar, kTernary };

constexpr int64_t planes_of(Levels levels) { return levels == Levels::kTernary ? 2 : 1; }

// The value that an activation of all-zero bits stands for, and so the value of a padded tap that is left at 0 bits.
constexpr int32_t value_of_zero_bits(Levels levels) { return levels == Levels::kBipolar ? -1 : 0; }

constexpr bool bit_of(const int32_t* words, int64_t channel) {
  return (static_cast<uint32_t>(words[channel / kWordBits]) >> (channel % kWordBits)) & 1u;
}

// The value of one channel of an activation. words: the words of one pixel, both planes if ternary.
constexpr int32_t value_of(const int32_t* words, int64_t channel, int64_t channels, Levels levels) {
  const int32_t bit = bit_of(words, channel);
  if (levels == Levels::kTernary) return bit - int32_t{bit_of(words + words_for(channels), channel)};
  return levels == Levels::kBipolar ? 2 * bit - 1 : bit;
}

// A mask of the bits that `channels` channels use in word `word`.
constexpr uint32_t used_bits(int64_t channels, int64_t word) {
  const int64_t left = channels - word * kWordBits;
  return left >= kWordBits ? ~uint32_t{0} : (uint32_t{1} << left) - 1u;
}

}  // namespace bnn
