// A processor's unit for products of integer matrices, where it has one. `matrix_conv.cpp` puts the outer loops around
// it.
//
// A tile is 16 rows of 64 bytes. One step multiplies a tile of activations, 16 neighbouring positions with 64 channels
// of one tap each, by a tile of weights, the same channels of 16 output channels, and adds to a tile of products:
// [positions, outputs] int32. What is a bit in memory is a byte here: an activation its value, 0 for a channel that
// does not exist, and a weight -1 or +1.
#pragma once

#include <cstdint>

#include "core/bits.h"
#include "core/epilogue.h"

namespace bnn::cpu {

constexpr int kTileRows = 16;      // positions
constexpr int kTileOutputs = 16;   // output channels
constexpr int kStepChannels = 64;  // and bytes of a row
constexpr int64_t kTileBytes = kTileRows * kStepChannels;
constexpr int kTileProducts = kTileRows * kTileOutputs;
constexpr int kMostTilesTogether = 4;  // of activations, that meet one tile of weights

// Bits of neighbouring pixels, of at most kStepChannels channels, as bytes: words -> bytes: [pixels, kStepChannels].
struct SpreadTask {
  const int32_t* words;  // of the first pixel; null: all pixels are padding
  int64_t pixel_stride;  // in words
  int64_t second_plane;  // of ternary activations, from the first one, in words
  int channels;
  int64_t pixels;
  Levels levels;
  int32_t pad_value;
  int8_t* bytes;
};

// Small pieces of work that need no products of the matrix unit: it takes so long for a step that its thread can do
// them meanwhile.
class Meanwhile {
 public:
  virtual ~Meanwhile() = default;
  bool is_done() const { return pieces_ == 0; }
  void next_piece() {
    --pieces_;
    do_piece();
  }

 protected:
  virtual void do_piece() = 0;
  int pieces_ = 0;  // that are left
};

// Tiles of products of some steps: products = sum over k of activations[k] * weights[k].
//
// Weights come as bits, [steps, kTileRows] of kStepChannels each: bit 4 o + i of row r is channel 4 r + i of output o.
// They are made bytes once and kept, for as many steps as there is memory; with fewer than that, each just before it is
// used.
struct MultiplyTask {
  const int8_t* activations;    // of the first position of the first tile
  const int64_t* offsets;       // of each step, in bytes
  const uint64_t* weight_bits;  // of each step
  int64_t steps;
  int8_t* weights;       // [kept_steps, kTileBytes]
  int64_t kept_steps;    // a power of two
  bool are_kept;         // weights has them already
  bool adds;             // to what products holds
  int tiles;             // 1 to kMostTilesTogether
  int32_t* products;     // [tiles, kTileRows, kTileOutputs]
  Meanwhile& meanwhile;  // a piece of it for each step
};

// From products to outputs: the epilogue of accumulators, for neighbouring pixels and up to kBlockOutputs channels.
struct FinishProductsTask {
  const int32_t* products;  // of the first channel
  const int64_t* offsets;   // from there to each pixel's; whole vectors are read
  int pixels;
  int outputs;
  int64_t first_output;  // of the layer, an index into the operands
  const void* residual;  // of the first pixel and output 0; null for none
  void* y;               // the same; null for none
  int64_t plane_stride;  // from one output channel to the next, in values
  uint32_t* words;       // packed outputs: bit o % 32 is set where it is 1
};

struct MatrixUnit {
  void (*acquire)();  // before a thread multiplies
  void (*release)();  // when it is done
  void (*spread)(const SpreadTask&);
  void (*multiply)(const MultiplyTask&);
  void (*finish)(const EpilogueKind&, const EpilogueOperands&, const FinishProductsTask&);
};

}  // namespace bnn::cpu
