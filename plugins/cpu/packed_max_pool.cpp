#include "cpu/packed_max_pool.h"

#include <algorithm>

#include "core/error.h"

namespace bnn::cpu {

MaxPoolShape max_pool_shape(const MaxPoolAttributes& a, const Dims& packed, const Dims& flip) {
  // The rules for sizes are those of a convolution with one weight for each tap.
  ConvAttributes conv;
  conv.channels = a.channels;
  std::copy(a.strides, a.strides + 2, conv.strides);
  std::copy(a.pads, a.pads + 4, conv.pads);
  check(conv);
  const int64_t words = words_for(a.channels);
  const ConvWeightShape window = weight_shape(conv, {1, a.kernel[0], a.kernel[1], words});
  const ConvShape shape = conv_shape(conv, window, packed);
  if (flip.size() != 1 || flip[0] != words) refuse("flip has shape ", to_text(flip), ", wanted ", words, " words");
  return {shape.batch, shape.height, shape.width, words, shape.out_height, shape.out_width};
}

void max_pool(const MaxPoolAttributes& a, const MaxPoolShape& s, const int32_t* packed, const int32_t* flip,
              int32_t* out, Runtime& runtime) {
  const uint32_t last_used = used_bits(a.channels, s.words - 1);
  const double words = static_cast<double>(s.batch * s.out_height * s.out_width * s.words);
  const double time = words * static_cast<double>(a.kernel[0] * a.kernel[1]);  // a nanosecond each
  runtime.run_tasks(static_cast<size_t>(s.batch * s.out_height), time, [&](size_t task) {
    const int64_t n = static_cast<int64_t>(task) / s.out_height, y = static_cast<int64_t>(task) % s.out_height;
    const int64_t top = std::max<int64_t>(0, y * a.strides[0] - a.pads[0]);
    const int64_t bottom = std::min(s.height, y * a.strides[0] - a.pads[0] + a.kernel[0]);
    for (int64_t x = 0; x < s.out_width; ++x) {
      const int64_t left = std::max<int64_t>(0, x * a.strides[1] - a.pads[1]);
      const int64_t right = std::min(s.width, x * a.strides[1] - a.pads[1] + a.kernel[1]);
      for (int64_t w = 0; w < s.words; ++w) {
        uint32_t greatest = 0;
        for (int64_t row = top; row < bottom; ++row)
          for (int64_t column = left; column < right; ++column)
            greatest |=
                static_cast<uint32_t>(packed[((n * s.height + row) * s.width + column) * s.words + w] ^ flip[w]);
        const uint32_t used = w + 1 == s.words ? last_used : ~uint32_t{0};
        const int64_t at = ((n * s.out_height + y) * s.out_width + x) * s.words + w;
        out[at] = static_cast<int32_t>((greatest ^ static_cast<uint32_t>(flip[w])) & used);
      }
    }
  });
}

}  // namespace bnn::cpu
