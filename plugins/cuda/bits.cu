// The launchers of what makes and pools bits.

#include <limits>

#include "cuda/launch.cuh"
#include "cuda/max_pool.cuh"
#include "cuda/pack.cuh"

namespace bnn::cuda {
namespace {

constexpr int64_t kMostWords = int64_t{1} << 32;  // of a packed tensor

constexpr int64_t blocks_for(int64_t work, int64_t of_one_block) { return (work + of_one_block - 1) / of_one_block; }

}  // namespace

void pack(const PackTask& task, Stream stream) {
  if (task.words != words_for(task.channels))
    refuse("packed has ", task.words, " words, wanted ", words_for(task.channels), " for ", task.channels, " channels");
  if (!task.x || !task.packed) refuse("x or packed is missing");
  if (task.kind != PackKind::kTernary && !task.lower) refuse("the threshold is missing");
  if (task.kind == PackKind::kInterval && !task.upper) refuse("the upper bound is missing");
  if (task.batch < 0 || task.channels < 1 || task.pixels < 0 || task.pixels > std::numeric_limits<int>::max())
    refuse("x has ", task.batch, " images of ", task.channels, " channels of ", task.pixels, " pixels");
  const int64_t pixels = task.batch * task.pixels;
  if (pixels > kMostWords / task.words) refuse("packed would have more than ", kMostWords, " words");
  if (task.layout == Layout::kChannelsLast) {
    const LaunchSize size{blocks_for(pixels * task.words, kPackThreads / kWarpThreads), 1, kPackThreads, 0};
    return launch("pack_channels_last", pack_channels_last, size, stream, task);
  }
  launch("pack_channels_first", pack_channels_first, {blocks_for(pixels, kPackThreads), task.words, kPackThreads, 0},
         stream, task);
}

MaxPoolTask max_pool_task(const ConvAttributes& attributes, const int64_t (&kernel)[2], const Dims& packed) {
  check(attributes);
  const Dims window{1, kernel[0], kernel[1], words_for(attributes.channels)};
  const ConvWeightShape weight = weight_shape(attributes, window);
  const ConvTask sizes = conv_task(attributes, weight, conv_shape(attributes, weight, packed));
  MaxPoolTask task{};
  task.batch = sizes.batch;
  task.height = sizes.height;
  task.width = sizes.width;
  task.channels = sizes.channels;
  task.words = sizes.words;
  task.kernel_height = sizes.kernel_height;
  task.kernel_width = sizes.kernel_width;
  task.stride_y = sizes.stride_y;
  task.stride_x = sizes.stride_x;
  task.pad_top = sizes.pad_top;
  task.pad_left = sizes.pad_left;
  task.out_height = sizes.out_height;
  task.out_width = sizes.out_width;
  return task;
}

void max_pool(const MaxPoolTask& task, Stream stream) {
  if (!task.packed || !task.flip || !task.out) refuse("packed, flip or out is missing");
  const int64_t words = int64_t{task.batch} * task.out_height * task.out_width * task.words;
  launch("pool_words", pool_words, {blocks_for(words, kPoolThreads), 1, kPoolThreads, 0}, stream, task);
}

}  // namespace bnn::cuda
