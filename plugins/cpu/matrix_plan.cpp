#include "cpu/matrix_plan.h"

#include <algorithm>

#include "cpu/sizes.h"

namespace bnn::cpu {
namespace {

// Weights of so many steps stay in the nearest cache beside the activations that they meet. Where a tile of outputs has
// more, stages are larger: all their positions take some steps before the next ones, and add to their products.
constexpr int64_t kNearSteps = 18;
constexpr int64_t kKeptSteps = 32;    // the power of two
constexpr int64_t kPassingSteps = 8;  // where each is used once
constexpr int64_t kLargeStageTiles = 12;

// How many tiles of positions a stage may leave to the next one: up to kTileRows - 1 pixels, and what lies between
// their rows.
int64_t most_left(const BytePlanes& planes) {
  return divided_up(planes.position(kTileRows - 1) + 1 + planes.pitch(), kTileRows) + 1;
}

// Two tiles of outputs meet the same activations where these would else have to come from the next cache again: where
// taps do not share pixels.
int output_tiles_of(const BytePlanes& planes, const TileWeights& weights) {
  return planes.phases() > 1 && weights.group_tiles() > 1 && 2 * weights.steps() <= kNearSteps ? 2 : 1;
}

}  // namespace

MatrixPlan::MatrixPlan(const BytePlanes& planes, int64_t rows, const TileWeights& weights)
    : output_tiles_(output_tiles_of(planes, weights)), keeps_all_(weights.steps() <= kNearSteps) {
  const int64_t steps = weights.steps();
  const int64_t pixels = rows * planes.out_width();
  const int64_t tiles = divided_up(planes.position(pixels - 1) + 1, kTileRows);
  const int64_t run_tiles = kProductTiles / output_tiles_;
  const bool has_runs = !keeps_all_ && tiles > run_tiles;  // in a stage, more than one
  const int64_t stages = divided_up(tiles, has_runs ? kLargeStageTiles : run_tiles);
  const int64_t parts = has_runs ? divided_up(steps, kNearSteps) : 1;
  for (int64_t part = 0; part < parts; ++part) steps_.push_back({part * steps / parts, (part + 1) * steps / parts});
  kept_steps_ = (keeps_all_ || has_runs ? kKeptSteps : kPassingSteps) / output_tiles_;
  // The products of a stage come to memory while the next one is multiplied: of the first one of the next tile of
  // outputs only after the last one of this is finished, unless it has more than one run.
  buffers_ = has_runs ? 2 : 1;
  ring_tiles_ = most_left(planes) + (has_runs ? 2 * kLargeStageTiles : run_tiles);
  output_stride_ = ring_tiles_ * kTileProducts;
  for (int64_t stage = 0; stage < stages; ++stage)
    add_stage(planes, stage * tiles / stages, (stage + 1) * tiles / stages, pixels);
  product_offsets_.reserve(static_cast<size_t>(pixels + kTileRows));
  for (int64_t pixel = 0; pixel < pixels; ++pixel)
    product_offsets_.push_back(planes.position(pixel) % (ring_tiles_ * kTileRows) * kTileOutputs);
  product_offsets_.insert(product_offsets_.end(), kTileRows, product_offsets_.back());
}

// pixels: of the band
void MatrixPlan::add_stage(const BytePlanes& planes, int64_t first_tile, int64_t end_tile, int64_t pixels) {
  const int64_t first_pixel = stages_.empty() ? 0 : stages_.back().first_pixel + stages_.back().pixels;
  const int64_t reached = std::min(planes.pixels_before(end_tile * kTileRows), pixels);
  // Whole vectors, but for the last ones.
  const int64_t end = reached == pixels ? pixels : first_pixel + (reached - first_pixel) / kTileRows * kTileRows;
  const auto first_run = static_cast<int64_t>(runs_.size());
  const int64_t runs = divided_up(end_tile - first_tile, kProductTiles / output_tiles_);
  for (int64_t i = 0; i < runs; ++i) {
    Run run{};
    run.first_tile = first_tile + i * (end_tile - first_tile) / runs;
    run.position_tiles = static_cast<int>(first_tile + (i + 1) * (end_tile - first_tile) / runs - run.first_tile);
    for (int p = 0; p < run.position_tiles; ++p)
      for (int o = 0; o < output_tiles_; ++o)
        run.products[p * output_tiles_ + o] = o * output_stride_ + (run.first_tile + p) % ring_tiles_ * kTileProducts;
    runs_.push_back(run);
  }
  stages_.push_back({first_run, first_run + runs, first_pixel, end - first_pixel});
}

}  // namespace bnn::cpu
