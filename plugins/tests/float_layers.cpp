// Average pools and stems of random geometry, compared with their definitions.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "c_api/c_api.h"
#include "tests/cases.h"
#include "tests/tally.h"

namespace bnn::tests {
namespace {

// The averages of windows, by their definition. [N, C, H', W']
Floats averages_of(const bnn_average_pool_call& call, int64_t out_height, int64_t out_width) {
  const int64_t *kernel = call.kernel, *dims = call.x_dims;
  Floats found;
  for (int64_t plane = 0; plane < dims[0] * dims[1]; ++plane)
    for (int64_t row = 0; row < out_height; ++row)
      for (int64_t column = 0; column < out_width; ++column) {
        const int64_t corner = (plane * dims[2] + row * call.strides[0]) * dims[3] + column * call.strides[1];
        float sum = 0.0f;
        for (int64_t i = 0; i < kernel[0]; ++i)
          for (int64_t j = 0; j < kernel[1]; ++j) sum += call.x[corner + i * dims[3] + j];
        found.push_back(sum / static_cast<float>(kernel[0] * kernel[1]));
      }
  return found;
}

// Whether y is the 1x1 convolution of `pooled` ([N, C, pixels]), within the rounding of a sum in any order.
bool is_pointwise(const bnn_average_pool_call& call, const Floats& pooled, int64_t pixels, const Floats& y) {
  const int64_t channels = call.x_dims[1], outputs = call.weight_dims[0];
  const double rounding = static_cast<double>(channels + 2) * 6e-8;
  for (size_t i = 0; i < y.size(); ++i) {
    const int64_t p = static_cast<int64_t>(i) % pixels, o = static_cast<int64_t>(i) / pixels % outputs;
    const int64_t n = static_cast<int64_t>(i) / pixels / outputs;
    double sum = call.bias[o], magnitude = std::fabs(sum);
    for (int64_t c = 0; c < channels; ++c) {
      const double product =
          double{call.weight[o * channels + c]} * pooled[static_cast<size_t>((n * channels + c) * pixels + p)];
      sum += product;
      magnitude += std::fabs(product);
    }
    if (!(std::fabs(y[i] - sum) <= rounding * magnitude)) return false;
  }
  return true;
}

// A stem's outputs in float64: [N, O, H', W'].
std::vector<double> exact_stem(const bnn_stem_call& call, const int64_t (&conv)[2], const int64_t (&out)[2]) {
  const int64_t *x = call.x_dims, *w = call.weight_dims;
  std::vector<double> sums(static_cast<size_t>(conv[0] * conv[1])), found;
  for (int64_t image = 0; image < x[0] * w[0]; ++image) {
    const int64_t n = image / w[0], o = image % w[0];
    for (int64_t p = 0; p < conv[0] * conv[1]; ++p) {
      double& sum = sums[static_cast<size_t>(p)] = call.bias[o];
      for (int64_t k = 0; k < x[1] * w[2] * w[3]; ++k) {
        const int64_t c = k / (w[2] * w[3]), row = p / conv[1] * 2 + k / w[3] % w[2] - call.pads[0];
        const int64_t column = p % conv[1] * 2 + k % w[3] - call.pads[1];
        if (row < 0 || row >= x[2] || column < 0 || column >= x[3]) continue;
        sum += static_cast<double>(call.weight[o * x[1] * w[2] * w[3] + k]) *
               static_cast<double>(call.x[((n * x[1] + c) * x[2] + row) * x[3] + column]);
      }
    }
    for (int64_t p = 0; p < out[0] * out[1]; ++p) {
      const int64_t top = p / out[1] * 2 - 1, left = p % out[1] * 2 - 1;
      double greatest = -HUGE_VAL;
      for (int64_t i = std::max<int64_t>(0, top); i < std::min(conv[0], top + 3); ++i)
        for (int64_t j = std::max<int64_t>(0, left); j < std::min(conv[1], left + 3); ++j)
          greatest = std::max(greatest, sums[static_cast<size_t>(i * conv[1] + j)]);
      found.push_back(greatest);
    }
  }
  return found;
}

}  // namespace

void check_average_pool(Random& random, std::vector<Tally>& tallies) {
  bnn_average_pool_call call{};
  const bool is_2x2 = random.chance(60), is_conv = random.chance(60);
  int64_t size[2], out[2];
  for (int i = 0; i < 2; ++i) {
    call.kernel[i] = is_2x2 ? 2 : random.between(1, 4);
    call.strides[i] = is_2x2 ? 2 : random.between(1, 5);
    size[i] = random.between(call.kernel[i], 75);
    out[i] = (size[i] - call.kernel[i]) / call.strides[i] + 1;
  }
  const int64_t batch = random.between(1, 2), channels = random.between(1, 40), outputs = random.between(1, 20);
  const int64_t x_dims[] = {batch, channels, size[0], size[1]}, weight_dims[] = {outputs, channels, 1, 1};
  std::memcpy(call.x_dims, x_dims, sizeof x_dims);
  std::memcpy(call.weight_dims, weight_dims, sizeof weight_dims);
  const Floats x = random.floats(batch * channels * size[0] * size[1], is_conv ? 0 : 5);
  const Floats weight = random.floats(outputs * channels, 0), bias = random.floats(outputs, 0);
  call.x = x.data();
  if (is_conv) call.weight = weight.data(), call.bias = bias.data();
  const int64_t pixels = out[0] * out[1];
  const Floats pooled = averages_of(call, out[0], out[1]);
  const std::vector<const char*> sets = supported_kernels();
  for (size_t i = 0; i < sets.size(); ++i) {
    Floats y(static_cast<size_t>(batch * (is_conv ? outputs : channels) * pixels), 77.0f);
    call.y = y.data();
    const bool ran = bnn_average_pool(sets[i], static_cast<int>(random.between(1, 3)), &call) == 0;
    const bool right = is_conv ? is_pointwise(call, pooled, pixels, y) : same(Reals(y, false), Reals(pooled, false));
    note(tallies[i], ran && right, sets[i],
         "average pool of " + std::to_string(channels) + " channels, " + std::to_string(size[0]) + "x" +
             std::to_string(size[1]) + (is_conv ? " to " + std::to_string(outputs) : ""));
  }
}

// Each set rounds in its own way, a few units of the largest value that is possible.
void check_stem(Random& random, std::vector<Tally>& tallies) {
  bnn_stem_call call{};
  int64_t size[2], conv[2], out[2];
  const int64_t channels = random.chance(50) ? 3 : random.between(1, 5), outputs = random.between(1, 20);
  for (int i = 0; i < 2; ++i) {
    const int64_t kernel = random.chance(50) ? 7 : random.between(1, 8);
    call.weight_dims[2 + i] = kernel;
    call.pads[i] = random.between(0, 4), call.pads[i + 2] = random.between(0, 4);
    size[i] = random.between(kernel, 60);
    conv[i] = (size[i] + call.pads[i] + call.pads[i + 2] - kernel) / 2 + 1;
    out[i] = (conv[i] - 1) / 2 + 1;
  }
  const int64_t x_dims[] = {random.between(1, 2), channels, size[0], size[1]};
  std::memcpy(call.x_dims, x_dims, sizeof x_dims);
  call.weight_dims[0] = outputs, call.weight_dims[1] = channels;
  const int64_t window = channels * call.weight_dims[2] * call.weight_dims[3];
  const Floats x = random.floats(x_dims[0] * channels * size[0] * size[1], 0);
  const Floats weight = random.floats(outputs * window, 0), bias = random.floats(outputs, 0);
  call.x = x.data(), call.weight = weight.data(), call.bias = bias.data();
  const std::vector<double> expected = exact_stem(call, conv, out);
  const double tolerance = 1e-5 * static_cast<double>(window);
  const std::vector<const char*> sets = supported_kernels();
  for (size_t i = 0; i < sets.size(); ++i) {
    Floats y(expected.size(), kNaN);
    call.y = y.data();
    bool right = bnn_stem(sets[i], static_cast<int>(random.between(1, 3)), &call) == 0;
    for (size_t p = 0; p < y.size(); ++p) right &= std::fabs(static_cast<double>(y[p]) - expected[p]) <= tolerance;
    note(tallies[i], right, sets[i],
         "stem of " + std::to_string(size[0]) + "x" + std::to_string(size[1]) + ", " +
             std::to_string(call.weight_dims[2]) + "x" + std::to_string(call.weight_dims[3]) + " taps");
  }
}

}  // namespace bnn::tests
