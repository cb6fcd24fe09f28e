#include "cpu/matrix_part.h"

#include <algorithm>
#include <utility>

namespace bnn::cpu {

int64_t MatrixPart::memory_bytes(const MatrixPlan& plan) {
  return plan.weight_bytes() + plan.buffers() * plan.buffer_bytes();
}

MatrixPart::MatrixPart(const MatrixCall& call, const MatrixPlan& plan, const TileWeights& weights, uint8_t* memory)
    : call_(call),
      plan_(plan),
      weights_(weights),
      tile_weights_(reinterpret_cast<int8_t*>(memory)),
      finisher_(call, plan) {
  for (int i = 0; i < 2; ++i)
    products_[i] = reinterpret_cast<int32_t*>(memory + plan.weight_bytes() + i % plan.buffers() * plan.buffer_bytes());
}

void MatrixPart::run(const Band& band, int64_t first_tile, int64_t end_tile, const int8_t* activations) {
  call_.unit.acquire();
  for (int64_t tile = first_tile; tile < end_tile;) {
    const int64_t in_group = weights_.group_tiles() - tile % weights_.group_tiles();
    const int64_t output_tiles = std::min({int64_t{plan_.output_tiles()}, end_tile - tile, in_group});
    run_tiles(band, tile, static_cast<int>(output_tiles), activations);
    tile += output_tiles;
  }
  call_.unit.store(product_tiles_[last_]);
  finisher_.finish_all();
  call_.unit.release();
}

void MatrixPart::run_tiles(const Band& band, int64_t tile, int output_tiles, const int8_t* activations) {
  const int64_t group = tile / weights_.group_tiles(), index = tile % weights_.group_tiles();
  const int64_t output = group * weights_.group_outputs() + index * kTileOutputs;
  const int64_t outputs =
      std::min<int64_t>(output_tiles * kTileOutputs, weights_.group_outputs() - index * kTileOutputs);
  const int64_t first_pixel = band.first_row * call_.shape.out_width;
  activations += group * call_.planes.group_bytes();
  are_kept_ = false;
  for (const MatrixPlan::Stage& stage : plan_.stages()) {
    multiply(stage, activations, weights_.tile(group, index), output_tiles);
    finisher_.finish_all();
    finisher_.start({band.image, output, outputs, first_pixel + stage.first_pixel, stage.pixels}, products_[0],
                    plan_.product_offsets() + stage.first_pixel);
  }
  std::swap(products_[0], products_[1]);
}

void MatrixPart::multiply(const MatrixPlan::Stage& stage, const int8_t* activations, const uint64_t* bits,
                          int output_tiles) {
  const int place_step = plan_.output_tiles() / output_tiles;  // past the second tile where there is only one
  for (const MatrixPlan::Steps& steps : plan_.steps())
    for (int64_t r = stage.first_run; r < stage.end_run; ++r) {
      const MatrixPlan::Run& run = plan_.runs()[static_cast<size_t>(r)];
      const ProductTiles& earlier = product_tiles_[last_];
      last_ = 1 - last_;
      ProductTiles& products = product_tiles_[last_];
      const int tiles = run.position_tiles * output_tiles;
      for (int i = 0; i < kProductTiles; ++i)
        products.tiles[i] = i < tiles ? products_[0] + run.products[i * place_step] : nullptr;
      call_.unit.multiply({activations + run.first_tile * kTileBytes, call_.planes.step_offsets().data() + steps.first,
                           bits + steps.first * kTileRows, weights_.steps() * kTileRows, steps.end - steps.first,
                           tile_weights_, plan_.kept_steps(), are_kept_ || r > stage.first_run, steps.first > 0,
                           run.position_tiles, output_tiles, products, earlier, finisher_});
    }
  are_kept_ = plan_.keeps_all();
}

}  // namespace bnn::cpu
