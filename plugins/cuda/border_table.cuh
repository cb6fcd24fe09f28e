// The table of border corrections, once for a layer: what the exact integer of a window has besides the counted bits,
// for every way in which padding can cut the window (`products.cuh` says what is summed).
#pragma once

#include "cuda/products.cuh"
#include "cuda/tasks.h"

namespace bnn::cuda {

constexpr int kBorderThreads = 128;

// One thread for each entry. table: [classes, border_stride]; 0 behind the last output.
template <class Choice>
BNN_KERNEL(kBorderThreads, 1)
fill_border_entries(const ConvTask task, int32_t* table) {
  using Product = typename Resolve<Choice>::Type;
  const int entry = block_x() * kBorderThreads + thread_index();
  if (entry >= task.border_entries()) return;
  const int column_classes = static_cast<int>(task.column_classes());
  const int output = entry % task.border_stride, column_class = entry / task.border_stride % column_classes;
  const int row_class = entry / task.border_stride / column_classes;
  const int above = row_class / (task.padded_bottom + 1), below = row_class % (task.padded_bottom + 1);
  const int left = column_class / (task.padded_right + 1), right = column_class % (task.padded_right + 1);
  int sum = 0;
  for (int tap = 0; output < task.outputs && tap < task.taps(); ++tap) {
    const int row = tap / task.kernel_width, column = tap % task.kernel_width;
    const int32_t* weight = task.weight + task.weight_at(output, tap, 0);
    int ones = 0;
    for (int word = 0; word < task.words; ++word) ones += popcount(static_cast<uint32_t>(load(weight + word)));
    const bool padded =
        row < above || row >= task.kernel_height - below || column < left || column >= task.kernel_width - right;
    sum += padded ? Product::padded_tap(task.levels, task.channels, ones) + task.pad_value * (2 * ones - task.channels)
                  : Product::valid_tap(task.levels, task.channels, ones);
  }
  store(table + entry, sum);
}

}  // namespace bnn::cuda
