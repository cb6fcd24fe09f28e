// Random calls of the kernels: bits, operands with the odd numbers among them, geometries that fit.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "c_api/c_api.h"
#include "core/bits.h"
#include "core/float_values.h"

namespace bnn::tests {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();

constexpr int32_t kUnwritten = 0x4d4d4d4d;  // in memory that is to be overwritten

using Words = std::vector<int32_t>;
using Floats = std::vector<float>;

class Random {
 public:
  explicit Random(uint32_t seed) : generator_(seed) {}

  int64_t between(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(generator_); }
  bool chance(int percent) { return between(1, 100) <= percent; }
  template <class Value, size_t kCount>
  Value one_of(const Value (&values)[kCount]) {
    return values[between(0, kCount - 1)];
  }
  Words words(int64_t count) {
    Words found(static_cast<size_t>(count));
    for (int32_t& word : found) word = static_cast<int32_t>(generator_());
    return found;
  }
  // Normally distributed; `odd` percent of them are zeros of either sign, infinite, subnormal or NaN.
  Floats floats(int64_t count, int odd = 5) {
    static constexpr float kOdd[] = {0.0f, -0.0f, kNaN, kInfinity, -kInfinity, 1e-40f, -1e-7f, 1e30f};
    Floats found(static_cast<size_t>(count));
    std::normal_distribution<float> normal;
    for (float& value : found) value = chance(odd) ? one_of(kOdd) : normal(generator_);
    return found;
  }

 private:
  std::mt19937 generator_;
};

// Real numbers in the type that a call asks for; the rest of this file goes on in float32.
struct Reals {
  Reals() = default;
  Reals(const Floats& values, bool is_float16) : float16(is_float16), bytes(values.size() * (is_float16 ? 2 : 4)) {
    for (size_t i = 0; i < values.size(); ++i) store_value(bytes.data(), static_cast<int64_t>(i), float16, values[i]);
  }
  float at(size_t i) const { return load_value(bytes.data(), static_cast<int64_t>(i), float16); }
  size_t size() const { return bytes.size() / (float16 ? 2 : 4); }

  bool float16 = false;
  std::vector<uint8_t> bytes;
};

inline bool same(const Reals& a, const Reals& b) {
  for (size_t i = 0; i < a.size(); ++i) {
    const float x = a.at(i), y = b.at(i);
    const bool both_nan = std::isnan(x) && std::isnan(y);
    if (!both_nan && std::memcmp(&x, &y, sizeof x) != 0) return false;
  }
  return a.size() == b.size();
}

struct Result {
  Reals y;
  Words bits;
};

inline bool same(const Result& a, const Result& b) { return same(a.y, b.y) && a.bits == b.bits; }

// A convolution and all that its call points at.
struct Convolution {
  bnn_conv2d_call call{};
  int64_t out_height = 1, out_width = 1;
  Words packed, weight, accumulator_lower, accumulator_upper;
  Floats scale, bias, slope, shift, lower, upper;
  Reals residual;

  int64_t pixels() const { return call.packed_dims[0] * out_height * out_width; }
  int64_t outputs() const { return call.weight_dims[0]; }

  void fit(int64_t batch, int64_t height, int64_t width, int64_t outputs, int64_t kernel_height, int64_t kernel_width) {
    const auto levels = static_cast<Levels>(call.levels);
    const int64_t packed_dims[] = {batch, height, width, planes_of(levels) * words_for(call.channels)};
    const int64_t weight_dims[] = {outputs, kernel_height, kernel_width, words_for(call.channels / call.group)};
    std::memcpy(call.packed_dims, packed_dims, sizeof packed_dims);
    std::memcpy(call.weight_dims, weight_dims, sizeof weight_dims);
    const int64_t* p = call.pads;
    out_height = (height + p[0] + p[2] - call.dilations[0] * (kernel_height - 1) - 1) / call.strides[0] + 1;
    out_width = (width + p[1] + p[3] - call.dilations[1] * (kernel_width - 1) - 1) / call.strides[1] + 1;
  }

  // Bits, also in places that stand for no channel, and operands of an epilogue. kind: 0 to 11, see `describe`.
  void fill(Random& random, int kind) {
    packed = random.words(call.packed_dims[0] * call.packed_dims[1] * call.packed_dims[2] * call.packed_dims[3]);
    weight = random.words(call.weight_dims[0] * call.weight_dims[1] * call.weight_dims[2] * call.weight_dims[3]);
    if (kind == 0) {
      for (Words* bounds : {&accumulator_lower, &accumulator_upper})
        for (int64_t o = 0; o < outputs(); ++o) bounds->push_back(static_cast<int32_t>(random.between(-40, 40)));
      return;
    }
    call.float16 = kind % 2;
    call.activation = kind / 4;
    scale = random.floats(outputs());
    bias = random.floats(outputs());
    if (kind % 4 >= 2) residual = Reals(random.floats(pixels() * outputs()), call.float16 != 0);
    if (call.activation == BNN_PRELU) slope = random.floats(outputs()), shift = random.floats(outputs());
    call.clip_low = -0.5f;
    call.clip_high = 1.5f;
    if (random.chance(50)) lower = random.floats(outputs()), upper = random.floats(outputs());
  }

  Result run(const char* kernels, int threads) {
    Result result;
    if (accumulator_lower.empty())
      result.y = Reals(Floats(static_cast<size_t>(pixels() * outputs()), 77.0f), call.float16 != 0);
    if (!lower.empty() || !accumulator_lower.empty())
      result.bits.assign(static_cast<size_t>(pixels() * words_for(outputs())), kUnwritten);
    call.packed = packed.data();
    call.weight = weight.data();
    call.scale = pointer(scale), call.bias = pointer(bias);
    call.slope = pointer(slope), call.shift = pointer(shift);
    call.lower = pointer(lower), call.upper = pointer(upper);
    call.residual = pointer(residual.bytes);
    call.accumulator_lower = pointer(accumulator_lower), call.accumulator_upper = pointer(accumulator_upper);
    call.y = result.y.bytes.empty() ? nullptr : result.y.bytes.data();
    call.bits = result.bits.empty() ? nullptr : result.bits.data();
    if (bnn_conv2d(kernels, threads, &call) != 0) result = Result{};
    return result;
  }

  std::string describe() const {
    const bnn_conv2d_call& c = call;
    char text[400];
    std::snprintf(text, sizeof text,
                  "conv %lldx%lldx%lldx%lld, weight %lldx%lldx%lldx%lld, %lld channels, levels %lld, group %lld, "
                  "strides %lldx%lld, pads %lld %lld %lld %lld of %lld, dilations %lldx%lld, activation %lld%s%s%s",
                  (long long)c.packed_dims[0], (long long)c.packed_dims[1], (long long)c.packed_dims[2],
                  (long long)c.packed_dims[3], (long long)c.weight_dims[0], (long long)c.weight_dims[1],
                  (long long)c.weight_dims[2], (long long)c.weight_dims[3], (long long)c.channels, (long long)c.levels,
                  (long long)c.group, (long long)c.strides[0], (long long)c.strides[1], (long long)c.pads[0],
                  (long long)c.pads[1], (long long)c.pads[2], (long long)c.pads[3], (long long)c.pad_value,
                  (long long)c.dilations[0], (long long)c.dilations[1], (long long)c.activation,
                  c.residual ? ", residual" : "", c.bits ? ", bits" : "", c.float16 ? ", float16" : "");
    return text;
  }

 private:
  template <class Value>
  static const Value* pointer(const std::vector<Value>& values) {
    return values.empty() ? nullptr : values.data();
  }
};

inline Convolution random_convolution(Random& random) {
  static constexpr int64_t kChannels[] = {1, 3, 4, 5, 31, 32, 33, 64, 70, 100, 128};
  static constexpr int64_t kGroups[] = {1, 1, 1, 2, 3};
  Convolution conv;
  bnn_conv2d_call& c = conv.call;
  c.group = random.one_of(kGroups);
  c.channels = c.group * random.one_of(kChannels);
  c.levels = random.between(BNN_BIPOLAR, BNN_TERNARY);
  c.pad_value = random.between(-1, 1);
  int64_t kernel[2], size[2];
  for (int i = 0; i < 2; ++i) {
    kernel[i] = random.between(1, 4);
    c.strides[i] = random.chance(5) ? 50 : random.between(1, 3);
    c.dilations[i] = random.between(1, 3);
    c.pads[i] = random.between(0, 3);
    c.pads[i + 2] = random.between(0, 3);
    const int64_t least = c.dilations[i] * (kernel[i] - 1) + 1 - c.pads[i] - c.pads[i + 2];
    size[i] = random.between(least < 1 ? 1 : least, 19);
  }
  conv.fit(random.between(1, 2), size[0], size[1], c.group * random.between(1, 24), kernel[0], kernel[1]);
  conv.fill(random, static_cast<int>(random.between(0, 11)));
  return conv;
}

// A square 3x3 layer of a network, padded by 1.
inline Convolution network_layer(Random& random, int64_t channels, int64_t outputs, int64_t size, int64_t stride) {
  Convolution conv;
  bnn_conv2d_call& c = conv.call;
  c.group = 1;
  c.channels = channels;
  for (int i = 0; i < 2; ++i) c.strides[i] = stride, c.dilations[i] = 1, c.pads[i] = c.pads[i + 2] = 1;
  conv.fit(1, size, size, outputs, 3, 3);
  conv.fill(random, 2);
  return conv;
}

// Nothing but ones against nothing but zeros: the greatest count there can be.
inline Convolution greatest_count() {
  Convolution conv;
  bnn_conv2d_call& c = conv.call;
  c.group = 1;
  c.channels = 16384;
  for (int i = 0; i < 2; ++i) c.strides[i] = c.dilations[i] = 1;
  conv.fit(1, 5, 5, 2, 5, 5);
  conv.packed.assign(25 * 512, -1);
  conv.weight.assign(2 * 25 * 512, 0);
  conv.scale = {1.0f, 1.0f};
  conv.bias = {0.0f, 0.0f};
  return conv;
}

}  // namespace bnn::tests
