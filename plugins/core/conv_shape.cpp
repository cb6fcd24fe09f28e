#include "core/conv_shape.h"

#include "core/error.h"

namespace bnn {
namespace {

// Far beyond any network, and small enough that the product of two such sizes is no overflow.
constexpr int64_t kLargestSize = int64_t{1} << 24;

constexpr int64_t kMostTaps = (int64_t{1} << 22);

}  // namespace

std::string to_text(const Dims& dims) {
  std::string text;
  for (const int64_t dim : dims) text += (text.empty() ? "" : "x") + std::to_string(dim);
  return text.empty() ? "a scalar" : text;
}

void check_range(const char* name, int64_t found, int64_t least) {
  if (found < least || found > kLargestSize)
    refuse("attribute ", name, " is ", found, ", wanted ", least, " to ", kLargestSize);
}

int64_t output_size(const char* axis, int64_t input, int64_t pads, int64_t kernel, int64_t dilation, int64_t stride) {
  const int64_t window = dilation * (kernel - 1) + 1;
  if (input + pads < window)
    refuse("the kernel spans ", window, " pixels of ", axis, ", but the padded input has ", input + pads);
  return (input + pads - window) / stride + 1;
}

void check(const ConvAttributes& a) {
  check_range("channels", a.channels, 1);
  check_range("group", a.group, 1);
  for (const int64_t stride : a.strides) check_range("strides", stride, 1);
  for (const int64_t dilation : a.dilations) check_range("dilations", dilation, 1);
  for (const int64_t pad : a.pads) check_range("pads", pad, 0);
  if (a.channels % a.group != 0) refuse(a.channels, " channels do not divide into ", a.group, " groups");
  if (a.pad_value < -1 || a.pad_value > 1) refuse("attribute pad_value is ", a.pad_value, ", wanted -1, 0 or 1");
}

ConvWeightShape weight_shape(const ConvAttributes& a, const Dims& weight) {
  if (weight.size() != 4) refuse("weight has shape ", to_text(weight), ", wanted four axes: O, KH, KW, words");
  const ConvWeightShape shape{weight[0], weight[1], weight[2], weight[3]};
  for (int axis = 0; axis < 3; ++axis) check_range("weight axis", weight[axis], 1);
  const int64_t wanted = words_for(a.channels / a.group);
  if (shape.words != wanted)
    refuse("weight has ", shape.words, " words, wanted ", wanted, " for ", a.channels / a.group,
           " channels of a group");
  if (shape.outputs % a.group != 0) refuse(shape.outputs, " outputs do not divide into ", a.group, " groups");
  // Sums run from -taps to +taps. Far below 2^24 each of them, and each intermediate result, is exact in float32 too.
  if (shape.taps() > kMostTaps / (a.channels / a.group))
    refuse("a kernel of ", shape.kernel_height, "x", shape.kernel_width, " on ", a.channels / a.group,
           " channels, wanted ", kMostTaps, " products or fewer");
  return shape;
}

ConvShape conv_shape(const ConvAttributes& a, const ConvWeightShape& weight, const Dims& packed) {
  if (packed.size() != 4) refuse("packed has shape ", to_text(packed), ", wanted four axes: N, H, W, words");
  const int64_t wanted = planes_of(a.levels) * words_for(a.channels);
  if (packed[3] != wanted)
    refuse("packed has ", packed[3], " words, wanted ", wanted, " for ", a.channels, " channels");
  for (int axis = 1; axis < 3; ++axis) check_range("packed axis", packed[axis], 0);
  ConvShape shape{packed[0], packed[1], packed[2], 0, 0};
  shape.out_height =
      output_size("height", shape.height, a.pads[0] + a.pads[2], weight.kernel_height, a.dilations[0], a.strides[0]);
  shape.out_width =
      output_size("width", shape.width, a.pads[1] + a.pads[3], weight.kernel_width, a.dilations[1], a.strides[1]);
  return shape;
}

}  // namespace bnn
