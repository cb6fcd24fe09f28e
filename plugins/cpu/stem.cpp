#include "cpu/stem.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "cpu/sizes.h"

namespace bnn::cpu {
namespace {

constexpr int64_t kMostKernel = 2 * kStemTaps;
// Sums of the method are at most 2^18 times the largest products of an input and a weight, 4 C of them: with these
// limits far below the largest float32.
constexpr float kLargestInput = 0x1p64f;
constexpr float kLargestWeights = 0x1p30f;  // C times the largest
constexpr double kCheckedPerNs = 8;         // values

constexpr int kFinitePoints = kStemPoints - 1;
constexpr double kPoints[kFinitePoints] = {0.0, 1.0, -1.0, 2.0, -2.0, -0.5};

// G: the row of a finite point p holds p^0 to p^3 over the product of (p - q) for the other finite points q; that of
// infinity, the last tap alone. See `stem_lanes.h`.
struct KernelTransform {
  double rows[kStemPoints][kStemTaps] = {};

  KernelTransform() {
    for (int i = 0; i < kFinitePoints; ++i) {
      double value = 1.0;
      for (int k = 0; k < kFinitePoints; ++k)
        if (k != i) value /= kPoints[i] - kPoints[k];
      for (int tap = 0; tap < kStemTaps; ++tap, value *= kPoints[i]) rows[i][tap] = value;
    }
    rows[kFinitePoints][kStemTaps - 1] = 1.0;
  }
};

// Whether no magnitude is above the limit; that of NaN is above any.
bool within(const float* values, int64_t count, float limit) {
  int32_t most, beyond = 0;
  std::memcpy(&most, &limit, sizeof most);
  for (int64_t i = 0; i < count; ++i) {
    int32_t bits;
    std::memcpy(&bits, values + i, sizeof bits);
    beyond |= most - (bits & INT32_MAX);  // the order of magnitudes is that of their bits
  }
  return beyond >= 0;
}

// How the memory of one task is divided, in floats, and how long what a band of tiles leaves behind is.
struct StemMemory {
  int64_t tiles, line_cells, line, lines, transformed, right, above;

  StemMemory(const Kernels& kernels, const StemShape& shape, int64_t channels, int64_t outputs)
      : tiles(rounded_up(divided_up(shape.conv_width, kStemTile), int64_t{kernels.float_lanes} * kStemVectors)),
        line_cells(tiles + kernels.float_lanes),
        line(rounded_up(8 * line_cells, kAlignment)),
        lines(rounded_up(channels * kStemLines * 8 * line_cells, kAlignment)),
        transformed(
            rounded_up(kStemPoints * kStemPoints * 4 * channels * kernels.float_lanes * kStemVectors, kAlignment)),
        right(rounded_up(outputs * kStemTile * kernels.float_lanes, kAlignment)),
        above(rounded_up(outputs * 2 * tiles, kAlignment)) {}

  int64_t per_task() const { return line + lines + transformed + right; }
};

// -infinity in the first column of tiles that is beyond the convolution's outputs, where a window of the pool reaches
// it.
std::vector<float> columns_beyond(int64_t conv_width, int64_t tiles) {
  if (conv_width % 2 == 0) return {};
  std::vector<float> columns(static_cast<size_t>(kStemTile * tiles), INFINITY);
  columns[static_cast<size_t>(conv_width % kStemTile * tiles + conv_width / kStemTile)] = -INFINITY;
  return columns;
}

}  // namespace

Stem::Stem(const Kernels& kernels, const int64_t (&pads)[4], const Dims& weight_dims, const float* weight)
    : kernels_(kernels) {
  if (weight_dims.size() != 4 || std::any_of(weight_dims.begin(), weight_dims.end(), [](int64_t d) { return d < 1; }))
    refuse("weight has shape ", to_text(weight_dims), ", wanted [O, C, KH, KW]");
  outputs_ = weight_dims[0];
  channels_ = weight_dims[1];
  for (int axis = 0; axis < 2; ++axis) {
    kernel_[axis] = weight_dims[2 + axis];
    if (kernel_[axis] > kMostKernel)
      refuse("weight has shape ", to_text(weight_dims), ", wanted a kernel of at most ", kMostKernel, "x", kMostKernel);
  }
  for (int side = 0; side < 4; ++side) {
    check_range("pads", pads[side], 0);
    pads_[side] = pads[side];
  }
  const int64_t window = kernel_[0] * kernel_[1], size = outputs_ * channels_ * window;
  weight_.assign(weight, weight + size);
  if (!within(weight, size, kLargestWeights / static_cast<float>(channels_))) return;

  static const KernelTransform transform;
  const int64_t terms = 4 * channels_, block = kernels.float_outputs;
  transformed_.assign(static_cast<size_t>(rounded_up(outputs_, block) * kStemPoints * kStemPoints * terms), 0.0f);
  for (int64_t o = 0; o < outputs_; ++o)
    for (int64_t c = 0; c < channels_; ++c)
      for (int phase = 0; phase < 4; ++phase) {
        double half[kStemPoints][kStemTaps] = {};  // G g
        for (int i = 0; i < kStemPoints; ++i)
          for (int column = phase % 2; column < kernel_[1]; column += 2)
            for (int row = phase / 2; row < kernel_[0]; row += 2)
              half[i][column / 2] +=
                  transform.rows[i][row / 2] *
                  static_cast<double>(weight[(o * channels_ + c) * window + row * kernel_[1] + column]);
        float* out =
            transformed_.data() + o / block * kStemPoints * kStemPoints * terms * block + c * block + o % block;
        for (int i = 0; i < kStemPoints; ++i)
          for (int j = 0; j < kStemPoints; ++j, out += terms * block) {
            double sum = 0.0;
            for (int tap = 0; tap < kStemTaps; ++tap) sum += half[i][tap] * transform.rows[j][tap];
            out[stem_place(kernel_[1] < kMostKernel, j, phase / 2, phase % 2) * channels_ * block] =
                static_cast<float>(sum);
          }
      }
}

StemShape Stem::shape(const Dims& x) const {
  if (x.size() != 4 || x[1] != channels_)
    refuse("x has shape ", to_text(x), ", wanted [N, ", channels_, ", H, W] for a weight of ", channels_, " channels");
  StemShape s{};
  s.batch = x[0];
  s.height = x[2];
  s.width = x[3];
  s.conv_height = output_size("height", s.height, pads_[0] + pads_[2], kernel_[0], 1, 2);
  s.conv_width = output_size("width", s.width, pads_[1] + pads_[3], kernel_[1], 1, 2);
  s.out_height = (s.conv_height - 1) / 2 + 1;
  s.out_width = (s.conv_width - 1) / 2 + 1;
  return s;
}

void Stem::run(const StemShape& s, const float* x, const float* bias, float* y, Runtime& runtime) const {
  if (s.batch == 0) return;
  const int64_t image_size = channels_ * s.height * s.width, plane_size = outputs_ * s.out_pixels();
  std::vector<char> is_direct(static_cast<size_t>(s.batch), 1);
  if (!transformed_.empty())
    runtime.run_tasks(is_direct.size(), static_cast<double>(s.batch * image_size) / kCheckedPerNs, [&](size_t n) {
      is_direct[n] = !within(x + static_cast<int64_t>(n) * image_size, image_size, kLargestInput);
    });

  // A band of rows of tiles is a task.
  const int64_t tile_rows = divided_up(s.conv_height, kStemTile);
  const int64_t bands = std::min(tile_rows, divided_up(2 * most_threads(), s.batch)), tasks = s.batch * bands;
  const auto first_row = [&](int64_t band) { return band * tile_rows / bands; };
  const StemMemory sizes(kernels_, s, channels_, outputs_);
  const std::vector<float> beyond = columns_beyond(s.conv_width, sizes.tiles);
  const int slots = static_cast<int>(std::min<int64_t>(tasks, most_threads()));
  const Scratch memory(runtime, static_cast<size_t>(slots * sizes.per_task() + tasks * sizes.above) * sizeof(float));
  auto* const floats = reinterpret_cast<float*>(memory.data());
  SlotPool pool(slots);
  const double products =
      static_cast<double>(s.batch * outputs_ * channels_ * tile_rows * sizes.tiles) * kStemPoints * kStemPoints * 4;
  runtime.run_tasks(static_cast<size_t>(tasks), products / kernels_.float_products_per_ns, [&](size_t task) {
    const int64_t n = static_cast<int64_t>(task) / bands, band = static_cast<int64_t>(task) % bands;
    const Rows rows{first_row(band), first_row(band + 1)};
    if (is_direct[static_cast<size_t>(n)]) return run_direct(s, x + n * image_size, bias, rows, y + n * plane_size);
    const int slot = pool.acquire();
    StemTask t{};
    t.image = x + n * image_size;
    t.bias = bias;
    t.y = y + n * plane_size;
    t.tiles = sizes.tiles;
    t.line_cells = sizes.line_cells;
    t.beyond = beyond.empty() ? nullptr : beyond.data();
    t.padded_line = floats + slot * sizes.per_task();
    t.lines = t.padded_line + sizes.line;
    t.transformed = t.lines + sizes.lines;
    t.right = t.transformed + sizes.transformed;
    t.above = floats + slots * sizes.per_task() + static_cast<int64_t>(task) * sizes.above;
    std::fill(t.padded_line, t.padded_line + sizes.line, 0.0f);
    std::fill(t.above, t.above + sizes.above, -INFINITY);
    run_tiles(s, rows, t);
    pool.release(slot);
  });

  // The first pooled row of a band also takes the last row of the band above it. Adding the bias to each of two numbers
  // and taking the larger is the same as the other way round: rounding keeps their order.
  for (int64_t task = 0; task < tasks; ++task) {
    const int64_t n = task / bands, band = task % bands;
    if (band == 0 || is_direct[static_cast<size_t>(n)]) continue;
    const float* above = floats + slots * sizes.per_task() + (task - 1) * sizes.above;
    float* row = y + n * plane_size + first_row(band) * 2 * s.out_width;
    for (int64_t o = 0; o < outputs_; ++o, row += s.out_pixels(), above += 2 * sizes.tiles)
      for (int64_t j = 0; j < s.out_width; ++j) row[j] = std::max(row[j], above[j % 2 * sizes.tiles + j / 2] + bias[o]);
  }
}

// Fills in what is the same for all bands, and runs its rows of tiles.
void Stem::run_tiles(const StemShape& s, Rows rows, StemTask t) const {
  t.channels = channels_;
  t.height = s.height;
  t.width = s.width;
  t.pad_top = pads_[0];
  t.pad_left = pads_[1];
  t.few_rows = kernel_[0] < kMostKernel;
  t.few_columns = kernel_[1] < kMostKernel;
  t.pooled_width = s.out_width;
  t.plane_stride = s.out_pixels();
  t.weights = transformed_.data();
  t.outputs = outputs_;
  float* const y = t.y;
  for (t.tile_row = rows.first; t.tile_row < rows.end; ++t.tile_row) {
    t.is_first = t.tile_row == rows.first;
    t.rows = static_cast<int>(std::min<int64_t>(kStemTile, s.conv_height - t.tile_row * kStemTile));
    t.pooled_rows = (t.rows + 1) / 2;
    t.y = y + t.tile_row * 2 * s.out_width;
    kernels_.stem(t);
  }
}

// Each output of the convolution is summed for every window that it is in: slow, and seldom. NaN is the greatest value
// of a window, as it is to PyTorch.
void Stem::run_direct(const StemShape& s, const float* image, const float* bias, Rows rows, float* y) const {
  const int64_t end = std::min(s.out_height, 2 * rows.end);
  for (int64_t o = 0; o < outputs_; ++o)
    for (int64_t i = 2 * rows.first; i < end; ++i)
      for (int64_t j = 0; j < s.out_width; ++j) {
        float greatest = -INFINITY;
        for (int64_t row = std::max<int64_t>(0, 2 * i - 1); row < std::min(s.conv_height, 2 * i + 2); ++row)
          for (int64_t column = std::max<int64_t>(0, 2 * j - 1); column < std::min(s.conv_width, 2 * j + 2); ++column) {
            const float value = direct_sum(s, image, o, row, column) + bias[o];
            if (value > greatest || std::isnan(value)) greatest = value;
          }
        y[o * s.out_pixels() + i * s.out_width + j] = greatest;
      }
}

float Stem::direct_sum(const StemShape& s, const float* image, int64_t o, int64_t i, int64_t j) const {
  float sum = 0.0f;
  for (int64_t c = 0; c < channels_; ++c)
    for (int64_t a = 0; a < kernel_[0]; ++a)
      for (int64_t b = 0; b < kernel_[1]; ++b) {
        const int64_t row = 2 * i + a - pads_[0], column = 2 * j + b - pads_[1];
        if (row < 0 || row >= s.height || column < 0 || column >= s.width) continue;
        sum += weight_[static_cast<size_t>(((o * channels_ + c) * kernel_[0] + a) * kernel_[1] + b)] *
               image[(c * s.height + row) * s.width + column];
      }
  return sum;
}

}  // namespace bnn::cpu
