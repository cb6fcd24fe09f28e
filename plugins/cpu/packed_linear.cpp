#include "cpu/packed_linear.h"

#include <algorithm>

#include "core/error.h"
#include "core/float_values.h"
#include "cpu/sizes.h"

namespace bnn::cpu {
namespace {

constexpr int64_t kOutputsPerTask = 128;  // a multiple of 32: no two tasks write to one word
constexpr int64_t kMostChannels = int64_t{1} << 30;

}  // namespace

PackedLinear::PackedLinear(const Kernels& kernels, int64_t channels, Levels levels, const Dims& dims,
                           const int32_t* weight)
    : kernels_(kernels), channels_(channels), words_(words_for(channels)), levels_(levels) {
  if (channels < 1 || channels > kMostChannels)
    refuse("attribute channels is ", channels, ", wanted 1 to ", kMostChannels);
  if (dims.size() != 2) refuse("weight has shape ", to_text(dims), ", wanted two axes: O, words");
  if (dims[1] != words_) refuse("weight has ", dims[1], " words, wanted ", words_, " for ", channels, " channels");
  outputs_ = dims[0];
  weight_.assign(weight, weight + outputs_ * words_);
  for (int64_t o = 0; o < outputs_; ++o) {
    int32_t* row = weight_.data() + o * words_;
    row[words_ - 1] = static_cast<int32_t>(static_cast<uint32_t>(row[words_ - 1]) & used_bits(channels, words_ - 1));
    int64_t ones = 0;
    for (int64_t w = 0; w < words_; ++w) ones += __builtin_popcount(static_cast<uint32_t>(row[w]));
    // See `borders.h`; for unipolar (K + sum w) / 2 is the number of weights that are +1.
    base_.push_back(static_cast<int32_t>(levels == Levels::kBipolar    ? channels
                                         : levels == Levels::kUnipolar ? ones
                                                                       : 0));
  }
}

int64_t PackedLinear::batch_of(const Dims& packed) const {
  if (packed.size() != 2) refuse("packed has shape ", to_text(packed), ", wanted two axes: N, words");
  const int64_t wanted = planes_of(levels_) * words_;
  if (packed[1] != wanted) refuse("packed has ", packed[1], " words, wanted ", wanted, " for ", channels_, " channels");
  return packed[0];
}

// row: the words of one sample, unused bits 0.
int32_t PackedLinear::accumulate(const int32_t* row, int64_t o) const {
  const int32_t* weight = weight_.data() + o * words_;
  const int64_t differ = kernels_.differing_bits(row, weight, words_);
  if (levels_ == Levels::kTernary)  // pop(N ^ W) - pop(P ^ W), see `prepared_weights.h`
    return static_cast<int32_t>(kernels_.differing_bits(row + words_, weight, words_) - differ);
  return static_cast<int32_t>(base_[o] - (levels_ == Levels::kBipolar ? 2 : 1) * differ);
}

void PackedLinear::run(int64_t batch, const EpilogueKind& kind, const EpilogueOperands& operands, const int32_t* packed,
                       void* y, int32_t* bits, Runtime& runtime) const {
  if (batch == 0 || outputs_ == 0) return;
  const int64_t row_words = planes_of(levels_) * words_, bit_words = words_for(outputs_);
  const Scratch memory(runtime, static_cast<size_t>(batch * row_words) * sizeof(int32_t));
  auto* rows = reinterpret_cast<int32_t*>(memory.data());
  const uint32_t used = used_bits(channels_, words_ - 1);
  for (int64_t i = 0; i < batch * row_words; ++i)
    rows[i] = (i + 1) % words_ == 0 ? static_cast<int32_t>(static_cast<uint32_t>(packed[i]) & used) : packed[i];

  const int64_t parts = divided_up(outputs_, kOutputsPerTask);
  const double products = static_cast<double>(batch * outputs_) * static_cast<double>(row_words * kWordBits);
  runtime.run_tasks(static_cast<size_t>(batch * parts), products / kernels_.products_per_ns, [&](size_t task) {
    const int64_t n = static_cast<int64_t>(task) / parts, first = static_cast<int64_t>(task) % parts * kOutputsPerTask;
    const int64_t end = std::min(first + kOutputsPerTask, outputs_);
    uint32_t word = 0;
    for (int64_t o = first; o < end; ++o) {
      const int32_t accumulator = accumulate(rows + n * row_words, o);
      float z = 0.0f;
      if (y) {
        z = finish_value(kind, operands, o, accumulator, 0.0f);
        store_value(y, n * outputs_ + o, kind.float16, z);
      }
      if (!bits) continue;
      word |= uint32_t{finish_bit(kind, operands, o, accumulator, z)} << (o % kWordBits);
      if ((o + 1) % kWordBits != 0 && o + 1 != end) continue;
      bits[n * bit_words + o / kWordBits] = static_cast<int32_t>(word);
      word = 0;
    }
  });
}

}  // namespace bnn::cpu
