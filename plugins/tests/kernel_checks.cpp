// Every set of kernels that this processor supports, compared with the plain loops: convolutions of random geometry
// with every epilogue, the layers of real networks, fully connected layers, packing; float layers
// (`float_layers.cpp`); convolutions on matrix units (`matrix_convolution.cpp`).
// Bit for bit, but that a NaN is a NaN; sums of real products, of which each set has its own order, within their
// rounding.
//
// It needs nothing but the kernels, so it runs where Python does not: on the machine that it was compiled for, or under
// an emulator.

#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "c_api/c_api.h"
#include "core/bits.h"
#include "tests/cases.h"
#include "tests/tally.h"

namespace bnn::tests {
namespace {

constexpr int kConvolutions = 400, kLinears = 60, kPacks = 120, kAveragePools = 150, kStems = 60;

void check_convolution(Convolution conv, Random& random, std::vector<Tally>& tallies) {
  const std::vector<const char*> sets = supported_kernels();
  const Result expected = conv.run("reference", 1);
  for (size_t i = 0; i < sets.size(); ++i) {
    const bool refused = expected.y.bytes.empty() && expected.bits.empty();
    const Result found = conv.run(sets[i], static_cast<int>(random.between(1, 3)));
    note(tallies[i], !refused && same(found, expected), sets[i], conv.describe());
  }
}

// A fully connected layer is a 1x1 convolution of an image of one pixel, which is how the plain loops compute it.
void check_linear(Random& random, std::vector<Tally>& tallies) {
  Convolution conv;
  bnn_conv2d_call& c = conv.call;
  c.group = 1;
  c.channels = random.between(1, 300);
  c.levels = random.between(BNN_BIPOLAR, BNN_TERNARY);
  for (int i = 0; i < 2; ++i) c.strides[i] = c.dilations[i] = 1;
  conv.fit(random.between(1, 5), 1, 1, random.between(1, 70), 1, 1);
  conv.fill(random, static_cast<int>(random.between(0, 1)));
  conv.lower.clear(), conv.upper.clear();  // a float output and packed bits are not one operator here
  const Result expected = conv.run("reference", 1);
  const std::vector<const char*> sets = supported_kernels();
  for (size_t i = 0; i < sets.size(); ++i) {
    Result found = expected;
    bnn_linear_call call{};
    call.channels = c.channels, call.levels = c.levels, call.batch = c.packed_dims[0], call.outputs = conv.outputs();
    call.packed = c.packed, call.weight = c.weight, call.scale = c.scale, call.bias = c.bias;
    call.accumulator_lower = c.accumulator_lower, call.accumulator_upper = c.accumulator_upper;
    call.float16 = c.float16;
    std::fill(found.y.bytes.begin(), found.y.bytes.end(), uint8_t{77});
    std::fill(found.bits.begin(), found.bits.end(), kUnwritten);
    call.y = found.y.bytes.empty() ? nullptr : found.y.bytes.data();
    call.bits = found.bits.empty() ? nullptr : found.bits.data();
    const bool ran = bnn_linear(sets[i], static_cast<int>(random.between(1, 2)), &call) == 0;
    note(tallies[i], ran && same(found, expected), sets[i], "fully connected, as " + conv.describe());
  }
}

// The definition: one comparison a channel.
bool is_set(int64_t kind, float x, float lower, float upper) {
  if (kind == BNN_PACK_BIPOLAR) return x >= lower;
  if (kind == BNN_PACK_UNIPOLAR) return x > lower;
  return lower <= x && x <= upper;
}

void check_pack(Random& random, std::vector<Tally>& tallies) {
  bnn_pack_call call{};
  call.kind = random.between(BNN_PACK_BIPOLAR, BNN_PACK_INTERVAL);
  call.batch = random.between(1, 2);
  call.channels = random.between(1, random.chance(50) ? 70 : 300);
  call.pixels = random.between(1, 150);
  call.float16 = random.between(0, 1);
  const bool ternary = call.kind == BNN_PACK_TERNARY;
  call.lower_count = random.chance(50) ? 1 : call.channels;
  call.upper_count = random.chance(50) ? 1 : call.channels;
  const Reals x(random.floats(call.batch * call.channels * call.pixels, 20), call.float16 != 0);
  const Floats lower = random.floats(call.lower_count, 30), upper = random.floats(call.upper_count, 30);
  call.x = x.bytes.data(), call.lower = lower.data(), call.upper = upper.data();

  const int64_t words = words_for(call.channels), pixel_words = (ternary ? 2 : 1) * words;
  Words expected(static_cast<size_t>(call.batch * call.pixels * pixel_words), 0);
  const auto set_bit = [&](int64_t n, int64_t p, int64_t word, int64_t c) {
    expected[static_cast<size_t>((n * call.pixels + p) * pixel_words + word)] |= static_cast<int32_t>(1u << (c % 32));
  };
  for (int64_t n = 0; n < call.batch; ++n)
    for (int64_t c = 0; c < call.channels; ++c)
      for (int64_t p = 0; p < call.pixels; ++p) {
        const float value = x.at(static_cast<size_t>((n * call.channels + c) * call.pixels + p));
        if (ternary) {
          if (value > 0.0f) set_bit(n, p, c / 32, c);
          if (!(value >= 0.0f)) set_bit(n, p, words + c / 32, c);
        } else if (is_set(call.kind, value, lower[static_cast<size_t>(call.lower_count == 1 ? 0 : c)],
                          upper[static_cast<size_t>(call.upper_count == 1 ? 0 : c)])) {
          set_bit(n, p, c / 32, c);
        }
      }
  const std::vector<const char*> sets = supported_kernels();
  for (size_t i = 0; i < sets.size(); ++i) {
    Words found(expected.size(), kUnwritten);
    call.packed = found.data();
    const bool ran = bnn_pack(sets[i], static_cast<int>(random.between(1, 2)), &call) == 0;
    note(tallies[i], ran && found == expected, sets[i],
         "pack of kind " + std::to_string(call.kind) + ", " + std::to_string(call.channels) + " channels, " +
             std::to_string(call.pixels) + " pixels" + (call.float16 ? ", float16" : ""));
  }
}

// Returns how many failed.
int check_all() {
  const std::vector<const char*> sets = supported_kernels();
  std::vector<Tally> tallies(sets.size());
  Random random(1);
  for (int i = 0; i < kConvolutions; ++i) check_convolution(random_convolution(random), random, tallies);
  check_convolution(network_layer(random, 64, 12, 56, 1), random, tallies);
  check_convolution(network_layer(random, 128, 20, 28, 2), random, tallies);
  check_convolution(network_layer(random, 256, 8, 14, 1), random, tallies);
  check_convolution(network_layer(random, 512, 16, 7, 1), random, tallies);
  check_convolution(greatest_count(), random, tallies);
  for (int i = 0; i < kLinears; ++i) check_linear(random, tallies);
  for (int i = 0; i < kPacks; ++i) check_pack(random, tallies);
  for (int i = 0; i < kAveragePools; ++i) check_average_pool(random, tallies);
  for (int i = 0; i < kStems; ++i) check_stem(random, tallies);
  tallies.emplace_back();
  check_matrix_convolutions(random, tallies);
  int failed = 0;
  for (size_t i = 0; i < tallies.size(); ++i) {
    const char* name = i < sets.size() ? sets[i] : "plain matrix unit";
    std::printf("%s: %d passed, %d failed\n", name, tallies[i].passed, tallies[i].failed);
    failed += tallies[i].failed;
  }
  return failed;
}

}  // namespace
}  // namespace bnn::tests

int main() { return bnn::tests::check_all() == 0 ? 0 : 1; }
