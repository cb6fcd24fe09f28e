#include "cuda/tile_plan.h"

#include <algorithm>

namespace bnn::cuda {
namespace {

constexpr int kNarrowestBand = 8;
constexpr int kBanks = 32;

constexpr int divide_up(int a, int b) { return (a + b - 1) / b; }
constexpr int round_up(int a, int b) { return divide_up(a, b) * b; }

// A distance at which neighbouring rows of 8 words fall on different banks: not a multiple of 16.
constexpr int spread_over_banks(int words) { return words % (kBanks / 2) == 0 ? words + 8 : words; }

// Rows of the pile of padded images that a tile of `pixels` can touch, wherever it begins.
int halo_rows(const ConvTask& task, int pixels, int band_width, int image_rows) {
  const int64_t all_rows = int64_t{task.batch} * task.out_height;
  const int rows = static_cast<int>(std::min<int64_t>(all_rows, (pixels + band_width - 2) / band_width + 1));
  const int next_image = image_rows - (task.out_height - 1) * task.stride_y;  // from the last row of one to the next
  // Of the steps from row to row, as many lead into the next image as the place of the first one allows: at most, if
  // that is the longer step, else at least.
  const int crossings =
      next_image > task.stride_y ? divide_up(rows - 1, task.out_height) : (rows - 1) / task.out_height;
  return (rows - 1 - crossings) * task.stride_y + crossings * next_image + (task.kernel_height - 1) * task.dilation_y +
         1;
}

// Everything but the sizes in shared memory, which may be beyond an int: see `lay_out`.
void cut(const ConvTask& task, const TileSize& tile, int band_width, TilePlan& plan) {
  plan.band_width = band_width;
  plan.bands = divide_up(task.out_width, band_width);
  plan.band_pixels = task.batch * task.out_height * band_width;
  plan.tiles_of_band = divide_up(plan.band_pixels, tile.pixels);
  plan.image_rows = (task.out_height - 1) * task.stride_y + (task.kernel_height - 1) * task.dilation_y + 1;
  plan.halo_rows = halo_rows(task, tile.pixels, band_width, plan.image_rows);
  plan.halo_columns = (band_width - 1) * task.stride_x + (task.kernel_width - 1) * task.dilation_x + 1;
  plan.tap_words = round_up(task.words, 2);
  plan.widened = false;
  plan.pixel_words = spread_over_banks(plan.tap_words);
  plan.chunk = task.words % 4 == 0 ? 4 : task.words % 2 == 0 ? 2 : 1;
  plan.steps = divide_up(task.taps() * plan.tap_words, 8);
  plan.weight_words = spread_over_banks(plan.steps * 8);
}

// What changes of a plan whose operands are widened: 32 bytes for a word, and 2 words a step (widened_operands.cuh).
void widen(const ConvTask& task, TilePlan& plan) {
  plan.widened = true;
  plan.pixel_words = plan.tap_words * kWidenedWord + 4;  // 4 times an odd number
  plan.steps = task.taps() * plan.tap_words / 2;
  plan.weight_words = plan.steps * 2 * kWidenedWord;
}

// One array behind the other, each at a multiple of 16 bytes. Returns false where they do not fit.
bool lay_out(const TileSize& tile, const Device& device, TilePlan& plan) {
  int64_t bytes = 0;
  const auto place = [&](int& at, int64_t words) {
    at = static_cast<int>(bytes);
    bytes = (bytes + words * 4 + 15) / 16 * 16;
    return bytes <= device.shared_bytes;
  };
  const int64_t halo_pixels = int64_t{plan.halo_rows} * plan.halo_columns;
  int weights_at;
  if (!place(weights_at, int64_t{tile.outputs} * plan.weight_words)) return false;
  if (!place(plan.halo_at, halo_pixels * plan.pixel_words)) return false;
  if (!place(plan.sums_at, plan.widened ? 0 : halo_pixels)) return false;
  if (!place(plan.steps_at, int64_t{plan.steps} * (plan.widened ? 1 : 4))) return false;
  if (!place(plan.operands_at, int64_t{kOperandCount} * tile.outputs)) return false;
  plan.shared_bytes = static_cast<int>(bytes);
  return true;
}

// Whether there is anything to cut that the kernel can count in int32: rows of the pile, columns of the padded images,
// output pixels, and the border table.
bool countable(const ConvTask& task) {
  constexpr int64_t kLargest = int64_t{1} << 30;
  const int64_t image_rows =
      (int64_t{task.out_height} - 1) * task.stride_y + (int64_t{task.kernel_height} - 1) * task.dilation_y + 1;
  const int64_t columns =
      (int64_t{task.out_width} - 1) * task.stride_x + (int64_t{task.kernel_width} - 1) * task.dilation_x + 1;
  const int64_t pixels = int64_t{task.batch} * task.out_height * task.out_width;
  return pixels > 0 && pixels < kLargest && image_rows * task.batch < kLargest && columns < kLargest &&
         task.border_entries() > 0;
}

}  // namespace

bool plan_tiles(const ConvTask& task, const TileSize& tile, const Device& device, TilePlan& plan) {
  if (!countable(task)) return false;
  for (int width = task.out_width;; width = divide_up(width, 2)) {
    cut(task, tile, width, plan);
    if (lay_out(tile, device, plan)) break;
    if (width <= kNarrowestBand) return false;
  }
  // The operands are widened if there is room once the cut is made; neither the cut nor the choice of a tile asks for
  // it. A smaller tile reads more operands for each product, and bands read columns twice: for all of K, where an
  // operand that is widened in registers takes one instruction.
  TilePlan wide = plan;
  widen(task, wide);
  if (device.int8 && lay_out(tile, device, wide)) plan = wide;
  return true;
}

int choose_tile(const ConvTask& task, const Device& device, TilePlan& plan) {
  if (task.group != 1) return -1;
  int chosen = -1;
  for (int i = 0; i < kTileCount; ++i) {
    TilePlan candidate;
    // A tile that is half empty does no better than one of half the size.
    if (i + 1 < kTileCount && task.outputs <= kTiles[i].outputs / 2) continue;
    if (!plan_tiles(task, kTiles[i], device, candidate)) continue;
    chosen = i;
    plan = candidate;
    if (int64_t{plan.tiles()} * divide_up(task.outputs, kTiles[i].outputs) >= device.multiprocessors) break;
  }
  return chosen;
}

}  // namespace bnn::cuda
