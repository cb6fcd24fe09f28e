// 1-bit convolution on tensor cores: an implicit matrix product, with nothing unfolded in memory.
//
// A block computes a tile: kPixels output pixels of kOutputs channels. The output pixels of all images, row by row, are
// one long line, and a tile is a stretch of it, so that tiles are full whatever the size of an image. (Where rows are
// too long for shared memory, the columns are first cut into bands, and each band is such a line.) The input that a
// tile reads is a stretch of rows of the padded images, piled one below the other: its *halo*. It is copied to shared
// memory once, with zeros where there is padding, and every tap reads its operands straight out of it, at a fixed
// distance from the pixel.
//
// Rows of A are output pixels, columns of B output channels; K runs over taps and words. How the operands lie in shared
// memory and are multiplied is in packed_operands.cuh, for bits, and in widened_operands.cuh, for bytes.
//
// The columns of B are put in an order that gives each thread eight neighbouring output channels (`channel_of_column`):
// a whole byte of packed output, and stores of 16 bytes, with no exchange between threads.
#pragma once

#include <type_traits>

#include "cuda/epilogue.cuh"
#include "cuda/packed_operands.cuh"
#include "cuda/products.cuh"
#include "cuda/tile_plan.h"
#include "cuda/widened_operands.cuh"

namespace bnn::cuda {

template <class Choice, int kPixels, int kOutputs, int kWarps>
class ConvTile {
 public:
  using Product = typename Resolve<Choice>::Type;

  BNN_DEVICE ConvTile(const ConvTask& task, const TilePlan& plan)
      : task_(task),
        plan_(plan),
        weights_(shared_memory()),
        halo_(weights_.at<uint32_t>(plan.halo_at)),
        warp_(thread_index() / kWarpThreads),
        group_(thread_index() % kWarpThreads / 4),
        part_(thread_index() % 4),
        first_output_(block_y() * kOutputs) {}

  // The weights stay where they are while the block goes from tile to tile.
  BNN_DEVICE void run() {
    const PackedOperands<Product, kRowTiles, kColumnTiles, kThreads> packed(task_, plan_);
    const WidenedOperands<kRowTiles, kColumnTiles, kThreads> wide(task_, plan_);
    if (widened()) {
      wide.fill_weights(first_output_);
      wide.fill_steps();
    } else {
      packed.fill_weights(first_output_);
      packed.fill_steps();
    }
    fill_operands();
    for (int tile = block_x(); tile < plan_.tiles(); tile += grid_x()) {
      find_windows(tile);
      clear();
      for (int plane = task_.planes - 1; plane >= 0; --plane) {
        copy_halo(tile, plane);
        wait_for_copies();
        synchronize_block();
        if (widened()) {
          wide.widen_halo();
          synchronize_block();
          wide.multiply(windows_, counts_);
        } else {
          if (Product::kNeedsSums) {
            packed.sum_pixels();
            synchronize_block();
          }
          packed.multiply(windows_, counts_);
          if (Product::kNeedsSums) packed.sum_windows(windows_, counts_, window_sums_);
        }
        synchronize_block();  // all have read the halo
        if (plane == 1) negate();
      }
      // Positions that were kept in registers since `find_windows` would leave too few to the products of bytes.
      finish(Product::kWidens ? anew(tile) : tile);
    }
  }

 private:
  static constexpr int kThreads = kWarps * kWarpThreads;
  static constexpr int kRowTiles = kPixels / 16 / kWarps;  // of a warp, 16 rows of A each
  static constexpr int kColumnTiles = kOutputs / 8;        // 8 columns of B each
  static_assert(kRowTiles * 16 * kWarps == kPixels && kOutputs % 32 == 0);

  // Whether bits become int8 in shared memory; never, as the compiler knows, where the product is of bits.
  BNN_DEVICE bool widened() const { return Product::kWidens && plan_.widened; }

  BNN_DEVICE int first_column(int tile) const { return tile / plan_.tiles_of_band * plan_.band_width; }
  BNN_DEVICE int first_position(int tile) const { return tile % plan_.tiles_of_band * kPixels; }

  // A position on the line of the tile's band.
  BNN_DEVICE Pixel pixel_at(int tile, int position) const {
    const int row = position / plan_.band_width;
    return {row / task_.out_height, row % task_.out_height, first_column(tile) + position % plan_.band_width};
  }

  // The row of the pile at which the window of a pixel begins.
  BNN_DEVICE int pile_row(const Pixel& pixel) const {
    return pixel.image * plan_.image_rows + pixel.row * task_.stride_y;
  }
  BNN_DEVICE int first_pile_row(int tile) const { return pile_row(pixel_at(tile, first_position(tile))); }

  // The operands of the tile's channels, one array behind the other.
  BNN_DEVICE void fill_operands() {
    if (task_.kind.float_output) {
      fill_operand<float>(Operand::kScale);
      fill_operand<float>(Operand::kBias);
    }
    if (task_.kind.activation == Activation::kPRelu) {
      fill_operand<float>(Operand::kSlope);
      fill_operand<float>(Operand::kShift);
    }
    if (task_.kind.integer_bits()) {
      fill_operand<int>(Operand::kLower);
      fill_operand<int>(Operand::kUpper);
    } else if (task_.kind.packed_output) {
      fill_operand<float>(Operand::kLower);
      fill_operand<float>(Operand::kUpper);
    }
  }
  template <class Value>
  BNN_DEVICE void fill_operand(Operand operand) {
    const Value* from;
    if constexpr (std::is_same_v<Value, int>)
      from = integer_operand(task_.operands, operand);
    else
      from = real_operand(task_.operands, operand);
    for (int channel = thread_index(); channel < kOutputs; channel += kThreads) {
      const int output = first_output_ + channel;
      operands<Value>(operand).store(channel, output < task_.outputs ? load(from + output) : Value{0});
    }
  }
  template <class Value>
  BNN_DEVICE Shared<Value> operands(Operand operand) const {
    return weights_.template at<Value>(plan_.operands_at + static_cast<int>(operand) * kOutputs * 4);
  }

  // The position of one of the thread's rows of A.
  BNN_DEVICE int position_of(int tile, int m, int half) const {
    return first_position(tile) + (warp_ * kRowTiles + m) * 16 + half * 8 + group_;
  }

  // Where the first taps of the thread's rows are. A row behind the last pixel computes on the first one, for nothing.
  BNN_DEVICE void find_windows(int tile) {
    const int first_row = first_pile_row(tile);
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int position = position_of(tile, m, half);
        windows_[m][half] = 0;
        if (position >= plan_.band_pixels) continue;
        const Pixel pixel = pixel_at(tile, position);
        windows_[m][half] =
            (pile_row(pixel) - first_row) * plan_.halo_columns + (pixel.column - first_column(tile)) * task_.stride_x;
      }
  }

  BNN_DEVICE void clear() {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      window_sums_[m][0] = window_sums_[m][1] = 0;
#pragma unroll
      for (int j = 0; j < kColumnTiles; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i) counts_[m][j][i] = 0;
    }
  }

  // The lesser plane of a ternary activation is counted first, and taken off.
  BNN_DEVICE void negate() {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m) {
      window_sums_[m][0] = -window_sums_[m][0];
      window_sums_[m][1] = -window_sums_[m][1];
#pragma unroll
      for (int j = 0; j < kColumnTiles; ++j)
#pragma unroll
        for (int i = 0; i < 4; ++i) counts_[m][j][i] = -counts_[m][j][i];
    }
  }

  BNN_DEVICE void copy_halo(int tile, int plane) {
    switch (plan_.chunk) {
      case 4:
        copy_halo_by<4>(tile, plane);
        break;
      case 2:
        copy_halo_by<2>(tile, plane);
        break;
      default:
        copy_halo_by<1>(tile, plane);
    }
  }
  template <int kChunk>
  BNN_DEVICE void copy_halo_by(int tile, int plane) {
    const int copies = plan_.tap_words / kChunk, row_copies = plan_.halo_columns * copies;
    const int first_row = first_pile_row(tile), first_x = first_column(tile) * task_.stride_x - task_.pad_left;
    for (int i = thread_index(); i < plan_.halo_rows * row_copies; i += kThreads) {
      const int row = i / row_copies, column = i % row_copies / copies, word = i % copies * kChunk;
      const int image = (first_row + row) / plan_.image_rows;
      const int y = (first_row + row) % plan_.image_rows - task_.pad_top, x = first_x + column;
      const bool valid =
          image < task_.batch && y >= 0 && y < task_.height && x >= 0 && x < task_.width && word < task_.words;
      const int64_t pixel = (static_cast<int64_t>(image) * task_.height + y) * task_.width + x;
      const int64_t from = valid ? (pixel * task_.planes + plane) * task_.words + word : 0;
      copy_async<kChunk>(halo_, (row * plan_.halo_columns + column) * plan_.pixel_words + word,
                         reinterpret_cast<const uint32_t*>(task_.packed) + from, valid);
    }
  }

  BNN_DEVICE void finish(int tile) {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int position = position_of(tile, m, half);
        const Pixel pixel = pixel_at(tile, position);
        if (position >= plan_.band_pixels || pixel.column >= task_.out_width) continue;
        const int64_t row = int64_t{border_class(task_, pixel.row, pixel.column)} * task_.border_stride;
      // The thread has 8 of each 32 channels of the tile.
#pragma unroll
        for (int first = 0; first < kOutputs; first += 32) {
          const int channel = first + part_ * kUnit;
          int accumulators[kUnit];
          accumulate(m, half, first / 8, task_.border + row + first_output_ + channel, accumulators);
          finish_unit(task_, pixel, first_output_ + channel, accumulators, TileOperands{*this, channel});
        }
      }
  }

  // The exact integers: see products.cuh.
  BNN_DEVICE void accumulate(int m, int half, int column_tile, const int32_t* border,
                             int (&accumulators)[kUnit]) const {
    const int count_factor = Product::count_factor(task_.levels), sum_factor = Product::sum_factor(task_.levels);
#pragma unroll
    for (int i = 0; i < kUnit; i += 4) {
      const Vector<int32_t, 4> corrections = load_vector<4>(border + i);
#pragma unroll
      for (int k = 0; k < 4; ++k)
        accumulators[i + k] =
            (count_factor * counts_[m][column_tile + (i + k) / 2][half * 2 + k % 2] >> Product::kCountShift) +
            sum_factor * window_sums_[m][half] + corrections.values[k];
    }
  }

  // The operands of eight channels, from shared memory.
  struct TileOperands {
    const ConvTile& tile;
    int channel;

    template <class Value>
    BNN_DEVICE void operator()(Operand operand, Value (&values)[kUnit]) const {
#pragma unroll
      for (int i = 0; i < kUnit; i += 4) {
        const Vector<Value, 4> four = tile.operands<Value>(operand).template load_vector<4>(channel + i);
#pragma unroll
        for (int k = 0; k < 4; ++k) values[i + k] = four.values[k];
      }
    }
  };

  const ConvTask& task_;
  const TilePlan& plan_;
  const Shared<uint32_t> weights_, halo_;
  const int warp_, group_, part_, first_output_;
  int windows_[kRowTiles][2];
  int counts_[kRowTiles][kColumnTiles][4];
  int window_sums_[kRowTiles][2];
};

template <class Choice, int kPixels, int kOutputs, int kWarps>
// Twelve warps on a multiprocessor, eight of the largest tile, leave 168 or 255 registers to a thread: no instance
// spills.
BNN_KERNEL(kWarps* kWarpThreads, 12 / kWarps) conv_tile(const ConvTask task, const TilePlan plan) {
  ConvTile<Choice, kPixels, kOutputs, kWarps>(task, plan).run();
}

}  // namespace bnn::cuda
