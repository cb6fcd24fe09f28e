// The inner loops, one set for each instruction set. `counting_conv.cpp` and its neighbours put the outer loops around
// them; nothing else knows which set runs.
//
// A convolution counts, for a tile of output pixels and four output channels at a time, the bits in which activations
// and weights differ. The activations of a tile lie in a *column*: row k holds the same few channels of the same tap
// for each pixel of the tile, so that a vector's lanes are pixels. What a cell of a row holds is the set's own choice.
#pragma once

#include <cstdint>

#include "core/epilogue.h"

namespace bnn::cpu {

struct MatrixUnit;

enum class Cell {
  kWord,    // uint32: 32 channels of a pixel
  kNibble,  // uint8: 4 channels of a pixel, high half 0; or kNoNibble
};

constexpr uint8_t kNoNibble = 0x80;  // differs from no weight in any bit

constexpr int64_t cell_bytes(Cell cell) { return cell == Cell::kWord ? 4 : 1; }
constexpr int64_t cell_channels(Cell cell) { return cell == Cell::kWord ? 32 : 4; }

constexpr int kBlockOutputs = 4;        // output channels counted at a time
constexpr int kMostTilePixels = 208;    // pixels of the largest tile of any set
constexpr int kPrefetchedBytes = 4096;  // of weights, ahead: a processor does that by itself within a page alone
constexpr int64_t kSplitWords = 64;     // whose nibbles are taken apart at a time
constexpr int64_t kSlackBytes = 64;     // how far copies of whole vectors may run past what they copy

// column: [rows, row_cells] cells, of which the first `vectors` vectors are counted; weights: the block's, as
// `PreparedWeights` lays them out; counts: [kBlockOutputs, kMostTilePixels], the number of differing bits, in a type of
// the set's own choice of up to 32 bits.
//
// A few pixels that would not fill another vector may follow as a tail, one by one: tail: [tail_pixels, rows,
// kBlockOutputs] words, each word as often as a block has outputs, so that it meets the weights of all of them.
struct CountTask {
  const void* column;
  int64_t rows;
  int64_t row_cells;
  int vectors;
  const void* weights;
  void* counts;
  const uint32_t* tail;
  int tail_pixels;
};

// The counts of output `o` of a block.
template <class Count>
Count* counts_of(void* counts, int64_t o) {
  return static_cast<Count*>(counts) + o * kMostTilePixels;
}

// From counts to outputs: accumulator = base + multiplier * count, then the epilogue. The base is table[o][class of
// pixel], or the pixel's own.
struct FinishTask {
  void* counts;                   // as in `CountTask`
  int first_count;                // of the block's outputs
  int outputs;                    // 1 to kBlockOutputs
  int64_t first_output;           // of the layer, an index into the operands
  int pixels;                     // of the tile that are real
  int multiplier;                 // -2, -1 or 1
  const int32_t* table;           // [O, table_stride]
  const float* float_table;       // the same
  int64_t table_stride;           // a multiple of 16
  int64_t classes;                // entries of a table row in use
  const int32_t* class_of_pixel;  // [kMostTilePixels]
  const int32_t* base_of_pixel;   // [kMostTilePixels], or null; then the table is not read
  const void* residual;           // of the tile's first pixel and output 0; null for none
  void* y;                        // the same; null for none
  int64_t plane_stride;           // from one output channel to the next, in values
  uint32_t* words;                // [kMostTilePixels], packed outputs: bit o % 32 is set where it is 1
};

// Where a run of neighbouring output pixels finds its input: `length` cells from `source` on, for the tap at (0, 0).
struct Run {
  int64_t source;
  int32_t target;
  int32_t length;
};

// planes: [planes, plane_cells]; a column row for each tap and plane. tap_offsets: [taps], in cells.
struct GatherTask {
  const void* planes;
  int64_t plane_cells;
  int64_t plane_count;
  const int64_t* tap_offsets;
  int64_t taps;
  const Run* runs;
  int run_count;
  int64_t row_cells;
  void* column;
};

// words: [kSplitWords] -> cells: [8, kSplitWords], four bits of each word after the other, and padding in all of them.
struct SplitTask {
  const uint32_t* words;
  const uint8_t* padding;  // [kSplitWords]: kNoNibble or 0
  int64_t count;           // how many of them are wanted
  uint8_t* cells;
};

enum class Compare { kGreaterOrEqual, kGreater, kNotGreaterOrEqual, kBetween };

// x: [channels, pixels], rows `plane_stride` values apart -> words: [pixels] words `word_stride` apart, at most 32
// channels. lower, upper: one value for each channel, `bound_stride` (0 or 1) apart; upper is read by kBetween only.
struct PackTask {
  const void* x;
  bool float16;  // the type of x
  int64_t plane_stride;
  int channels;
  int64_t pixels;
  Compare compare;
  const float* lower;
  const float* upper;
  int64_t bound_stride;
  int32_t* words;
  int64_t word_stride;
};

// Averages of windows without padding, of `channels` planes: y[c][p] is that of output pixel first + p, counted row by
// row. The sum goes up from zero, row by row of the window, and is divided by the number of its pixels.
struct AverageTask {
  const float* x;  // of the first plane
  int64_t plane_stride;
  int64_t width;  // of a plane of x
  int64_t kernel[2];
  int64_t strides[2];
  int64_t out_width;
  int64_t channels;
  int64_t first;
  int64_t pixels;
  float* y;
  int64_t y_stride;  // from one channel to the next
};

constexpr int kPointwiseVectors = 3;  // of pixels whose outputs are summed at a time

// A 1x1 convolution: y[o][p] = bias[o] + sum over k < terms of weights[k][o] * x[k][p], for a block of output channels.
//
// x is read in whole vectors. A few pixels that would not fill another one may follow in y as a tail, whose values of x
// are spread: each as often as a block has outputs.
struct PointwiseTask {
  const float* x;
  int64_t row_stride;
  int64_t terms;
  int pixels;
  const float* tail;  // [tail_pixels, terms, float_outputs]
  int tail_pixels;
  const float* weights;  // [terms, float_outputs]
  const float* bias;     // [outputs]
  int outputs;           // 1 to float_outputs
  float* y;
  int64_t plane_stride;
};

constexpr int kStemTile = 4;     // rows and columns of a tile of outputs
constexpr int kStemPoints = 7;   // rows and columns of its transformed inputs
constexpr int kStemTaps = 4;     // rows and columns of a kernel once its even and odd ones are apart
constexpr int kStemLines = 16;   // as many as a tile reads rows of the image, and two more
constexpr int kStemVectors = 2;  // of tiles side by side, summed at a time

// A stem's four phases: even and odd rows of the kernel with even and odd columns. At infinity, the last point, a
// phase's transformed kernel is its last tap, which odd rows or columns do not have if the kernel has fewer than 8 of
// them (few_columns); there these phases are last, and left out.
constexpr int stem_place(bool few_columns, int column_point, int row_parity, int column_parity) {
  const bool by_columns = few_columns && column_point == kStemPoints - 1;
  return by_columns ? 2 * column_parity + row_parity : 2 * row_parity + column_parity;
}

// One row of tiles of a stem: the convolution's outputs in rows 4 tile_row to 4 tile_row + rows - 1, pooled.
//
// A line is a row of the padded image, its columns sorted by their remainder modulo 8: [8, line_cells].
struct StemTask {
  const float* image;  // [channels, height, width]
  int64_t channels, height, width;
  int64_t pad_top, pad_left;
  int64_t tile_row;
  bool is_first;               // or lines has the rows of the tiles above
  bool few_rows, few_columns;  // whether the kernel has fewer than 8 of them
  int rows;                    // of the convolution's outputs, 1 to 4
  int pooled_rows;             // 1 or 2
  int64_t pooled_width;        // of y
  int64_t tiles;               // side by side, filled up to whole steps of kStemVectors vectors
  int64_t line_cells;          // as many, and one more vector
  const float* beyond;   // [4, tiles]: -infinity in the first column beyond the outputs, else infinity; null: in none
  const float* weights;  // [blocks, 49, phase in its place, channels, float_outputs], transformed
  const float* bias;     // [outputs]
  int64_t outputs;
  float* y;  // the first pooled row of output 0
  int64_t plane_stride;
  // Memory.
  float* padded_line;  // [8 line_cells], zeros where the padding is
  float* lines;        // [channels, row % kStemLines, 8, line_cells]
  float* transformed;  // [49, phase in its place, channels, kStemVectors vectors]
  float* right;        // [outputs, 4, vector]: the last columns of the vector of tiles to the left
  float* above;        // [outputs, 2, tiles]: the largest values in the last row of the tiles above
};

struct Kernels {
  const char* name;
  Cell cell;
  int lanes;               // cells of a vector
  int counted_vectors;     // of a tile, at a time
  int most_vectors;        // of a tile whose column fits the nearest cache; else counted_vectors
  int most_tail;           // pixels of a tile beyond its vectors
  int row_multiple;        // rows of a column are filled up with zeros to a multiple of this
  int64_t most_rows;       // the greatest number of rows whose counts do not overflow
  double products_per_ns;  // of one bit each, roughly: whether it is worth to wake another thread
  bool (*supported)();
  void (*count)(const CountTask&);
  void (*finish)(const EpilogueKind&, const EpilogueOperands&, const FinishTask&);
  void (*gather)(const GatherTask&);
  // Null, or what `count` wants done to a gathered column, and once to weights: cells, [rows, row_cells].
  void (*chain_rows)(uint32_t* cells, int64_t rows, int64_t row_cells);
  void (*split_nibbles)(const SplitTask&);
  void (*pack)(const PackTask&);
  int64_t (*differing_bits)(const int32_t* a, const int32_t* b, int64_t words);
  int float_lanes;               // pixels of a vector of float32
  int float_outputs;             // output channels that float layers sum at a time
  double float_products_per_ns;  // roughly
  void (*average)(const AverageTask&);
  void (*pointwise)(const PointwiseTask&);
  void (*stem)(const StemTask&);
  const MatrixUnit* matrix_unit = nullptr;  // or what multiplies instead of counting, where that is faster
};

// The sets that were compiled, best first; the last one runs everywhere.
const Kernels* const* all_kernels(int* count);

// The best set that this processor supports, or the one that the environment variable BNN_DEPLOY_CPU_KERNELS names.
// Throws InvalidInput where that one is unknown or not supported.
const Kernels& chosen_kernels();

// The set of that name. Throws InvalidInput where it is unknown or not supported.
const Kernels& kernels_named(const char* name);

// Those of one file each, as far as they are compiled.
const Kernels& amx_kernels();
const Kernels& avx512_kernels();
const Kernels& avx2_kernels();
const Kernels& neon_kernels();
const Kernels& scalar_kernels();

}  // namespace bnn::cpu
