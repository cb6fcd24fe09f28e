#include "cpu/matrix_conv.h"

#include <algorithm>

#include "cpu/matrix_part.h"
#include "cpu/sizes.h"

namespace bnn::cpu {
namespace {

constexpr int64_t kPartBytes = int64_t{1} << 19;  // of activations: they stay in the second cache
constexpr int64_t kRowsPerTask = 8;
constexpr double kBytesPerNs = 40, kProductsPerNs = 1500;

// One call: everything that its tasks share.
class Call {
 public:
  Call(const ConvShape& shape, const ConvAttributes& attributes, int64_t outputs, const TileWeights& weights,
       const BytePlanes& planes, const Kernels& kernels, const EpilogueKind& kind, const EpilogueOperands& operands,
       const ConvTensors& tensors)
      : shape_(shape),
        weights_(weights),
        tiles_(attributes.group * weights.group_tiles()),
        planes_(planes),
        call_{shape_, planes_, *kernels.matrix_unit, kind, operands, tensors, outputs},
        image_words_(shape.height * shape.width * planes_of(attributes.levels) * words_for(attributes.channels)),
        images_are_tasks_(shape.batch >= most_threads()) {
    // Parts of an image: enough for the threads, and of few activations.
    const int64_t enough = images_are_tasks_ ? 1 : 2 * most_threads();
    output_parts_ = std::min(tiles_, enough);
    const int64_t wanted = std::max(divided_up(enough, output_parts_), divided_up(planes_.group_bytes(), kPartBytes));
    pixel_parts_ = std::min(wanted, divided_up(shape.pixels(), kTileRows * kMostTilesTogether));
    fill_time_ = static_cast<double>(planes_.image_bytes()) / kBytesPerNs;
    const int64_t sums = tiles_ * kTileOutputs * shape.pixels();
    multiply_time_ = static_cast<double>(sums * weights.steps() * kStepChannels) / kProductsPerNs;
  }

  void run(Runtime& runtime) const { images_are_tasks_ ? run_images(runtime) : run_parts(runtime); }

 private:
  // Many images: each is one thread's, and its activations stay in that one's cache.
  void run_images(Runtime& runtime) const {
    const int slots = static_cast<int>(std::min<int64_t>(shape_.batch, most_threads()));
    const int64_t part_bytes = MatrixPart::memory_bytes(call_), slot_bytes = part_bytes + planes_.image_bytes();
    const Scratch memory(runtime, static_cast<size_t>(slots * slot_bytes));
    SlotPool pool(slots);
    const double time = static_cast<double>(shape_.batch) * (fill_time_ + multiply_time_);
    runtime.run_tasks(static_cast<size_t>(shape_.batch), time, [&](size_t n) {
      const int slot = pool.acquire();
      uint8_t* base = memory.data() + slot * slot_bytes;
      auto* activations = reinterpret_cast<int8_t*>(base + part_bytes);
      fill_rows(static_cast<int64_t>(n), 0, planes_.rows(), activations);
      for (int64_t part = 0; part < output_parts_ * pixel_parts_; ++part)
        run_part(static_cast<int64_t>(n), part, activations, base);
      pool.release(slot);
    });
  }

  // Few images: the threads share one after the other.
  void run_parts(Runtime& runtime) const {
    const int64_t parts = output_parts_ * pixel_parts_, tasks = divided_up(planes_.rows(), kRowsPerTask);
    const int slots = static_cast<int>(std::min<int64_t>(parts, most_threads()));
    const int64_t slot_bytes = MatrixPart::memory_bytes(call_);
    const Scratch memory(runtime, static_cast<size_t>(slots * slot_bytes + planes_.image_bytes()));
    auto* activations = reinterpret_cast<int8_t*>(memory.data() + slots * slot_bytes);
    SlotPool pool(slots);
    for (int64_t n = 0; n < shape_.batch; ++n) {
      runtime.run_tasks(static_cast<size_t>(tasks), fill_time_, [&](size_t task) {
        const int64_t first = static_cast<int64_t>(task) * kRowsPerTask;
        fill_rows(n, first, std::min(first + kRowsPerTask, planes_.rows()), activations);
      });
      runtime.run_tasks(static_cast<size_t>(parts), multiply_time_, [&](size_t part) {
        const int slot = pool.acquire();
        run_part(n, static_cast<int64_t>(part), activations, memory.data() + slot * slot_bytes);
        pool.release(slot);
      });
    }
  }

  void fill_rows(int64_t n, int64_t first, int64_t end, int8_t* activations) const {
    for (int64_t row = first; row < end; ++row)
      planes_.fill_row(call_.unit, call_.tensors.packed + n * image_words_, row, activations);
  }

  void run_part(int64_t n, int64_t part, const int8_t* activations, uint8_t* memory) const {
    const int64_t pixels = part / output_parts_, outputs = part % output_parts_;
    const int64_t vectors = divided_up(shape_.pixels(), kTileRows);
    const int64_t first = pixels * vectors / pixel_parts_ * kTileRows;
    const int64_t end = std::min((pixels + 1) * vectors / pixel_parts_ * kTileRows, shape_.pixels());
    MatrixPart(call_, weights_, memory)
        .run(n, first, end, outputs * tiles_ / output_parts_, (outputs + 1) * tiles_ / output_parts_, activations);
  }

  const ConvShape& shape_;
  const TileWeights& weights_;
  const int64_t tiles_;  // of output channels, of all groups
  const BytePlanes& planes_;
  const MatrixCall call_;
  const int64_t image_words_;
  const bool images_are_tasks_;
  int64_t output_parts_, pixel_parts_;
  double fill_time_, multiply_time_;  // of an image, in nanoseconds
};

}  // namespace

bool MatrixConv::is_possible(const ConvAttributes& a, const ConvWeightShape& w) {
  const bool has_whole_words = a.channels / a.group % kWordBits == 0 && w.outputs / a.group % kTileOutputs == 0;
  return a.strides[0] == 1 && a.strides[1] == 1 && (a.group == 1 || has_whole_words);
}

// Measured on one processor (AMX beside AVX-512), in cycles for 16 pixels of 16 outputs: 21 a step and 100 more than
// to count, which takes 21 for a word of channels of a tap. Where taps do not share pixels, what the unit reads is not
// in the nearest cache, and bits are made bytes for too few products.
bool MatrixConv::is_faster(const ConvAttributes& a, const ConvWeightShape& w) {
  const int64_t channels = a.channels / a.group, outputs = w.outputs / a.group;
  const int64_t steps = w.taps() * divided_up(channels, kStepChannels);
  const int64_t words = planes_of(a.levels) * w.taps() * words_for(channels);
  const bool saves_cycles = (21 * steps + 100) * rounded_up(outputs, kTileOutputs) < 21 * words * outputs;
  return is_possible(a, w) && w.kernel_height > 1 && w.kernel_width > 1 && saves_cycles;
}

MatrixConv::MatrixConv(const Kernels& kernels, const ConvAttributes& attributes, const ConvWeightShape& weight_shape,
                       const int32_t* weight)
    : attributes_(attributes),
      weight_shape_(weight_shape),
      kernels_(kernels),
      weights_(attributes_, weight_shape_, weight) {}

void MatrixConv::run(const ConvShape& shape, const EpilogueKind& kind, const EpilogueOperands& operands,
                     const ConvTensors& tensors, Runtime& runtime) const {
  const auto planes = planes_.get(shape, [&] { return BytePlanes(attributes_, weight_shape_, shape); });
  Call(shape, attributes_, weight_shape_.outputs, weights_, *planes, kernels_, kind, operands, tensors).run(runtime);
}

}  // namespace bnn::cpu
