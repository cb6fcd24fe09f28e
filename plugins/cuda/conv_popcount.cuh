// 1-bit convolution with the popcount instruction, straight from the formulas of the bit contract: what serves groups
// and whatever the tensor-core kernel does not take, and its second opinion in tests. It shares only the epilogue with
// it.
#pragma once

#include "cuda/epilogue.cuh"

namespace bnn::cuda {

constexpr int kPopcountThreads = 128;

// The words of one group of an activation, which may begin in the middle of a word.
class GroupBits {
 public:
  // words: those of one plane of a pixel, `count` of them; the group has channels first to first + channels - 1.
  BNN_DEVICE GroupBits(const int32_t* words, int count, int first, int channels)
      : words_(words + first / 32), left_(count - first / 32), shift_(first % 32), channels_(channels) {}

  BNN_DEVICE uint32_t word(int i) const {
    uint32_t bits = static_cast<uint32_t>(load(words_ + i)) >> shift_;
    if (shift_ != 0 && i + 1 < left_) bits |= static_cast<uint32_t>(load(words_ + i + 1)) << (32 - shift_);
    return bits & used_bits(channels_, i);
  }

 private:
  const int32_t* words_;
  int left_, shift_, channels_;
};

// The sum of one tap: the contract's formulas for bipolar, unipolar and ternary activations.
BNN_DEVICE int tap_sum(const ConvTask& task, const int32_t* pixel, const int32_t* weight, int first, int channels) {
  const int group_words = static_cast<int>(words_for(channels));
  int sum = 0;
  for (int plane = 0; plane < task.planes; ++plane) {
    const GroupBits activation(pixel + plane * task.words, task.words, first, channels);
    int part = 0;
    for (int i = 0; i < group_words; ++i) {
      const uint32_t a = activation.word(i), w = static_cast<uint32_t>(load(weight + i));
      part += task.levels == Levels::kBipolar ? -2 * popcount(a ^ w) : 2 * popcount(a & w) - popcount(a);
    }
    sum += plane == 0 ? part : -part;
  }
  return task.levels == Levels::kBipolar ? sum + channels : sum;
}

// What a padded tap contributes: the padding value times the sum of the weights.
BNN_DEVICE int padded_sum(const ConvTask& task, const int32_t* weight, int channels) {
  if (task.pad_value == 0) return 0;
  int ones = 0;
  for (int i = 0; i < words_for(channels); ++i) ones += popcount(static_cast<uint32_t>(load(weight + i)));
  return task.pad_value * (2 * ones - channels);
}

BNN_DEVICE int accumulate(const ConvTask& task, const Pixel& at, int output) {
  const int channels = task.channels / task.group, first = output / (task.outputs / task.group) * channels;
  const int64_t weight_words = words_for(channels);
  int sum = 0;
  for (int tap = 0; tap < task.taps(); ++tap) {
    const int y = at.row * task.stride_y - task.pad_top + tap / task.kernel_width * task.dilation_y;
    const int x = at.column * task.stride_x - task.pad_left + tap % task.kernel_width * task.dilation_x;
    const int32_t* weight = task.weight + (int64_t{output} * task.taps() + tap) * weight_words;
    const int64_t pixel = (int64_t{at.image} * task.height + y) * task.width + x;
    if (y < 0 || y >= task.height || x < 0 || x >= task.width)
      sum += padded_sum(task, weight, channels);
    else
      sum += tap_sum(task, task.packed + pixel * task.planes * task.words, weight, first, channels);
  }
  return sum;
}

// The operands of eight channels, from global memory; 0 behind the last one.
class GlobalOperands {
 public:
  BNN_DEVICE GlobalOperands(const ConvTask& task, int output) : task_(task), output_(output) {}

  BNN_DEVICE void operator()(Operand operand, float (&values)[kUnit]) const {
    read(real_operand(task_.operands, operand), values);
  }
  BNN_DEVICE void operator()(Operand operand, int (&values)[kUnit]) const {
    read(integer_operand(task_.operands, operand), values);
  }

 private:
  template <class Value>
  BNN_DEVICE void read(const Value* operands, Value (&values)[kUnit]) const {
#pragma unroll
    for (int i = 0; i < kUnit; ++i) values[i] = output_ + i < task_.outputs ? load(operands + output_ + i) : Value{0};
  }

  const ConvTask& task_;
  const int output_;
};

// One thread for eight output channels of a pixel; neighbouring threads have neighbouring pixels.
BNN_KERNEL(kPopcountThreads, 1)
conv_popcount(const ConvTask task) {
  const int64_t pixels = int64_t{task.batch} * task.out_height * task.out_width;
  const int64_t position = int64_t{block_x()} * kPopcountThreads + thread_index();
  if (position >= pixels) return;
  const int64_t row = position / task.out_width;
  const Pixel at{static_cast<int>(row / task.out_height), static_cast<int>(row % task.out_height),
                 static_cast<int>(position % task.out_width)};
  const int output = block_y() * kUnit;
  int accumulators[kUnit];
#pragma unroll
  for (int i = 0; i < kUnit; ++i) accumulators[i] = output + i < task.outputs ? accumulate(task, at, output + i) : 0;
  finish_unit(task, at, output, accumulators, GlobalOperands(task, output));
}

}  // namespace bnn::cuda
