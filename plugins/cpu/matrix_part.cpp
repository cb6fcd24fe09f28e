#include "cpu/matrix_part.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "cpu/sizes.h"

namespace bnn::cpu {
namespace {

// Weights of so many steps stay in the nearest cache beside the activations that they meet. Where a tile of outputs has
// more, stages are larger: all their positions take some steps before the next ones, and add to their products.
constexpr int64_t kNearSteps = 18;
constexpr int64_t kKeptSteps = 32;    // the power of two
constexpr int64_t kPassingSteps = 8;  // where each is used once
constexpr int64_t kStageTiles = kMostTilesTogether, kLargeStageTiles = 12;

static_assert(kLargeStageTiles * kTileRows + kTileRows - 1 <= kMostStagePixels);
constexpr int64_t kWeightBytes = kKeptSteps * kTileBytes;

// Of one stage, with what the one before leaves: up to kTileRows - 1 pixels, and what lies between their rows.
int64_t product_bytes(const MatrixCall& call) {
  const int64_t left = call.planes.position(kTileRows - 1) + 1 + call.planes.position(call.shape.out_width);
  return (kLargeStageTiles * kTileRows + left) * kTileOutputs * 4;
}

}  // namespace

int64_t MatrixPart::memory_bytes(const MatrixCall& call) { return kWeightBytes + 2 * product_bytes(call); }

MatrixPart::MatrixPart(const MatrixCall& call, const TileWeights& weights, uint8_t* memory)
    : call_(call), weights_(weights), tile_weights_(reinterpret_cast<int8_t*>(memory)), finisher_(call) {
  products_[0] = reinterpret_cast<int32_t*>(memory + kWeightBytes);
  products_[1] = reinterpret_cast<int32_t*>(memory + kWeightBytes + product_bytes(call));
}

void MatrixPart::run(const Band& band, int64_t first_tile, int64_t end_tile, const int8_t* activations) {
  call_.unit.acquire();
  for (int64_t tile = first_tile; tile < end_tile; ++tile) run_tile(band, tile, activations);
  finisher_.finish_all();
  call_.unit.release();
}

void MatrixPart::run_tile(const Band& band, int64_t tile, const int8_t* activations) {
  const BytePlanes& planes = call_.planes;
  const int64_t group = tile / weights_.group_tiles(), index = tile % weights_.group_tiles();
  const int64_t output = group * weights_.group_outputs() + index * kTileOutputs;
  const int64_t outputs = std::min<int64_t>(kTileOutputs, weights_.group_outputs() - index * kTileOutputs);
  const int64_t first_pixel = band.first_row * call_.shape.out_width, end = band.rows * call_.shape.out_width;
  const int64_t tiles = divided_up(planes.position(end - 1) + 1, kTileRows);
  const bool are_large = weights_.steps() > kNearSteps && tiles > kMostTilesTogether;
  const int64_t stages = divided_up(tiles, are_large ? kLargeStageTiles : kStageTiles);
  activations += group * planes.group_bytes();
  are_kept_ = false;
  int64_t base = 0, first = 0;  // the position of the first products in memory; the first pixel that is not finished
  for (int64_t stage = 0; stage < stages; ++stage) {
    const int64_t from = stage * tiles / stages, until = (stage + 1) * tiles / stages;
    const int64_t reached = until * kTileRows;
    int32_t* products = products_[0];
    multiply(activations + from * kTileBytes, weights_.tile(group, index), until - from,
             products + (from * kTileRows - base) * kTileOutputs);
    finisher_.finish_all();
    // Whole vectors of pixels, as far as the products go.
    const int64_t whole = (planes.pixels_before(reached) - first) / kTileRows * kTileRows;
    const auto pixels = static_cast<int>(stage + 1 == stages ? end - first : whole);
    finisher_.start({band.image, output, static_cast<int>(outputs), first_pixel + first, pixels},
                    products - base * kTileOutputs, planes.product_offsets() + first);
    if (stage + 1 == stages) break;
    first += pixels;
    const int64_t next_base = std::min(planes.position(first), reached);
    std::memcpy(products_[1], products + (next_base - base) * kTileOutputs,
                static_cast<size_t>((reached - next_base) * kTileOutputs * 4));
    std::swap(products_[0], products_[1]);
    base = next_base;
  }
  std::swap(products_[0], products_[1]);
}

// The products of neighbouring tiles of positions, from activations on.
void MatrixPart::multiply(const int8_t* activations, const uint64_t* bits, int64_t tiles, int32_t* products) {
  const int64_t steps = weights_.steps(), runs = divided_up(tiles, kMostTilesTogether);
  const int64_t chunks = runs == 1 ? 1 : divided_up(steps, kNearSteps);
  const int64_t kept = steps <= kNearSteps || runs > 1 ? kKeptSteps : kPassingSteps;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const int64_t first = chunk * steps / chunks, end = (chunk + 1) * steps / chunks;
    for (int64_t run = 0; run < runs; ++run) {
      const int64_t from = run * tiles / runs, until = (run + 1) * tiles / runs;
      call_.unit.multiply({activations + from * kTileBytes, call_.planes.step_offsets().data() + first,
                           bits + first * kTileRows, end - first, tile_weights_, kept, are_kept_ || run > 0, chunk > 0,
                           static_cast<int>(until - from), products + from * kTileProducts, finisher_});
    }
  }
  are_kept_ = steps <= kNearSteps;
}

}  // namespace bnn::cpu
