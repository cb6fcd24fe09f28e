// Max-pooling of packed bits: OR over the window, or AND for the channels whose `flip` bit is set.
#pragma once

#include "core/bits.h"
#include "cuda/ptx.cuh"
#include "cuda/tasks.h"

namespace bnn::cuda {

constexpr int kPoolThreads = 128;

// One thread for each word of the output. A padded pixel contributes nothing.
BNN_KERNEL(kPoolThreads, 1)
pool_words(const MaxPoolTask task) {
  const int64_t all = int64_t{task.batch} * task.out_height * task.out_width * task.words;
  const int64_t position = int64_t{block_x()} * kPoolThreads + thread_index();
  if (position >= all) return;
  const int word = static_cast<int>(position % task.words);
  const int64_t pixel = position / task.words, row = pixel / task.out_width;
  const int first_y = static_cast<int>(row % task.out_height) * task.stride_y - task.pad_top;
  const int first_x = static_cast<int>(pixel % task.out_width) * task.stride_x - task.pad_left;
  const uint32_t flip = static_cast<uint32_t>(load(task.flip + word));
  uint32_t greatest = 0;
  for (int y = first_y; y < first_y + task.kernel_height; ++y)
    for (int x = first_x; x < first_x + task.kernel_width; ++x) {
      if (y < 0 || y >= task.height || x < 0 || x >= task.width) continue;
      const int64_t at = ((row / task.out_height * task.height + y) * task.width + x) * task.words + word;
      greatest |= static_cast<uint32_t>(load(task.packed + at)) ^ flip;
    }
  store(task.out + position, static_cast<int32_t>((greatest ^ flip) & used_bits(task.channels, word)));
}

}  // namespace bnn::cuda
