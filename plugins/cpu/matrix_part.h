// What one thread does of a convolution on a matrix unit.
#pragma once

#include <cstdint>

#include "cpu/matrix_finisher.h"
#include "cpu/tile_weights.h"

namespace bnn::cpu {

// Goes through the pixels of a band for some tiles of output channels, in stages: the tiles of positions of one stage
// are multiplied while the pixels of the one before are finished.
class MatrixPart {
 public:
  static int64_t memory_bytes(const MatrixCall& call);

  // memory: aligned, of that many bytes
  MatrixPart(const MatrixCall& call, const TileWeights& weights, uint8_t* memory);

  // Tiles [first_tile, end_tile) of output channels, counted through all groups. activations: the band's planes.
  void run(const Band& band, int64_t first_tile, int64_t end_tile, const int8_t* activations);

 private:
  void run_tile(const Band& band, int64_t tile, const int8_t* activations);
  void multiply(const int8_t* activations, const uint64_t* bits, int64_t tiles, int32_t* products);

  const MatrixCall& call_;
  const TileWeights& weights_;
  int8_t* tile_weights_;  // as bytes
  int32_t* products_[2];  // of one stage and of the next, in turns
  MatrixFinisher finisher_;
  bool are_kept_ = false;  // the bytes of all weights of a tile of outputs
};

}  // namespace bnn::cpu
