#include "cpu/matrix_conv.h"

#include <algorithm>
#include <vector>

#include "cpu/matrix_part.h"
#include "cpu/sizes.h"

namespace bnn::cpu {
namespace {

constexpr int64_t kLeastBandPixels = 1536;        // that weights are made bytes for
constexpr int64_t kBandBytes = int64_t{1} << 19;  // of activations: they stay in the second cache
constexpr double kBytesPerNs = 40, kProductsPerNs = 1500;

// One call: everything that its tasks share. A task is some tiles of output channels of a band. The thread that does it
// makes bytes of the band's activations itself: what another one has just written is slow to read.
class Call {
 public:
  Call(const ConvAttributes& attributes, const TileWeights& weights, const MatrixPlan& whole_band,
       const MatrixPlan& last_band, const MatrixCall& call)
      : weights_(weights),
        tiles_(attributes.group * weights.group_tiles()),
        whole_band_(whole_band),
        last_band_(last_band),
        call_(call),
        bands_(divided_up(call.shape.out_height, call.planes.band_rows())),
        parts_(std::min(divided_up(tiles_, whole_band.output_tiles()),
                        divided_up(2 * most_threads(), call.shape.batch * bands_))) {}

  void run(Runtime& runtime) const {
    const ConvShape& shape = call_.shape;
    const BytePlanes& planes = call_.planes;
    const int64_t tasks = shape.batch * bands_ * parts_, part_bytes = MatrixPart::memory_bytes(whole_band_);
    const int slots = static_cast<int>(std::min<int64_t>(tasks, most_threads()));
    const int64_t slot_bytes = part_bytes + planes.bytes();
    const Scratch memory(runtime, static_cast<size_t>(slots * slot_bytes));
    std::vector<int64_t> filled(static_cast<size_t>(slots), -1);  // which band is in a slot
    SlotPool pool(slots);
    const int64_t products = tiles_ * kTileOutputs * shape.pixels() * weights_.steps() * kStepChannels;
    const double image_time =
        static_cast<double>(bands_ * planes.bytes()) / kBytesPerNs + static_cast<double>(products) / kProductsPerNs;
    runtime.run_tasks(static_cast<size_t>(tasks), static_cast<double>(shape.batch) * image_time, [&](size_t task) {
      const int slot = pool.acquire();
      uint8_t* base = memory.data() + slot * slot_bytes;
      auto* activations = reinterpret_cast<int8_t*>(base + part_bytes);
      const int64_t part = static_cast<int64_t>(task) % parts_, index = static_cast<int64_t>(task) / parts_;
      const int64_t in_image = index % bands_, first_row = in_image * planes.band_rows();
      const Band band{index / bands_, first_row, std::min(planes.band_rows(), shape.out_height - first_row)};
      int64_t& found = filled[static_cast<size_t>(slot)];
      if (found != index) planes.fill(call_.unit, call_.tensors.packed, band, activations);
      found = index;
      MatrixPart(call_, in_image + 1 < bands_ ? whole_band_ : last_band_, weights_, base)
          .run(band, first_tile(part), first_tile(part + 1), activations);
      pool.release(slot);
    });
  }

 private:
  // Of output channels, of a part; tiles that are multiplied together are not parted.
  int64_t first_tile(int64_t part) const {
    const int64_t together = whole_band_.output_tiles();
    return std::min(tiles_, part * divided_up(tiles_, together) / parts_ * together);
  }

  const TileWeights& weights_;
  const int64_t tiles_;  // of output channels, of all groups
  const MatrixPlan &whole_band_, &last_band_;
  const MatrixCall& call_;
  const int64_t bands_, parts_;  // of an image; of a band
};

// For 16 pixels of 16 outputs, beyond what counting takes besides its loop. Strides leave fewer taps that share a
// pixel: what a stage reads may not stay near, and bits are made bytes for fewer products.
int64_t cycles_of_tile(const ConvAttributes& a, const ConvWeightShape& w, int64_t steps) {
  if (a.strides[0] == 1 && a.strides[1] == 1) return 19 * steps + 10;
  const auto phases = phases_of(w.kernel_height, a.dilations[0], a.strides[0]).size() *
                      phases_of(w.kernel_width, a.dilations[1], a.strides[1]).size();
  const int64_t blocks = divided_up(a.channels / a.group, kStepChannels);
  const bool is_near = static_cast<int64_t>(phases) * blocks * kProductTiles * kTileBytes <= kNearBytes;
  return (is_near ? 30 : 40) * steps + 100;
}

}  // namespace

bool MatrixConv::is_possible(const ConvAttributes& a, const ConvWeightShape& w) {
  const bool has_whole_words = a.channels / a.group % kWordBits == 0 && w.outputs / a.group % kTileOutputs == 0;
  return a.group == 1 || has_whole_words;
}

// Measured on one processor (AMX beside AVX-512), where to count takes 21 cycles for a word of channels of a tap. Where
// taps do not share pixels, as where a window has one row or column, too much is read for too few products.
bool MatrixConv::is_faster(const ConvAttributes& a, const ConvWeightShape& w) {
  const int64_t channels = a.channels / a.group, outputs = w.outputs / a.group;
  const int64_t steps = w.taps() * divided_up(channels, kStepChannels);
  const int64_t words = planes_of(a.levels) * w.taps() * words_for(channels);
  const int64_t cycles = cycles_of_tile(a, w, steps) * rounded_up(outputs, kTileOutputs);
  return is_possible(a, w) && w.kernel_height > 1 && w.kernel_width > 1 && cycles < 21 * words * outputs;
}

MatrixConv::MatrixConv(const MatrixUnit& unit, const ConvAttributes& attributes, const ConvWeightShape& weight_shape,
                       const int32_t* weight)
    : attributes_(attributes), weight_shape_(weight_shape), unit_(unit), weights_(attributes_, weight_shape_, weight) {}

void MatrixConv::run(const ConvShape& shape, const EpilogueKind& kind, const EpilogueOperands& operands,
                     const ConvTensors& tensors, Runtime& runtime) const {
  const auto made = layout_.get(shape, [&] { return layout(shape); });
  const MatrixCall call{shape, made->planes, unit_, kind, operands, tensors, weight_shape_.outputs};
  Call(attributes_, weights_, *made->whole_band, *made->last_band, call).run(runtime);
}

// With bands for the threads as far as they are large enough, and no larger than a cache.
MatrixConv::Layout MatrixConv::layout(const ConvShape& shape) const {
  const int64_t whole = BytePlanes(attributes_, weight_shape_, shape, 1).bytes_of(shape.out_height);
  const int64_t for_threads = std::clamp<int64_t>(shape.pixels() / kLeastBandPixels, 1, 2 * most_threads());
  const int64_t bands = std::min(shape.out_height, std::max(for_threads, divided_up(whole, kBandBytes)));
  const BytePlanes planes(attributes_, weight_shape_, shape, divided_up(shape.out_height, bands));
  const int64_t last = (shape.out_height - 1) % planes.band_rows() + 1;
  const auto plan = std::make_shared<const MatrixPlan>(planes, planes.band_rows(), weights_);
  return {planes, plan, last == planes.band_rows() ? plan : std::make_shared<const MatrixPlan>(planes, last, weights_)};
}

}  // namespace bnn::cpu
