// What the kernels are asked for: plain numbers, and pointers to device memory.
#pragma once

#include <cstdint>

#include "core/conv_shape.h"
#include "core/epilogue.h"

namespace bnn::cuda {

// Of a real tensor: [N, C, H, W] or [N, H, W, C].
enum class Layout { kChannelsFirst, kChannelsLast };

// How many operands an output channel can have at once: scale, bias, slope, shift, and two bounds.
constexpr int kOperandCount = 6;

// A 1-bit convolution.
struct ConvTask {
  // Sizes. `words` are those of one plane of one pixel, and of one tap of a weight.
  int batch, height, width, channels, words, planes;
  int outputs, kernel_height, kernel_width, group;
  int stride_y, stride_x, dilation_y, dilation_x, pad_top, pad_left;
  int out_height, out_width;
  Levels levels;
  int pad_value;

  // A window is padded at the top by at most `padded_top` taps, and so on: the classes of the border table.
  int padded_top, padded_left, padded_bottom, padded_right;
  int border_stride;      // outputs of a class, rounded up
  const int32_t* border;  // [classes, border_stride]

  const int32_t* packed;  // [N, H, W, planes * words]
  const int32_t* weight;  // [O, KH, KW, words]
  EpilogueKind kind;
  EpilogueOperands operands;
  Layout layout;         // of y and of the residual; kind.float16 is their type
  const void* residual;  // like y
  void* y;               // null unless kind.float_output
  bool vectors;          // whether y and the residual may be accessed 16 bytes at a time
  int32_t* bits;         // [N, H', W', words_for(O)], null unless kind.packed_output
  int32_t* accumulator;  // [N, O, H', W'], null unless asked for

  constexpr int taps() const { return kernel_height * kernel_width; }
  // Of the words of `weight`.
  constexpr int64_t weight_at(int output, int tap, int word) const {
    return (int64_t{output} * taps() + tap) * words + word;
  }
  constexpr int64_t column_classes() const { return int64_t{padded_left + 1} * (padded_right + 1); }
  constexpr int64_t classes() const { return int64_t{padded_top + 1} * (padded_bottom + 1) * column_classes(); }
  // Of the border table; 0 where it would be far larger than that of any network.
  constexpr int64_t border_entries() const {
    constexpr int64_t kMost = int64_t{1} << 24;
    return classes() <= kMost / border_stride ? classes() * border_stride : 0;
  }
  constexpr int output_words() const { return static_cast<int>(words_for(outputs)); }
};

// How many taps of a window lie before the first pixel of an axis, and how many behind the last one.
struct PaddedTaps {
  int before, behind;
};

// `first`: the position of the first tap.
constexpr PaddedTaps padded_taps(int first, int kernel, int dilation, int size) {
  PaddedTaps padded{0, 0};
  if (first < 0) {
    padded.before = (-first + dilation - 1) / dilation;
    if (padded.before > kernel) padded.before = kernel;
  }
  const int over = first + (kernel - 1) * dilation - (size - 1);
  if (over > 0) {
    padded.behind = (over + dilation - 1) / dilation;
    if (padded.behind > kernel) padded.behind = kernel;
  }
  return padded;
}

// Which row of the border table an output pixel reads.
constexpr int border_class(const ConvTask& task, int out_row, int out_column) {
  const PaddedTaps y =
      padded_taps(out_row * task.stride_y - task.pad_top, task.kernel_height, task.dilation_y, task.height);
  const PaddedTaps x =
      padded_taps(out_column * task.stride_x - task.pad_left, task.kernel_width, task.dilation_x, task.width);
  return (y.before * (task.padded_bottom + 1) + y.behind) * static_cast<int>(task.column_classes()) +
         x.before * (task.padded_right + 1) + x.behind;
}

// Real values to bits.
enum class PackKind { kBipolar, kUnipolar, kTernary, kInterval };

struct PackTask {
  PackKind kind;
  Layout layout;
  bool float16;                // the type of x
  int batch, channels, words;  // words of one plane
  int64_t pixels;              // of one image
  const void* x;               // [N, C, pixels] or [N, pixels, C]
  const float *lower, *upper;  // thresholds, [1] or [C]; upper for kInterval alone, none for kTernary
  int lower_step, upper_step;  // from one channel's threshold to the next: 0 or 1
  int32_t* packed;             // [N, pixels, planes * words]

  constexpr int planes() const { return kind == PackKind::kTernary ? 2 : 1; }
};

// Max-pooling of packed bits.
struct MaxPoolTask {
  int batch, height, width, channels, words;
  int kernel_height, kernel_width, stride_y, stride_x, pad_top, pad_left, out_height, out_width;
  const int32_t* packed;  // [N, H, W, words]
  const int32_t* flip;    // [words]
  int32_t* out;           // [N, H', W', words]
};

}  // namespace bnn::cuda
