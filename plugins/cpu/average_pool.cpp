#include "cpu/average_pool.h"

#include <algorithm>

#include "core/error.h"
#include "cpu/sizes.h"

namespace bnn::cpu {
namespace {

constexpr int64_t kValuesPerTask = int64_t{1} << 14;  // of an average pool on its own, roughly
constexpr double kPooledPerNs = 4;                    // values of x, each as often as windows read it
constexpr int64_t kAlignedValues = kAlignment / sizeof(float);

AverageTask average_task(const AveragePoolAttributes& a, const AveragePoolShape& s) {
  AverageTask task{};
  task.plane_stride = s.height * s.width;
  task.width = s.width;
  std::copy(a.kernel, a.kernel + 2, task.kernel);
  std::copy(a.strides, a.strides + 2, task.strides);
  task.out_width = s.out_width;
  return task;
}

double pooling_time(const AveragePoolAttributes& a, const AveragePoolShape& s) {
  return static_cast<double>(s.batch * s.channels * s.pixels()) * static_cast<double>(a.kernel[0] * a.kernel[1]) /
         kPooledPerNs;
}

// One call of the convolution. The output pixels of an image are divided into *strips*, whose averages of all channels
// are made at a time; where there are few strips, tasks divide the output channels as well. A task that has the strip
// of the one before it, for other output channels, finds its averages already there.
class Call {
 public:
  Call(const Kernels& kernels, const AveragePoolAttributes& attributes, const AveragePoolShape& shape, int64_t outputs,
       const float* weight, const float* bias, const float* x, float* y)
      : kernels_(kernels),
        shape_(shape),
        outputs_(outputs),
        weight_(weight),
        bias_(bias),
        x_(x),
        y_(y),
        average_(average_task(attributes, shape)) {
    const int64_t lanes = kernels.float_lanes, left = shape.pixels() % lanes;
    vectors_ = shape.pixels() / lanes;
    // Beyond half a vector, another vector is cheaper than its pixels one by one.
    tail_pixels_ = vectors_ > 0 && left <= lanes / 2 ? left : 0;
    if (left > tail_pixels_) ++vectors_;
    const int64_t vector_bytes = shape.channels * lanes * static_cast<int64_t>(sizeof(float));
    const int64_t parts = std::max<int64_t>(1, kNearBytes / vector_bytes / kPointwiseVectors);
    strips_ = divided_up(vectors_, parts * kPointwiseVectors);
    row_stride_ = (divided_up(vectors_, strips_) + (tail_pixels_ > 0)) * lanes;
    const int64_t blocks = divided_up(outputs, kernels.float_outputs);
    const int64_t chunks = std::min(blocks, divided_up(2 * most_threads(), strips_ * shape.batch));
    chunk_blocks_ = divided_up(blocks, chunks);
    chunks_ = divided_up(blocks, chunk_blocks_);
  }

  void run(double pooling_nanoseconds, Runtime& runtime) {
    const int64_t tasks = shape_.batch * strips_ * chunks_;
    const auto slots = static_cast<int>(std::min<int64_t>(tasks, most_threads()));
    const int64_t pooled = shape_.channels * row_stride_;
    const int64_t tail = tail_pixels_ * shape_.channels * kernels_.float_outputs;
    const int64_t slot_values = rounded_up(pooled + tail, kAlignedValues);
    const Scratch memory(runtime, static_cast<size_t>(slots * slot_values) * sizeof(float));
    std::vector<int64_t> strip_of_slot(static_cast<size_t>(slots), -1);
    SlotPool pool(slots);
    const double products =
        static_cast<double>(shape_.batch * shape_.pixels() * outputs_) * static_cast<double>(shape_.channels);
    const double time = pooling_nanoseconds + products / kernels_.float_products_per_ns;
    runtime.run_tasks(static_cast<size_t>(tasks), time, [&](size_t index) {
      const int slot = pool.acquire();
      auto* rows = reinterpret_cast<float*>(memory.data()) + slot * slot_values;
      const auto task = static_cast<int64_t>(index);
      const Strip strip = find_strip(task / chunks_, rows, rows + pooled);
      int64_t& made = strip_of_slot[static_cast<size_t>(slot)];
      if (made != task / chunks_) average(strip);
      made = task / chunks_;
      multiply(strip, task % chunks_);
      pool.release(slot);
    });
  }

 private:
  struct Strip {
    int64_t image, first;  // pixel
    int pixels;            // in whole vectors, the last of which may be part
    int tail_pixels;
    float* rows;  // [C, row_stride]: the averages
    float* tail;  // [tail_pixels, C, float_outputs]: the tail's, each as often as a block has outputs
  };

  Strip find_strip(int64_t index, float* rows, float* tail) const {
    // The strips share the vectors evenly; the last one has the tail.
    const int64_t strip = index % strips_, lanes = kernels_.float_lanes;
    const int64_t first = strip * vectors_ / strips_ * lanes, end = (strip + 1) * vectors_ / strips_ * lanes;
    const bool is_last = strip + 1 == strips_;
    const int64_t pixels = std::min(end, shape_.pixels()) - first;
    return {index / strips_, first, static_cast<int>(pixels), is_last ? static_cast<int>(tail_pixels_) : 0, rows, tail};
  }

  void average(const Strip& strip) const;
  void multiply(const Strip& strip, int64_t chunk) const;

  const Kernels& kernels_;
  const AveragePoolShape& shape_;
  const int64_t outputs_;
  const float* const weight_;
  const float* const bias_;
  const float* const x_;
  float* const y_;
  const AverageTask average_;      // what all strips have in common
  int64_t vectors_, strips_;       // of an image
  int64_t tail_pixels_;            // of an image, beyond its vectors
  int64_t row_stride_;             // of averages: from one channel to the next
  int64_t chunks_, chunk_blocks_;  // of the output channels
};

void Call::average(const Strip& strip) const {
  AverageTask task = average_;
  task.x = x_ + strip.image * shape_.channels * task.plane_stride;
  task.channels = shape_.channels;
  task.first = strip.first;
  task.pixels = strip.pixels + strip.tail_pixels;
  task.y = strip.rows;
  task.y_stride = row_stride_;
  kernels_.average(task);
  float* tail = strip.tail;
  for (int p = 0; p < strip.tail_pixels; ++p)
    for (int64_t c = 0; c < shape_.channels; ++c, tail += kernels_.float_outputs)
      std::fill(tail, tail + kernels_.float_outputs, strip.rows[c * row_stride_ + strip.pixels + p]);
  // What the last vector has beyond the image is multiplied for nothing; a subnormal number there would be slow.
  const int64_t end = rounded_up(strip.pixels, kernels_.float_lanes);
  for (int64_t c = 0; c < shape_.channels && strip.pixels < end; ++c)
    std::fill(strip.rows + c * row_stride_ + strip.pixels, strip.rows + c * row_stride_ + end, 0.0f);
}

void Call::multiply(const Strip& strip, int64_t chunk) const {
  const int64_t block_outputs = kernels_.float_outputs, begin = chunk * chunk_blocks_ * block_outputs;
  const int64_t end = std::min(outputs_, begin + chunk_blocks_ * block_outputs);
  PointwiseTask task{};
  task.x = strip.rows;
  task.row_stride = row_stride_;
  task.terms = shape_.channels;
  task.pixels = strip.pixels;
  task.tail = strip.tail;
  task.tail_pixels = strip.tail_pixels;
  task.plane_stride = shape_.pixels();
  for (int64_t o = begin; o < end; o += block_outputs) {
    task.weights = weight_ + o * shape_.channels;
    task.bias = bias_ + o;
    task.outputs = static_cast<int>(std::min(block_outputs, end - o));
    task.y = y_ + (strip.image * outputs_ + o) * task.plane_stride + strip.first;
    kernels_.pointwise(task);
  }
}

}  // namespace

void check(const AveragePoolAttributes& attributes) {
  for (const int64_t size : attributes.kernel) check_range("kernel_shape", size, 1);
  for (const int64_t stride : attributes.strides) check_range("strides", stride, 1);
}

AveragePoolShape average_pool_shape(const AveragePoolAttributes& a, const Dims& x) {
  if (x.size() != 4) refuse("x has shape ", to_text(x), ", wanted four axes: N, C, H, W");
  return {x[0],
          x[1],
          x[2],
          x[3],
          output_size("height", x[2], 0, a.kernel[0], 1, a.strides[0]),
          output_size("width", x[3], 0, a.kernel[1], 1, a.strides[1])};
}

void average_pool(const Kernels& kernels, const AveragePoolAttributes& a, const AveragePoolShape& s, const float* x,
                  float* y, Runtime& runtime) {
  const int64_t planes = s.batch * s.channels;
  if (planes == 0) return;
  const int64_t per_task = std::min(planes, divided_up(kValuesPerTask, s.height * s.width));
  runtime.run_tasks(static_cast<size_t>(divided_up(planes, per_task)), pooling_time(a, s), [&](size_t index) {
    const int64_t first = static_cast<int64_t>(index) * per_task;
    AverageTask task = average_task(a, s);
    task.x = x + first * task.plane_stride;
    task.channels = std::min(per_task, planes - first);
    task.pixels = task.y_stride = s.pixels();
    task.y = y + first * task.y_stride;
    kernels.average(task);
  });
}

AveragePoolConv::AveragePoolConv(const Kernels& kernels, const AveragePoolAttributes& attributes,
                                 const Dims& weight_dims, const float* weight)
    : kernels_(kernels), attributes_((check(attributes), attributes)) {
  if (weight_dims.size() != 4 || weight_dims[2] != 1 || weight_dims[3] != 1)
    refuse("weight has shape ", to_text(weight_dims), ", wanted [O, C, 1, 1]");
  for (int axis = 0; axis < 2; ++axis) check_range("weight axis", weight_dims[static_cast<size_t>(axis)], 1);
  outputs_ = weight_dims[0];
  channels_ = weight_dims[1];
  const int64_t block = kernels.float_outputs, blocks = divided_up(outputs_, block);
  memory_.assign(static_cast<size_t>(blocks * channels_ * block) + kAlignedValues, 0.0f);
  weight_ = aligned(memory_.data());
  for (int64_t o = 0; o < outputs_; ++o)
    for (int64_t c = 0; c < channels_; ++c)
      weight_[(o / block * channels_ + c) * block + o % block] = weight[o * channels_ + c];
}

AveragePoolShape AveragePoolConv::shape(const Dims& x) const {
  const AveragePoolShape found = average_pool_shape(attributes_, x);
  if (found.channels != channels_) refuse("x has ", found.channels, " channels, weight is for ", channels_);
  return found;
}

void AveragePoolConv::run(const AveragePoolShape& shape, const float* bias, const float* x, float* y,
                          Runtime& runtime) const {
  if (shape.batch == 0) return;
  Call(kernels_, attributes_, shape, outputs_, weight_, bias, x, y).run(pooling_time(attributes_, shape), runtime);
}

}  // namespace bnn::cpu
