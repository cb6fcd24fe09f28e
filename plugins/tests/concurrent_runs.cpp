// One prepared convolution, run by several threads at a time on images of different sizes, each with threads of its
// own: every result equals the plain loops'. Built with a sanitizer, which ends the program where it finds a race or an
// access out of bounds.

#include <cstdio>
#include <random>
#include <thread>
#include <vector>

#include "core/reference.h"
#include "cpu/packed_conv.h"
#include "tests/threaded_runtime.h"

namespace bnn {
namespace {

struct Image {
  ConvShape shape;
  std::vector<int32_t> packed, bits;
  std::vector<float> y;
};

constexpr int64_t kChannels = 70, kOutputs = 45;

std::vector<int32_t> random_words(int64_t count, std::mt19937& generator) {
  std::vector<int32_t> words(static_cast<size_t>(count));
  for (int32_t& word : words) word = static_cast<int32_t>(generator());
  return words;
}

bool test(const cpu::Kernels& kernels, Levels levels, int64_t group) {
  std::mt19937 generator(1);
  ConvAttributes attributes;
  attributes.channels = kChannels;
  attributes.levels = levels;
  attributes.group = group;
  for (int64_t& pad : attributes.pads) pad = 1;
  const Dims weight_dims{kOutputs / group * group, 3, 3, words_for(kChannels / group)};
  const auto weight = random_words(weight_dims[0] * 9 * weight_dims[3], generator);
  const cpu::PackedConv conv(kernels, attributes, weight_dims, weight.data());
  const int64_t outputs = weight_dims[0], words = planes_of(levels) * words_for(kChannels);

  const std::vector<float> ones(kOutputs, 1.0f), low(kOutputs, -5.0f), high(kOutputs, 50.0f), zeros(kOutputs, 0.0f);
  EpilogueOperands operands;
  operands.scale = ones.data();
  operands.bias = zeros.data();
  operands.lower = low.data();
  operands.upper = high.data();
  const EpilogueKind kind{false, Activation::kNone, true, true};

  std::vector<Image> images;
  for (const int64_t size : {1, 4, 7, 13, 30}) {
    Image image{conv_shape(attributes, conv.weight_shape(), {2, size, size + 2, words}), {}, {}, {}};
    image.packed = random_words(2 * size * (size + 2) * words, generator);
    const int64_t pixels = 2 * image.shape.pixels();
    std::vector<int32_t> sums(static_cast<size_t>(pixels * outputs));
    image.y.resize(sums.size());
    image.bits.resize(static_cast<size_t>(pixels * words_for(outputs)));
    reference::convolve(attributes, conv.weight_shape(), image.shape, image.packed.data(), weight.data(), sums.data());
    reference::finish(kind, operands, 2, outputs, image.shape.pixels(), sums.data(), nullptr, image.y.data(),
                      image.bits.data());
    images.push_back(std::move(image));
  }

  std::atomic<bool> right{true};
  const auto work = [&](size_t start) {
    tests::ThreadedRuntime runtime;
    for (size_t i = 0; i < 2 * images.size(); ++i) {
      const Image& image = images[(start + i) % images.size()];
      // Vectors of just the size: an access beyond their end is found.
      std::vector<float> y(image.y.size());
      std::vector<int32_t> bits(image.bits.size());
      conv.run(image.shape, kind, operands, {image.packed.data(), nullptr, y.data(), bits.data()}, runtime);
      if (y != image.y || bits != image.bits) right = false;
    }
  };
  std::vector<std::thread> threads;
  for (size_t start = 0; start < 3; ++start) threads.emplace_back(work, start);
  for (std::thread& thread : threads) thread.join();
  if (!right)
    std::printf("%s: wrong for levels %d, %d groups\n", kernels.name, static_cast<int>(levels),
                static_cast<int>(group));
  return right;
}

}  // namespace
}  // namespace bnn

int main() {
  int count = 0;
  bool right = true;
  const bnn::cpu::Kernels* const* sets = bnn::cpu::all_kernels(&count);
  for (int i = 0; i < count; ++i)
    for (const bnn::Levels levels : {bnn::Levels::kBipolar, bnn::Levels::kUnipolar, bnn::Levels::kTernary})
      for (const int64_t group : {1, 5})
        if (sets[i]->supported()) right &= bnn::test(*sets[i], levels, group);
  std::puts(right ? "all equal" : "FAILED");
  return right ? 0 : 1;
}
