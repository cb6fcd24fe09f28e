// The launchers of what makes and pools bits.

#include "cuda/launch.cuh"
#include "cuda/max_pool.cuh"
#include "cuda/pack.cuh"

namespace bnn::cuda {
namespace {

constexpr int64_t blocks_for(int64_t work, int64_t of_one_block) { return (work + of_one_block - 1) / of_one_block; }

}  // namespace

void pack(const PackTask& task, Stream stream) {
  if (task.words != words_for(task.channels))
    refuse("packed has ", task.words, " words, wanted ", words_for(task.channels), " for ", task.channels, " channels");
  if (!task.x || !task.packed) refuse("x or packed is missing");
  if (task.kind != PackKind::kTernary && !task.lower) refuse("the threshold is missing");
  if (task.kind == PackKind::kInterval && !task.upper) refuse("the upper bound is missing");
  const int64_t pixels = task.batch * task.pixels;
  if (task.layout == Layout::kChannelsLast) {
    const LaunchSize size{blocks_for(pixels * task.words, kPackThreads / kWarpThreads), 1, kPackThreads, 0};
    return launch("pack_channels_last", pack_channels_last, size, stream, task);
  }
  launch("pack_channels_first", pack_channels_first, {blocks_for(pixels, kPackThreads), task.words, kPackThreads, 0},
         stream, task);
}

void max_pool(const MaxPoolTask& task, Stream stream) {
  if (!task.packed || !task.flip || !task.out) refuse("packed, flip or out is missing");
  const int64_t words = int64_t{task.batch} * task.out_height * task.out_width * task.words;
  launch("pool_words", pool_words, {blocks_for(words, kPoolThreads), 1, kPoolThreads, 0}, stream, task);
}

}  // namespace bnn::cuda
