#include "cpu/counting_conv.h"

#include <algorithm>
#include <cstring>

#include "cpu/sizes.h"

namespace bnn::cpu {
namespace {

constexpr int64_t kSecondCacheBytes = int64_t{1} << 20;  // a core's own, usually
constexpr int64_t kPlaneRowsPerTask = 8;
constexpr double kPlaneBytesPerNs = 4;

// The set itself, or the scalar one where the layer has more channels and taps than the set can count.
const Kernels& fitting(const Kernels& kernels, const ConvAttributes& a, const ConvWeightShape& w) {
  const int64_t cells = divided_up(a.channels / a.group, cell_channels(kernels.cell));
  return planes_of(a.levels) * w.taps() * cells <= kernels.most_rows - kernels.row_multiple ? kernels
                                                                                            : scalar_kernels();
}

// Scratch memory of one tile at a time. Tasks that use it one after the other often have the same tile, for other
// output channels: they find its column already there.
struct TileMemory {
  int64_t* gathered;  // which tile's, of which image and group; -1 for none
  void* column;
  uint32_t* tail;   // see `CountTask`
  void* counts;     // [kBlockOutputs, kMostTilePixels]
  uint32_t* words;  // [kMostTilePixels]

  static constexpr int64_t kFixedBytes = (kBlockOutputs + 1) * kMostTilePixels * 4;
};

// One call: everything that its tasks share.
class Call {
 public:
  Call(const ConvShape& shape, const ConvAttributes& attributes, const PreparedWeights& weights,
       const ConvWeightShape& weight_shape, const Kernels& kernels, const BorderTable& borders,
       const EpilogueKind& kind, const EpilogueOperands& operands, const ConvTensors& tensors)
      : shape_(shape),
        attributes_(attributes),
        weights_(weights),
        outputs_(weight_shape.outputs),
        kernels_(kernels),
        borders_(borders),
        kind_(kind),
        operands_(operands),
        tensors_(tensors),
        layout_(attributes, weight_shape, shape, kernels, weights) {
    const int64_t left = shape.pixels() % kernels.lanes;
    vectors_ = shape.pixels() / kernels.lanes;
    has_tail_ = vectors_ > 0 && left <= kernels.most_tail;
    if (left > 0 && !has_tail_) ++vectors_;
    // Large tiles, whose operands of the epilogue are read less often, where that leaves enough for the threads.
    const int64_t enough = 2 * most_threads(), parts = divided_up(outputs_, 32);
    const int64_t vector_bytes = weights.rows() * kernels.lanes * cell_bytes(kernels.cell);  // of a column
    const int64_t most = std::clamp<int64_t>(kNearBytes / vector_bytes, kernels.counted_vectors, kernels.most_vectors);
    tiles_ = std::max(divided_up(vectors_, most),
                      std::min(divided_up(vectors_, kernels.counted_vectors), divided_up(enough, shape.batch)));
    chunks_ = std::min(parts, divided_up(enough, tiles_ * shape.batch));
    chunk_outputs_ = divided_up(parts, chunks_) * 32;
    chunks_ = divided_up(outputs_, chunk_outputs_);
  }

  void run(Runtime& runtime) {
    const int64_t cell = cell_bytes(kernels_.cell);
    const Scratch planes(runtime, static_cast<size_t>(shape_.batch * layout_.image_cells() * cell + kSlackBytes));
    planes_ = planes.data();
    const int64_t row_tasks = divided_up(layout_.rows(), kPlaneRowsPerTask);
    const double fill_time = static_cast<double>(shape_.batch * layout_.image_cells() * cell) / kPlaneBytesPerNs;
    runtime.run_tasks(static_cast<size_t>(shape_.batch * row_tasks), fill_time, [&](size_t task) {
      fill_rows(static_cast<int64_t>(task) / row_tasks, static_cast<int64_t>(task) % row_tasks * kPlaneRowsPerTask);
    });

    const int64_t tasks = shape_.batch * tiles_ * chunks_;
    const int slots = static_cast<int>(std::min<int64_t>(tasks, most_threads()));
    const int64_t row_cells = kernels_.lanes * (divided_up(vectors_, tiles_) + (kernels_.most_tail > 0));
    const int64_t column_bytes = rounded_up(weights_.rows() * row_cells * cell + kSlackBytes, kSlackBytes);
    const int64_t tail_bytes = weights_.rows() * kBlockOutputs * 4 * kernels_.most_tail;
    const int64_t slot_bytes = column_bytes + rounded_up(tail_bytes, kSlackBytes) + TileMemory::kFixedBytes;
    const Scratch memory(runtime, static_cast<size_t>(slots * slot_bytes));
    std::vector<int64_t> gathered(static_cast<size_t>(slots), -1);
    SlotPool pool(slots);
    const double products = static_cast<double>(shape_.batch * shape_.pixels() * outputs_) *
                            static_cast<double>(weights_.rows() * cell_channels(kernels_.cell));
    runtime.run_tasks(static_cast<size_t>(tasks), products / kernels_.products_per_ns, [&](size_t task) {
      const int slot = pool.acquire();
      uint8_t* base = memory.data() + slot * slot_bytes;
      auto* counts = reinterpret_cast<int32_t*>(base + column_bytes);
      auto* words = reinterpret_cast<uint32_t*>(counts + kBlockOutputs * kMostTilePixels);
      const TileMemory tile{&gathered[static_cast<size_t>(slot)], base, words + kMostTilePixels, counts, words};
      const auto index = static_cast<int64_t>(task);
      run_tile(index / chunks_ / tiles_, index / chunks_ % tiles_, index % chunks_, tile);
      pool.release(slot);
    });
  }

 private:
  uint8_t* image_planes(int64_t n) const { return planes_ + n * layout_.image_cells() * cell_bytes(kernels_.cell); }

  void fill_rows(int64_t n, int64_t first) const {
    const int64_t image_words =
        shape_.height * shape_.width * planes_of(attributes_.levels) * words_for(attributes_.channels);
    for (int64_t row = first; row < std::min(first + kPlaneRowsPerTask, layout_.rows()); ++row)
      layout_.fill_row(tensors_.packed + n * image_words, row, image_planes(n));
  }

  void run_tile(int64_t n, int64_t tile, int64_t chunk, const TileMemory& memory) const;
  int find_runs(int64_t first, int pixels, Run* runs) const;
  void gather(int64_t n, int64_t group, const Run* runs, int run_count, int64_t row_cells, void* column) const;
  void spread_tail(const void* column, int64_t row_cells, int vectors, int tail_pixels, uint32_t* tail) const;
  void fetch_residual(const FinishTask& finish, int64_t output, int64_t end) const;
  void store_words(int64_t n, int64_t first, int pixels, int64_t word, uint32_t* words) const;

  const ConvShape& shape_;
  const ConvAttributes& attributes_;
  const PreparedWeights& weights_;
  const int64_t outputs_;
  const Kernels& kernels_;
  const BorderTable& borders_;
  const EpilogueKind& kind_;
  const EpilogueOperands& operands_;
  const ConvTensors& tensors_;
  const PlaneLayout layout_;
  uint8_t* planes_ = nullptr;
  int64_t vectors_, tiles_;         // of one image
  bool has_tail_;                   // pixels that the last tile counts one by one
  int64_t chunks_, chunk_outputs_;  // of the output channels, in multiples of 32
};

// The runs of neighbouring pixels of a tile, one for each output row that it touches.
int Call::find_runs(int64_t first, int pixels, Run* runs) const {
  int count = 0;
  for (int done = 0; done < pixels; ++count) {
    const int64_t row = (first + done) / shape_.out_width, column = (first + done) % shape_.out_width;
    const auto length = static_cast<int>(std::min<int64_t>(shape_.out_width - column, pixels - done));
    runs[count] = {row * layout_.out_row_cells() + column, done, length};
    done += length;
  }
  return count;
}

void Call::gather(int64_t n, int64_t group, const Run* runs, int run_count, int64_t row_cells, void* column) const {
  const int64_t cell = cell_bytes(kernels_.cell);
  const int64_t per_tap = weights_.cells_per_tap(), plane_cells = layout_.plane_cells();
  const auto taps = static_cast<int64_t>(layout_.tap_offsets().size());
  kernels_.gather({image_planes(n) + group * per_tap * plane_cells * cell, plane_cells, per_tap,
                   layout_.tap_offsets().data(), taps, runs, run_count, row_cells, column});
  const int64_t used = weights_.used_rows() * row_cells * cell, all = weights_.rows() * row_cells * cell;
  std::memset(static_cast<uint8_t*>(column) + used, 0, static_cast<size_t>(all - used));
  if (kernels_.chain_rows) kernels_.chain_rows(static_cast<uint32_t*>(column), weights_.rows(), row_cells);
}

// The tail of a tile, out of the column: each cell as often as a block has outputs.
void Call::spread_tail(const void* column, int64_t row_cells, int vectors, int tail_pixels, uint32_t* tail) const {
  const auto* cells = static_cast<const uint32_t*>(column) + int64_t{vectors} * kernels_.lanes;
  for (int p = 0; p < tail_pixels; ++p)
    for (int64_t k = 0; k < weights_.rows(); ++k, tail += kBlockOutputs)
      std::fill(tail, tail + kBlockOutputs, cells[k * row_cells + p]);
}

// Writes word `word` of the tile's packed outputs, and clears the tile's words for the next 32 channels.
void Call::store_words(int64_t n, int64_t first, int pixels, int64_t word, uint32_t* words) const {
  const int64_t stride = words_for(outputs_);
  int32_t* target = tensors_.bits + (n * shape_.pixels() + first) * stride + word;
  for (int p = 0; p < pixels; ++p) target[p * stride] = static_cast<int32_t>(words[p]);
  std::fill(words, words + kMostTilePixels, 0u);
}

// Asks for a tile's values of the shortcut, which the epilogue is about to need: a row of few lines for each channel,
// which no processor foresees. Small tensors are in a near cache anyway. (A call of a function that does nothing else
// would be left out as one without effect.)
inline __attribute__((always_inline)) void Call::fetch_residual(const FinishTask& finish, int64_t output,
                                                                int64_t end) const {
  const int64_t value = value_bytes(kind_.float16), row = finish.plane_stride * value, bytes = finish.pixels * value;
  if (!finish.residual || shape_.batch * outputs_ * row <= kSecondCacheBytes) return;
  for (; output < end; ++output)
    for (int64_t i = 0; i < bytes; i += kAlignment)
      __builtin_prefetch(static_cast<const uint8_t*>(finish.residual) + output * row + i);
}

void Call::run_tile(int64_t n, int64_t tile, int64_t chunk, const TileMemory& memory) const {
  // The tiles share the vectors evenly; the last one has the tail.
  const int64_t first_vector = tile * vectors_ / tiles_, end_vector = (tile + 1) * vectors_ / tiles_;
  const int64_t first = first_vector * kernels_.lanes;
  const int64_t until = tile + 1 == tiles_ ? shape_.pixels() : end_vector * kernels_.lanes;
  const auto pixels = static_cast<int>(until - first), vectors = static_cast<int>(end_vector - first_vector);
  const int tail_pixels = has_tail_ ? std::max(0, pixels - vectors * kernels_.lanes) : 0;
  const int64_t row_cells = int64_t{kernels_.lanes} * (vectors + (tail_pixels > 0));
  Run runs[kMostTilePixels];
  const int run_count = find_runs(first, pixels, runs);
  std::fill(memory.words, memory.words + kMostTilePixels, 0u);

  FinishTask finish = finish_task(tensors_, kind_, shape_, outputs_, n, first, pixels);
  finish.counts = memory.counts;
  finish.multiplier = count_multiplier(attributes_.levels);
  finish.table = borders_.table();
  finish.float_table = borders_.float_table();
  finish.table_stride = borders_.stride();
  finish.classes = borders_.classes();
  finish.class_of_pixel = borders_.classes_of(first);
  finish.base_of_pixel = borders_.bases_of(first);
  finish.words = memory.words;

  const int64_t per_group = weights_.group_outputs();
  const int64_t begin = chunk * chunk_outputs_, end = std::min(outputs_, begin + chunk_outputs_);
  for (int64_t group = begin / per_group; group * per_group < end; ++group) {
    const int64_t column = (n * tiles_ + tile) * attributes_.group + group;
    if (column != *memory.gathered) {
      gather(n, group, runs, run_count, row_cells, memory.column);
      spread_tail(memory.column, row_cells, vectors, tail_pixels, memory.tail);
      *memory.gathered = column;
    }
    const int64_t group_begin = group * per_group, group_end = std::min(group_begin + per_group, end);
    for (int64_t o = std::max(begin, group_begin); o < group_end;) {
      // A block begins at a multiple of kBlockOutputs of its group; a chunk may begin inside one.
      const int64_t skipped = (o - group_begin) % kBlockOutputs;
      int64_t next = std::min(o - skipped + kBlockOutputs, group_end);
      if (kind_.packed_output) next = std::min(next, o / kWordBits * kWordBits + kWordBits);
      fetch_residual(finish, o, next);
      kernels_.count({memory.column, weights_.rows(), row_cells, vectors,
                      weights_.block(group, o - skipped - group_begin), memory.counts, memory.tail, tail_pixels});
      finish.first_count = static_cast<int>(skipped);
      finish.first_output = o;
      finish.outputs = static_cast<int>(next - o);
      kernels_.finish(kind_, operands_, finish);
      if (kind_.packed_output && (next % kWordBits == 0 || next == end))
        store_words(n, first, pixels, o / kWordBits, memory.words);
      o = next;
    }
  }
}

}  // namespace

CountingConv::CountingConv(const Kernels& kernels, const ConvAttributes& attributes,
                           const ConvWeightShape& weight_shape, const int32_t* weight)
    : attributes_(attributes),
      weight_shape_(weight_shape),
      kernels_(fitting(kernels, attributes, weight_shape)),
      weights_(kernels_, attributes_, weight_shape_, weight) {}

void CountingConv::run(const ConvShape& shape, const EpilogueKind& kind, const EpilogueOperands& operands,
                       const ConvTensors& tensors, Runtime& runtime) const {
  const bool counts_padding = PlaneLayout::counts_padding(kernels_, attributes_);
  const auto border_table =
      borders_.get(shape, [&] { return BorderTable(attributes_, weight_shape_, shape, weights_, counts_padding); });
  Call(shape, attributes_, weights_, weight_shape_, kernels_, *border_table, kind, operands, tensors).run(runtime);
}

}  // namespace bnn::cpu
