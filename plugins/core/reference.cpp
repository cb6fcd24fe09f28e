#include "core/reference.h"

#include <algorithm>

#include "core/float_values.h"

namespace bnn::reference {
namespace {

// The sum over the taps of one output value.
int32_t accumulate(const ConvAttributes& a, const ConvWeightShape& w, const ConvShape& s, const int32_t* image,
                   const int32_t* weight, int64_t o, int64_t out_row, int64_t out_column) {
  const int64_t group_channels = a.channels / a.group;
  const int64_t first_channel = o / (w.outputs / a.group) * group_channels;
  const int64_t pixel_words = planes_of(a.levels) * words_for(a.channels);
  int32_t sum = 0;
  for (int64_t kh = 0; kh < w.kernel_height; ++kh)
    for (int64_t kw = 0; kw < w.kernel_width; ++kw) {
      const int64_t row = out_row * a.strides[0] + kh * a.dilations[0] - a.pads[0];
      const int64_t column = out_column * a.strides[1] + kw * a.dilations[1] - a.pads[1];
      const bool padded = row < 0 || row >= s.height || column < 0 || column >= s.width;
      const int32_t* pixel = padded ? nullptr : image + (row * s.width + column) * pixel_words;
      const int32_t* tap = weight + ((o * w.kernel_height + kh) * w.kernel_width + kw) * w.words;
      for (int64_t c = 0; c < group_channels; ++c) {
        const int32_t x = padded ? a.pad_value : value_of(pixel, first_channel + c, a.channels, a.levels);
        sum += bit_of(tap, c) ? x : -x;
      }
    }
  return sum;
}

}  // namespace

void convolve(const ConvAttributes& a, const ConvWeightShape& w, const ConvShape& s, const int32_t* packed,
              const int32_t* weight, int32_t* accumulator) {
  const int64_t image_words = s.height * s.width * planes_of(a.levels) * words_for(a.channels);
  for (int64_t n = 0; n < s.batch; ++n)
    for (int64_t o = 0; o < w.outputs; ++o)
      for (int64_t row = 0; row < s.out_height; ++row)
        for (int64_t column = 0; column < s.out_width; ++column)
          *accumulator++ = accumulate(a, w, s, packed + n * image_words, weight, o, row, column);
}

void finish(const EpilogueKind& kind, const EpilogueOperands& operands, int64_t batch, int64_t outputs, int64_t pixels,
            const int32_t* accumulator, const void* residual, void* y, int32_t* bits) {
  if (bits) std::fill(bits, bits + batch * pixels * words_for(outputs), 0);
  for (int64_t n = 0; n < batch; ++n)
    for (int64_t o = 0; o < outputs; ++o)
      for (int64_t p = 0; p < pixels; ++p) {
        const int64_t at = (n * outputs + o) * pixels + p;
        float z = 0.0f;
        if (kind.float_output) {
          const float added = residual ? load_value(residual, at, kind.float16) : 0.0f;
          z = finish_value(kind, operands, o, accumulator[at], added);
          store_value(y, at, kind.float16, z);
        }
        if (bits && finish_bit(kind, operands, o, accumulator[at], z)) {
          int32_t& word = bits[(n * pixels + p) * words_for(outputs) + o / kWordBits];
          word = static_cast<int32_t>(static_cast<uint32_t>(word) | uint32_t{1} << (o % kWordBits));
        }
      }
}

}  // namespace bnn::reference
