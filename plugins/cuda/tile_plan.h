// How a convolution is cut into tiles for the tensor-core kernel, and which tile it gets.
#pragma once

#include "cuda/tasks.h"

namespace bnn::cuda {

// The sizes of a tile: output pixels, output channels, and the warps that share its pixels. kTiles lists those that are
// built, the first to be preferred: a large tile reads its operands from shared memory least often, a small one leaves
// work for all multiprocessors where a layer is small, and holds the weights of layers with many channels.
struct TileSize {
  int pixels, outputs, warps;
};
constexpr TileSize kTiles[] = {{128, 128, 8}, {128, 64, 4}, {64, 64, 4}, {32, 32, 2}};
constexpr int kTileCount = 4;

// The output channel, within the tile, of a column of B. Four column tiles make 32 channels; of these the thread `part`
// of a group, which has columns 2 part and 2 part + 1 of each, gets channels 8 part to 8 part + 7.
constexpr int channel_of_column(int column_tile, int column) {
  return column_tile / 4 * 32 + column / 2 * 8 + column_tile % 4 * 2 + column % 2;
}

// What a word becomes where it is widened: 32 int8 (widened_operands.cuh).
constexpr int kWidenedWord = 8;

// What the choice needs to know of a GPU.
struct Device {
  int multiprocessors = 1;
  int shared_bytes = 48 * 1024;  // that one block may have
  bool int8 = false;             // whether its kernels multiply with int8: see products.cuh
};

struct TilePlan {
  int band_width, bands;                                      // columns of a band; the last one may have fewer
  int band_pixels, tiles_of_band;                             // pixels of all images in a band
  int image_rows;                                             // of one image in the pile of padded images
  int halo_rows, halo_columns;                                // of one tile
  int tap_words;                                              // of K for each tap: `words`, made even
  bool widened;                                               // whether bits become int8 in shared memory
  int pixel_words;                                            // from one halo pixel to the next
  int weight_words;                                           // of one output, in shared memory
  int chunk;                                                  // words that are copied at once: 1, 2 or 4
  int steps;                                                  // of K: 8 words each; 2 where they are widened
  int halo_at, sums_at, steps_at, operands_at, shared_bytes;  // in bytes from the start of shared memory

  constexpr int tiles() const { return bands * tiles_of_band; }
};

// The halo pixel of a tap, counted from that of the window's first one.
constexpr int pixel_of_tap(const ConvTask& task, const TilePlan& plan, int tap) {
  return tap / task.kernel_width * task.dilation_y * plan.halo_columns + tap % task.kernel_width * task.dilation_x;
}

// The plan for a tile of this size; false where shared memory does not hold even a narrow band, or a size is too large.
bool plan_tiles(const ConvTask& task, const TileSize& tile, const Device& device, TilePlan& plan);

// Which entry of kTiles, or -1 where none can be had: groups, and what does not fit.
int choose_tile(const ConvTask& task, const Device& device, TilePlan& plan);

}  // namespace bnn::cuda
