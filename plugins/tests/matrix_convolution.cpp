// The outer loops around a matrix unit, with one in plain C++ and with the processor's own, where it has one. Bit for
// bit.

#include "cpu/matrix_conv.h"

#include <cstring>

#include "core/float_values.h"
#include "cpu/kernels.h"
#include "cpu/matrix_unit.h"
#include "tests/tally.h"
#include "tests/threaded_runtime.h"

namespace bnn::tests {
namespace {

using namespace cpu;

void nothing() {}

void spread(const SpreadTask& t) {
  for (int64_t cell = 0; cell < t.before + t.pixels + t.after; ++cell)
    for (int c = 0; c < kStepChannels; ++c) {
      const int64_t pixel = cell - t.before;
      int value = t.pad_value;
      if (pixel >= 0 && pixel < t.pixels) {
        const int32_t* words = t.words + pixel * t.pixel_stride;
        value = bit_of(words, c % t.channels);
        if (t.levels == Levels::kBipolar) value = 2 * value - 1;
        if (t.levels == Levels::kTernary) value -= bit_of(words + t.second_plane, c % t.channels);
      }
      t.bytes[cell * kStepChannels + c] = static_cast<int8_t>(c < t.channels ? value : 0);
    }
}

thread_local int32_t registers[kProductTiles][kTileProducts];

// At the last moment, so that products which are read before are found.
void store(const ProductTiles& products) {
  for (int i = 0; i < kProductTiles; ++i)
    if (products.tiles[i]) std::memcpy(products.tiles[i], registers[i], sizeof registers[i]);
}

// Reads weights only where they are kept, so that ones that should not have been are found.
void multiply(const MultiplyTask& t) {
  store(t.earlier);
  std::memset(registers, 0, sizeof registers);
  for (int i = 0; i < t.position_tiles * t.output_tiles; ++i)
    if (t.adds) std::memcpy(registers[i], t.products.tiles[i], sizeof registers[i]);
  for (int64_t step = 0; step < t.steps; ++step) {
    for (int tile = 0; tile < t.output_tiles; ++tile) {
      int8_t* weights = t.weights + (tile * t.kept_steps + step % t.kept_steps) * kTileBytes;
      const uint64_t* bits = t.weight_bits + tile * t.second_bits + step * kTileRows;
      for (int i = 0; i < kTileBytes && !t.are_kept; ++i)
        weights[i] = bits[i / kStepChannels] >> i % kStepChannels & 1 ? 1 : -1;
      for (int position = 0; position < t.position_tiles * kTileRows; ++position) {
        int32_t* products =
            registers[position / kTileRows * t.output_tiles + tile] + position % kTileRows * kTileOutputs;
        for (int o = 0; o < kTileOutputs; ++o)
          for (int c = 0; c < kStepChannels; ++c)
            products[o] += t.activations[t.offsets[step] + position * kStepChannels + c] *
                           weights[c / 4 * kStepChannels + 4 * o + c % 4];
      }
    }
    if (step > 0 && !t.meanwhile.is_done()) t.meanwhile.next_piece();
  }
}

void finish(const EpilogueKind& kind, const EpilogueOperands& e, const FinishProductsTask& t) {
  for (int p = 0; p < t.pixels; ++p) {
    uint32_t bits = 0;
    for (int i = 0; i < t.outputs; ++i) {
      const int64_t o = t.first_output + i, at = i * t.plane_stride + p;
      const int32_t accumulator = t.products[t.offsets[p] + i];
      float z = 0.0f;
      if (kind.float_output) {
        z = finish_value(kind, e, o, accumulator, kind.residual ? load_value(t.residual, at, kind.float16) : 0.0f);
        store_value(t.y, at, kind.float16, z);
      }
      if (kind.packed_output && finish_bit(kind, e, o, accumulator, z)) bits |= uint32_t{1} << i;
    }
    if (t.bits) std::memcpy(t.bits + p * t.bit_stride * 4, &bits, static_cast<size_t>(t.bit_bytes));
  }
}

constexpr MatrixUnit kPlainUnit{nothing, nothing, spread, multiply, store, finish};

Result run(const MatrixUnit& unit, Convolution& conv, Result result) {
  bnn_conv2d_call& c = conv.call;
  ConvAttributes a;
  a.channels = c.channels, a.levels = static_cast<Levels>(c.levels);
  std::memcpy(a.strides, c.strides, sizeof a.strides);
  std::memcpy(a.pads, c.pads, sizeof a.pads);
  std::memcpy(a.dilations, c.dilations, sizeof a.dilations);
  a.group = c.group, a.pad_value = static_cast<int32_t>(c.pad_value);
  const ConvWeightShape weight_shape = bnn::weight_shape(a, Dims(c.weight_dims, c.weight_dims + 4));
  const ConvShape shape = conv_shape(a, weight_shape, Dims(c.packed_dims, c.packed_dims + 4));
  std::fill(result.y.bytes.begin(), result.y.bytes.end(), uint8_t{77});
  std::fill(result.bits.begin(), result.bits.end(), kUnwritten);
  const EpilogueKind kind{c.residual != nullptr, static_cast<Activation>(c.activation), !result.y.bytes.empty(),
                          !result.bits.empty(), c.float16 != 0};
  const EpilogueOperands operands{
      c.scale,    c.bias,     c.slope, c.shift, c.lower, c.upper, c.accumulator_lower, c.accumulator_upper,
      c.clip_low, c.clip_high};
  ThreadedRuntime runtime;
  MatrixConv(unit, a, weight_shape, c.weight)
      .run(shape, kind, operands,
           {c.packed, c.residual, result.y.bytes.empty() ? nullptr : result.y.bytes.data(),
            result.bits.empty() ? nullptr : result.bits.data()},
           runtime);
  return result;
}

Convolution random_possible(Random& random) {
  Convolution conv = random_convolution(random);
  bnn_conv2d_call& c = conv.call;
  const int64_t size[2] = {c.packed_dims[1], c.packed_dims[2]};
  int64_t outputs = c.weight_dims[0];
  if (c.group > 1) {
    c.channels = c.group * kWordBits * random.between(1, 3);
    outputs = c.group * kTileOutputs * random.between(1, 3);
  }
  conv.fit(c.packed_dims[0], size[0], size[1], outputs, c.weight_dims[1], c.weight_dims[2]);
  Convolution filled;
  filled.call = conv.call, filled.out_height = conv.out_height, filled.out_width = conv.out_width;
  filled.fill(random, static_cast<int>(random.between(0, 11)));
  return filled;
}

// A large window.
Convolution large_window(Random& random, int64_t channels, int64_t size, int64_t kernel_height, int64_t kernel_width) {
  Convolution conv = network_layer(random, channels, 40, size, 1);
  Convolution large;
  large.call = conv.call;
  for (int64_t& pad : large.call.pads) pad = 3;
  large.fit(2, size, size, 40, kernel_height, kernel_width);
  large.fill(random, 6);
  return large;
}

// With packed outputs, which a unit may store in another way for each number of words.
Convolution with_bits(Random& random, int64_t outputs, int64_t stride, bool of_integers) {
  Convolution conv = network_layer(random, 64, outputs, 11, stride);
  Convolution packed;
  packed.call = conv.call, packed.out_height = conv.out_height, packed.out_width = conv.out_width;
  packed.fill(random, of_integers ? 0 : 3);
  if (!of_integers) packed.lower = random.floats(outputs), packed.upper = random.floats(outputs);
  return packed;
}

}  // namespace

void check_matrix_convolutions(Random& random, std::vector<Tally>& tallies) {
  std::vector<Convolution> convolutions;
  for (int i = 0; i < 100; ++i) convolutions.push_back(random_possible(random));
  convolutions.push_back(network_layer(random, 64, 20, 57, 1));  // two bands, not of one size
  convolutions.push_back(network_layer(random, 300, 40, 14, 1));
  convolutions.push_back(network_layer(random, 512, 16, 7, 1));
  convolutions.push_back(network_layer(random, 64, 20, 113, 2));  // the same, of four planes
  convolutions.push_back(network_layer(random, 64, 40, 57, 2));   // a pair of tiles of outputs, and half of one alone
  convolutions.push_back(network_layer(random, 300, 40, 14, 2));
  convolutions.push_back(network_layer(random, 70, 16, 50, 3));
  // Not all weights are kept, on an image of one tile and on a larger one.
  convolutions.push_back(large_window(random, 100, 3, 7, 7));
  convolutions.push_back(large_window(random, 100, 17, 7, 7));
  // Products come to memory while others there are still to be finished.
  convolutions.push_back(large_window(random, 64, 28, 5, 4));
  for (const int64_t outputs : {10, 32, 48, 64, 96, 100, 128, 250, 256, 290})
    for (const bool of_integers : {false, true})
      for (const int64_t stride : {1, 2}) convolutions.push_back(with_bits(random, outputs, stride, of_integers));
  const std::vector<const char*> sets = supported_kernels();
  for (Convolution& conv : convolutions) {
    const Result expected = conv.run("reference", 1);
    note(tallies.back(), same(run(kPlainUnit, conv, expected), expected), "plain matrix unit", conv.describe());
    for (size_t i = 0; i < sets.size(); ++i) {
      const MatrixUnit* unit = kernels_named(sets[i]).matrix_unit;
      if (unit) note(tallies[i], same(run(*unit, conv, expected), expected), sets[i], conv.describe());
    }
  }
}

}  // namespace bnn::tests
