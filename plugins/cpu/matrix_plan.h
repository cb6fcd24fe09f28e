// In which order a band is multiplied and finished on a matrix unit, and where its products are meanwhile.
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/byte_planes.h"
#include "cpu/matrix_unit.h"
#include "cpu/tile_weights.h"

namespace bnn::cpu {

// For one number of rows, the same for every tile of output channels. Made once for a size of the image: divisions and
// branches that depend on it, between the products of two stages, would let the matrix unit wait.
class MatrixPlan {
 public:
  // Neighbouring tiles of positions that are multiplied by the same weights. products: where those of position tile p
  // and output tile o are, at index p * output_tiles + o.
  struct Run {
    int64_t first_tile;
    int position_tiles;
    int64_t products[kProductTiles];
  };

  // Runs [first_run, end_run) are multiplied while the pixels of the stage before are finished.
  struct Stage {
    int64_t first_run, end_run;
    int64_t first_pixel;  // of the band
    int64_t pixels;       // that are finished when the stage is multiplied
  };

  // Steps of all of a stage's runs, before the next ones.
  struct Steps {
    int64_t first, end;
  };

  // rows: of the band
  MatrixPlan(const BytePlanes& planes, int64_t rows, const TileWeights& weights);

  const std::vector<Stage>& stages() const { return stages_; }
  const std::vector<Run>& runs() const { return runs_; }
  const std::vector<Steps>& steps() const { return steps_; }
  int output_tiles() const { return output_tiles_; }  // that are multiplied together: 1 or 2

  // From the products of a tile of outputs to those of the next one.
  int64_t output_stride() const { return output_stride_; }
  // Of each pixel, and of a vector behind the last one: where its products are.
  const int64_t* product_offsets() const { return product_offsets_.data(); }

  // The bytes of the weights of so many steps are kept, a power of two, of each of the tiles of outputs; of all steps
  // or just until they are used.
  int64_t kept_steps() const { return kept_steps_; }
  bool keeps_all() const { return keeps_all_; }

  // Of products: two tiles of outputs that follow each other take turns in as many buffers.
  int buffers() const { return buffers_; }
  int64_t buffer_bytes() const { return output_tiles_ * output_stride_ * static_cast<int64_t>(sizeof(int32_t)); }
  int64_t weight_bytes() const { return output_tiles_ * kept_steps_ * kTileBytes; }

 private:
  void add_stage(const BytePlanes& planes, int64_t first_tile, int64_t end_tile, int64_t pixels);

  const int output_tiles_;
  int buffers_;
  bool keeps_all_;
  int64_t kept_steps_, ring_tiles_, output_stride_;
  std::vector<Stage> stages_;
  std::vector<Run> runs_;
  std::vector<Steps> steps_;
  std::vector<int64_t> product_offsets_;
};

}  // namespace bnn::cpu
