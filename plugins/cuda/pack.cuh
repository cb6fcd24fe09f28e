// Real values to packed bits.
#pragma once

#include "core/bits.h"
#include "cuda/ptx.cuh"
#include "cuda/tasks.h"

namespace bnn::cuda {

constexpr int kPackThreads = 128;

BNN_DEVICE float read_real(const PackTask& task, int64_t i) {
  if (task.float16) return widen(load(static_cast<const Half*>(task.x) + i));
  return load(static_cast<const float*>(task.x) + i);
}

// The bit of plane P, and of plane N where there is one. A NaN is the lesser level of every kind: every comparison with
// it is false, so plane N asks for the opposite.
BNN_DEVICE bool greater_bit(const PackTask& task, float x, int channel) {
  if (task.kind == PackKind::kTernary) return x > 0.0f;
  const float lower = load(task.lower + channel * task.lower_step);
  if (task.kind == PackKind::kUnipolar) return x > lower;
  if (task.kind == PackKind::kBipolar) return x >= lower;
  return lower <= x && x <= load(task.upper + channel * task.upper_step);
}
BNN_DEVICE bool lesser_bit(float x) { return !(x >= 0.0f); }

// x: [N, C, pixels]. One thread for each word: neighbouring threads read neighbouring pixels.
BNN_KERNEL(kPackThreads, 1)
pack_channels_first(const PackTask task) {
  const int64_t position = int64_t{block_x()} * kPackThreads + thread_index();
  if (position >= task.batch * task.pixels) return;
  const int word = block_y(), first = word * static_cast<int>(kWordBits);
  const int64_t image = position / task.pixels, pixel = position % task.pixels;
  uint32_t greater = 0, lesser = 0;
  for (int i = 0; i < static_cast<int>(kWordBits) && first + i < task.channels; ++i) {
    const float x = read_real(task, (image * task.channels + first + i) * task.pixels + pixel);
    greater |= static_cast<uint32_t>(greater_bit(task, x, first + i)) << i;
    lesser |= static_cast<uint32_t>(lesser_bit(x)) << i;
  }
  int32_t* out = task.packed + position * task.planes() * task.words + word;
  store(out, static_cast<int32_t>(greater));
  if (task.kind == PackKind::kTernary) store(out + task.words, static_cast<int32_t>(lesser));
}

// x: [N, pixels, C]. One warp for each word: its threads read neighbouring channels and vote.
BNN_KERNEL(kPackThreads, 1)
pack_channels_last(const PackTask task) {
  constexpr int kWarps = kPackThreads / kWarpThreads;
  const int lane = thread_index() % kWarpThreads;
  const int64_t all = int64_t{task.batch} * task.pixels * task.words;
  const int64_t position = int64_t{block_x()} * kWarps + thread_index() / kWarpThreads;
  if (position >= all) return;  // the whole warp
  const int64_t pixel = position / task.words;
  const int word = static_cast<int>(position % task.words), channel = word * static_cast<int>(kWordBits) + lane;
  const bool valid = channel < task.channels;
  const float x = valid ? read_real(task, pixel * task.channels + channel) : 0.0f;
  const uint32_t greater = ballot(valid && greater_bit(task, x, channel));
  const uint32_t lesser = ballot(valid && lesser_bit(x));
  int32_t* out = task.packed + pixel * task.planes() * task.words + word;
  if (lane == 0) store(out, static_cast<int32_t>(greater));
  if (lane == 0 && task.kind == PackKind::kTernary) store(out + task.words, static_cast<int32_t>(lesser));
}

}  // namespace bnn::cuda
