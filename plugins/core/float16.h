// IEEE 754 binary16 as a storage type. Nothing computes in it: values are widened, exactly, and rounded once when
// stored.
#pragma once

#include <cstdint>
#include <cstring>

namespace bnn {

struct Half {
  uint16_t bits;
};

inline float to_float(Half half) {
  const uint32_t sign = static_cast<uint32_t>(half.bits & 0x8000u) << 16;
  const uint32_t exponent = (half.bits >> 10) & 0x1fu, fraction = half.bits & 0x3ffu;
  if (exponent == 0) {  // a zero or a subnormal: fraction * 2^-24, exact in float32
    const float magnitude = static_cast<float>(fraction) * 5.9604644775390625e-8f;
    return sign ? -magnitude : magnitude;
  }
  const uint32_t bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | fraction << 13;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

// Rounds to nearest, ties to even; beyond 65520 to infinity. A NaN stays one.
inline Half to_half(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint16_t sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<uint16_t>(sign | 0x7e00u)};
  if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};  // 65520 and more
  const auto rounded = [](uint32_t fraction, uint32_t dropped) {  // fraction / 2^dropped, to nearest even
    const uint32_t half_unit = 1u << (dropped - 1), rest = fraction & ((1u << dropped) - 1);
    const uint32_t down = fraction >> dropped;
    return down + (rest > half_unit || (rest == half_unit && (down & 1u)));
  };
  const uint32_t exponent = magnitude >> 23;
  if (exponent >= 113)  // normal: rebias; a carry out of the fraction raises the exponent, as it should
    return {static_cast<uint16_t>(sign | rounded(magnitude - (112u << 23), 13))};
  if (exponent < 102) return {sign};  // less than half of the smallest subnormal
  const uint32_t fraction = (magnitude & 0x7fffffu) | 0x800000u;
  return {static_cast<uint16_t>(sign | rounded(fraction, 126 - exponent))};
}

}  // namespace bnn
