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
constexpr int kProductTiles = 4;  // that a unit has registers for

// Bits of neighbouring pixels, of at most kStepChannels channels, as bytes, between padding:
// words -> bytes: [before + pixels + after, kStepChannels].
struct SpreadTask {
  const int32_t* words;  // of the first pixel
  int64_t pixel_stride;  // in words
  int64_t second_plane;  // of ternary activations, from the first one, in words
  int channels;
  int64_t before, pixels, after;
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

// Where the tiles of products of a call go, [kTileRows, kTileOutputs] each: that of position tile p and output tile o
// at index p * output tiles + o. Null where there is none.
struct ProductTiles {
  int32_t* tiles[kProductTiles];
};

// Tiles of products of some steps, of neighbouring tiles of positions and of outputs:
// products = sum over k of activations[k] * weights[k].
//
// They stay in the unit's registers until the next call of the same thread, or `store`: that they are stored is part of
// the next call's first step, which would else wait for the last step of this one.
//
// Weights come as bits, [steps, kTileRows] of kStepChannels each: bit 4 o + i of row r is channel 4 r + i of output o.
// They are made bytes once and kept, for as many steps as there is memory; with fewer than that, each just before it is
// used.
struct MultiplyTask {
  const int8_t* activations;    // of the first position of the first tile
  const int64_t* offsets;       // of each step, in bytes
  const uint64_t* weight_bits;  // of each step, of the first tile of outputs
  int64_t second_bits;          // from there to those of the second one
  int64_t steps;
  int8_t* weights;     // [output_tiles, kept_steps, kTileBytes]
  int64_t kept_steps;  // a power of two
  bool are_kept;       // weights has them already
  bool adds;           // to what products holds
  int position_tiles;  // with the next, up to kProductTiles of products
  int output_tiles;    // 1 or 2
  // Those of the call before, too. No copies: what was stored in small pieces and is read in larger ones waits.
  const ProductTiles &products, &earlier;
  Meanwhile& meanwhile;  // a piece of it for each step behind the first: it may read those of the call before
};

// From products to outputs: the epilogue of accumulators, for up to kTileRows neighbouring pixels of up to kTileOutputs
// channels.
struct FinishProductsTask {
  const int32_t* products;  // of the first channel
  const int64_t* offsets;   // from there to those of each of kTileRows pixels, all of which are read
  // Of 8 bytes: two smaller ones would be read as one, which waits for both to be in memory.
  int64_t pixels, outputs;
  int64_t first_output;  // of the layer, an index into the operands
  const void* residual;  // of the first pixel and output; null for none
  void* y;               // the same; null for none
  int64_t plane_stride;  // from one output channel to the next, in values
  // Packed outputs, of the first pixel: the half of a word that these outputs are in, from one pixel to the next one
  // bit_stride words; null for none. bit_bytes: that are written, 2 or, where the other half has no outputs, 4.
  uint8_t* bits;
  int64_t bit_stride, bit_bytes;
};

struct MatrixUnit {
  void (*acquire)();  // before a thread multiplies
  void (*release)();  // when it is done
  void (*spread)(const SpreadTask&);
  void (*multiply)(const MultiplyTask&);
  void (*store)(const ProductTiles&);  // those of the last call
  void (*finish)(const EpilogueKind&, const EpilogueOperands&, const FinishProductsTask&);
};

}  // namespace bnn::cpu
