// What one thread does of a convolution on a matrix unit.
#pragma once

#include <cstdint>

#include "cpu/matrix_finisher.h"
#include "cpu/matrix_plan.h"
#include "cpu/tile_weights.h"

namespace bnn::cpu {

// Goes through the pixels of a band for some tiles of output channels, in the stages of a plan: those of one are
// multiplied while the pixels of the one before are finished.
class MatrixPart {
 public:
  static int64_t memory_bytes(const MatrixPlan& plan);

  // memory: aligned, of that many bytes
  MatrixPart(const MatrixCall& call, const MatrixPlan& plan, const TileWeights& weights, uint8_t* memory);

  // Tiles [first_tile, end_tile) of output channels, counted through all groups. activations: the band's planes.
  void run(const Band& band, int64_t first_tile, int64_t end_tile, const int8_t* activations);

 private:
  void run_tiles(const Band& band, int64_t tile, int output_tiles, const int8_t* activations);
  void multiply(const MatrixPlan::Stage& stage, const int8_t* activations, const uint64_t* bits, int output_tiles);

  const MatrixCall& call_;
  const MatrixPlan& plan_;
  const TileWeights& weights_;
  int8_t* tile_weights_;             // as bytes
  int32_t* products_[2];             // of one tile of outputs and of the next, in turns
  ProductTiles product_tiles_[2]{};  // of the last call and of the next, in turns
  int last_ = 0;
  MatrixFinisher finisher_;
  bool are_kept_ = false;  // the bytes of all weights of a tile of outputs
};

}  // namespace bnn::cpu
