// A row of tiles of a stem: a stride-2 convolution by Winograd's method, and the max-pool behind it.
//
// Two outputs side by side read inputs two columns apart, so the convolution is taken apart into four of stride 1: of
// the even and odd rows and columns of the image with those of the kernel, at most 4x4 taps each. Their sum is one
// convolution of stride 1 with four times the channels, whose 4x4 outputs cost 7x7 products for each pair of an input
// and an output channel instead of 4x4x4x4: F(4x4, 4x4) of Lavin and Gray, "Fast Algorithms for Convolutional Neural
// Networks" (2016), for the points 0, 1, -1, 2, -2, -1/2 and infinity.
//
//     Y = A^T [ sum over channels of (G g G^T) * (B^T d B) ] A
//
// Lanes are tiles side by side. Included by files that are compiled for different instruction sets: see
// `finish_lanes.h`.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "cpu/kernels.h"
#include "cpu/product_lanes.h"

namespace bnn::cpu {

// B^T: the row of a finite point p holds the coefficients of the product of (x - q) over the other finite points q;
// that of infinity, of the product over all of them. All are exact in binary.
constexpr float kInputTransform[kStemPoints][kStemPoints] = {
    {2.0f, 4.0f, -2.5f, -5.0f, 0.5f, 1.0f, 0.0f}, {0.0f, -2.0f, -6.0f, -3.5f, 1.5f, 1.0f, 0.0f},
    {0.0f, 2.0f, 2.0f, -4.5f, -0.5f, 1.0f, 0.0f}, {0.0f, -1.0f, -2.5f, 0.0f, 2.5f, 1.0f, 0.0f},
    {0.0f, 1.0f, 1.5f, -2.0f, -1.5f, 1.0f, 0.0f}, {0.0f, 4.0f, 0.0f, -5.0f, 0.0f, 1.0f, 0.0f},
    {0.0f, 2.0f, 4.0f, -2.5f, -5.0f, 0.5f, 1.0f},
};

// out = B^T in.
template <class Lanes>
inline __attribute__((always_inline)) void transform_input(const Vector<Lanes>* in, Vector<Lanes>* out) {
#pragma GCC unroll 7
  for (int point = 0; point < kStemPoints; ++point) {
    // Each row has a coefficient 1 in place 5 or 6.
    const int one = kInputTransform[point][5] == 1.0f ? 5 : 6;
    out[point] = in[one];
#pragma GCC unroll 7
    for (int i = 0; i < kStemPoints; ++i)
      if (i != one && kInputTransform[point][i] != 0.0f)
        out[point] = Lanes::multiply_add(Lanes::set(kInputTransform[point][i]), in[i], out[point]);
  }
}

// out = A^T m, row j of which holds p^j for the finite points p; that of infinity counts in the last row alone.
template <class Lanes>
inline __attribute__((always_inline)) void transform_output(const Vector<Lanes> (&m)[kStemPoints],
                                                            Vector<Lanes> (&out)[kStemTile]) {
  const auto sum1 = Lanes::add(m[1], m[2]), difference1 = Lanes::subtract(m[1], m[2]);
  const auto sum2 = Lanes::add(m[3], m[4]), difference2 = Lanes::subtract(m[3], m[4]);
  out[0] = Lanes::add(Lanes::add(m[0], m[5]), Lanes::add(sum1, sum2));
  out[1] =
      Lanes::multiply_add(Lanes::set(2.0f), difference2, Lanes::multiply_add(Lanes::set(-0.5f), m[5], difference1));
  out[2] = Lanes::multiply_add(Lanes::set(4.0f), sum2, Lanes::multiply_add(Lanes::set(0.25f), m[5], sum1));
  out[3] = Lanes::multiply_add(Lanes::set(8.0f), difference2,
                               Lanes::multiply_add(Lanes::set(-0.125f), m[5], Lanes::add(difference1, m[6])));
}

// Takes a line of 8 n values apart into 8 lines of n: value i goes to line i % 8. n is a multiple of the vector's
// width.
template <class Lanes>
void split_by_eight(const float* line, int64_t n, float* lines) {
  constexpr int kWidth = Lanes::kWidth;
  for (int64_t i = 0; i < n; i += kWidth, line += 8 * kWidth) {
    Vector<Lanes> two[2][4];  // by i % 2
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const auto a = Lanes::load(line + 2 * k * kWidth), b = Lanes::load(line + (2 * k + 1) * kWidth);
      two[0][k] = Lanes::evens(a, b);
      two[1][k] = Lanes::odds(a, b);
    }
#pragma GCC unroll 2
    for (int r = 0; r < 2; ++r) {
      const Vector<Lanes> four[2][2] = {{Lanes::evens(two[r][0], two[r][1]), Lanes::evens(two[r][2], two[r][3])},
                                        {Lanes::odds(two[r][0], two[r][1]), Lanes::odds(two[r][2], two[r][3])}};
#pragma GCC unroll 2
      for (int q = 0; q < 2; ++q) {
        Lanes::store(lines + (r + 2 * q) * n + i, Lanes::evens(four[q][0], four[q][1]));
        Lanes::store(lines + (r + 2 * q + 4) * n + i, Lanes::odds(four[q][0], four[q][1]));
      }
    }
  }
}

// Where a row of the padded image has its line.
template <class Lanes>
float* line_of(const StemTask& t, int64_t channel, int64_t padded_row) {
  return t.lines + (channel * kStemLines + padded_row % kStemLines) * 8 * t.line_cells;
}

// The rows of the padded image that this row of tiles reads and the one above it did not, each taken apart by eight.
template <class Lanes>
void read_lines(const StemTask& t) {
  const int64_t length = 8 * t.line_cells, begin = t.tile_row * 2 * kStemTile, end = begin + 2 * kStemPoints;
  for (int64_t c = 0; c < t.channels; ++c)
    for (int64_t padded_row = t.is_first ? begin : end - 2 * kStemTile; padded_row < end; ++padded_row) {
      const int64_t row = padded_row - t.pad_top;
      float* lines = line_of<Lanes>(t, c, padded_row);
      if (row < 0 || row >= t.height) {
        std::memset(lines, 0, static_cast<size_t>(length) * sizeof(float));
        continue;
      }
      const int64_t room = length - t.pad_left, count = t.width < room ? t.width : room;
      std::memcpy(t.padded_line + t.pad_left, t.image + (c * t.height + row) * t.width,
                  static_cast<size_t>(count) * sizeof(float));
      split_by_eight<Lanes>(t.padded_line, t.line_cells, lines);
    }
}

// B^T d B of one vector of tiles, of one phase of a channel. transformed: where that vector of the channel is at the
// first point, in the first place.
template <class Lanes>
void transform_tiles(const StemTask& t, int64_t channel, int row_parity, int column_parity, int64_t first_tile,
                     float* transformed) {
  constexpr int kChunk = kStemVectors * Lanes::kWidth;
  int64_t offsets[kStemPoints];  // of the columns of d, in a line
  for (int s = 0; s < kStemPoints; ++s) {
    const int column = 2 * s + column_parity;
    offsets[s] = column % 8 * t.line_cells + column / 8 + first_tile;
  }
  Vector<Lanes> wide[kStemPoints][kStemPoints];  // [row of d, point]
#pragma GCC unroll 1
  for (int r = 0; r < kStemPoints; ++r) {
    const float* line = line_of<Lanes>(t, channel, (t.tile_row * kStemTile + r) * 2 + row_parity);
    Vector<Lanes> d[kStemPoints];
#pragma GCC unroll 7
    for (int s = 0; s < kStemPoints; ++s) d[s] = Lanes::load(line + offsets[s]);
    transform_input<Lanes>(d, wide[r]);
  }
  const int64_t point_step = 4 * t.channels * kChunk;
  // At infinity a phase may be left out: see `stem_place`.
  const int rows = row_parity == 1 && t.few_rows ? kStemPoints - 1 : kStemPoints;
  const int columns = column_parity == 1 && t.few_columns ? kStemPoints - 1 : kStemPoints;
#pragma GCC unroll 1
  for (int column = 0; column < columns; ++column) {
    Vector<Lanes> d[kStemPoints], points[kStemPoints];
#pragma GCC unroll 7
    for (int r = 0; r < kStemPoints; ++r) d[r] = wide[r][column];
    transform_input<Lanes>(d, points);
    const int place = stem_place(t.few_columns, column, row_parity, column_parity);
    float* out = transformed + column * point_step + place * t.channels * kChunk;
#pragma GCC unroll 7
    for (int row = 0; row < kStemPoints; ++row, out += kStemPoints * point_step)
      if (row < rows) Lanes::store(out, points[row]);
  }
}

// The same of a chunk of tiles, all phases and channels: t.transformed.
template <class Lanes>
void transform_chunk(const StemTask& t, int64_t first_tile) {
  for (int64_t c = 0; c < t.channels; ++c)
    for (int phase = 0; phase < 4; ++phase)
      for (int v = 0; v < kStemVectors; ++v) {
        float* out = t.transformed + c * kStemVectors * Lanes::kWidth + v * Lanes::kWidth;
        transform_tiles<Lanes>(t, c, phase / 2, phase % 2, first_tile + v * Lanes::kWidth, out);
      }
}

// The largest value of each window, of a vector of tiles: two rows of two values a tile.
//
// y: the convolution's outputs; before: the rows' last columns in the vector to the left; below: [2, width], the
// largest of the row above in the columns of each pooled value, replaced by those of this row.
template <class Lanes>
inline __attribute__((always_inline)) void pool_tiles(const Vector<Lanes> (&y)[kStemTile][kStemTile],
                                                      Vector<Lanes> (&before)[kStemTile], int rows, float* above,
                                                      int64_t above_stride, Vector<Lanes> (&pooled)[2][2]) {
  Vector<Lanes> row_maximum[kStemTile][2];
#pragma GCC unroll 4
  for (int i = 0; i < kStemTile; ++i) {
    const auto left = Lanes::shift_in(before[i], y[i][3]);
    before[i] = y[i][3];
    row_maximum[i][0] = Lanes::max(Lanes::max(left, y[i][0]), y[i][1]);
    row_maximum[i][1] = Lanes::max(Lanes::max(y[i][1], y[i][2]), y[i][3]);
  }
  const auto nothing = Lanes::set(-INFINITY);
#pragma GCC unroll 2
  for (int q = 0; q < 2; ++q) {
#pragma GCC unroll 4
    for (int i = 1; i < kStemTile; ++i)
      if (i >= rows) row_maximum[i][q] = nothing;
    const auto last = Lanes::load(above + q * above_stride);
    pooled[0][q] = Lanes::max(Lanes::max(last, row_maximum[0][q]), row_maximum[1][q]);
    pooled[1][q] = Lanes::max(Lanes::max(row_maximum[1][q], row_maximum[2][q]), row_maximum[3][q]);
    Lanes::store(above + q * above_stride, row_maximum[3][q]);
  }
}

// Stores a vector's pooled values of one row, as far as the row goes.
template <class Lanes>
inline __attribute__((always_inline)) void store_pooled(const Vector<Lanes> (&pooled)[2], Vector<Lanes> bias,
                                                        int64_t count, float* y) {
  const Vector<Lanes> halves[2] = {Lanes::add(Lanes::interleave_low(pooled[0], pooled[1]), bias),
                                   Lanes::add(Lanes::interleave_high(pooled[0], pooled[1]), bias)};
#pragma GCC unroll 2
  for (int h = 0; h < 2; ++h, y += Lanes::kWidth, count -= Lanes::kWidth) {
    if (count >= Lanes::kWidth)
      Lanes::store(y, halves[h]);
    else if (count > 0)
      Lanes::store(y, halves[h], static_cast<int>(count));
  }
}

// One chunk of tiles for one block of output channels, from the transformed inputs to the pooled outputs. kChannels: of
// the image, or 0 for any number.
template <class Lanes, int kChannels>
void finish_chunk(const StemTask& t, int64_t first_tile, int64_t first_output) {
  constexpr int kWidth = Lanes::kWidth, kChunk = kStemVectors * kWidth, kOutputs = Lanes::kFloatOutputs;
  const int64_t terms = 4 * (kChannels ? kChannels : t.channels);
  const float* weights = t.weights + first_output * kStemPoints * kStemPoints * terms;
  const float* inputs = t.transformed;
  Vector<Lanes> wide[kOutputs][kStemVectors][kStemTile][kStemPoints];  // columns transformed, rows not yet
  for (int row = 0; row < kStemPoints; ++row) {
    Sums<Lanes, kStemVectors> sums[kStemPoints];
    for (int column = 0; column < kStemPoints; ++column) {
      const int halvings = (t.few_rows && row == kStemPoints - 1) + (t.few_columns && column == kStemPoints - 1);
      sums[column] = halvings == 0 ? sum_products<Lanes, kStemVectors>(weights, inputs, kChunk, terms)
                                   : sum_products<Lanes, kStemVectors>(weights, inputs, kChunk, terms >> halvings);
      weights += terms * kOutputs;
      inputs += terms * kChunk;
    }
    for (int o = 0; o < kOutputs; ++o)
      for (int v = 0; v < kStemVectors; ++v) {
        Vector<Lanes> m[kStemPoints], out[kStemTile];
#pragma GCC unroll 7
        for (int column = 0; column < kStemPoints; ++column) m[column] = sums[column].of[o][v];
        transform_output<Lanes>(m, out);
#pragma GCC unroll 4
        for (int j = 0; j < kStemTile; ++j) wide[o][v][j][row] = out[j];
      }
  }
  const int64_t last = t.outputs - first_output < kOutputs ? t.outputs - first_output : kOutputs;
  for (int64_t o = 0; o < last; ++o) {
    const int64_t output = first_output + o;
    float* right = t.right + output * kStemTile * kWidth;
    Vector<Lanes> before[kStemTile];
#pragma GCC unroll 4
    for (int i = 0; i < kStemTile; ++i)
      before[i] = first_tile ? Lanes::load(right + i * kWidth) : Lanes::set(-INFINITY);
    const auto bias = Lanes::set(t.bias[output]);
    for (int v = 0; v < kStemVectors; ++v) {
      const int64_t tile = first_tile + v * kWidth;
      Vector<Lanes> y[kStemTile][kStemTile], pooled[2][2];
#pragma GCC unroll 4
      for (int j = 0; j < kStemTile; ++j) {
        Vector<Lanes> column[kStemTile];
        transform_output<Lanes>(wide[o][v][j], column);
        if (t.beyond != nullptr) {
          const auto most = Lanes::load(t.beyond + j * t.tiles + tile);
#pragma GCC unroll 4
          for (int i = 0; i < kStemTile; ++i) column[i] = Lanes::min(column[i], most);
        }
#pragma GCC unroll 4
        for (int i = 0; i < kStemTile; ++i) y[i][j] = column[i];
      }
      pool_tiles<Lanes>(y, before, t.rows, t.above + output * 2 * t.tiles + tile, t.tiles, pooled);
      float* to = t.y + output * t.plane_stride + 2 * tile;
      for (int q = 0; q < t.pooled_rows; ++q)
        store_pooled<Lanes>(pooled[q], bias, t.pooled_width - 2 * tile, to + q * t.pooled_width);
    }
#pragma GCC unroll 4
    for (int i = 0; i < kStemTile; ++i) Lanes::store(right + i * kWidth, before[i]);
  }
}

template <class Lanes>
void stem(const StemTask& t) {
  read_lines<Lanes>(t);
  for (int64_t tile = 0; tile < t.tiles; tile += kStemVectors * Lanes::kWidth) {
    transform_chunk<Lanes>(t, tile);
    for (int64_t o = 0; o < t.outputs; o += Lanes::kFloatOutputs)
      t.channels == 3 ? finish_chunk<Lanes, 3>(t, tile, o) : finish_chunk<Lanes, 0>(t, tile, o);
  }
}

}  // namespace bnn::cpu
