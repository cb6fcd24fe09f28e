#include "cpu/borders.h"

#include <algorithm>

#include "cpu/runtime.h"
#include "cpu/sizes.h"

namespace bnn::cpu {
namespace {

// The sets of taps inside the input that occur along one axis, and which of them each output position has.
struct Axis {
  std::vector<Span> sets;
  std::vector<int32_t> set_of;
};

Axis classify(int64_t outputs, int64_t input, int64_t kernel, int64_t stride, int64_t dilation, int64_t pad) {
  Axis axis;
  for (int64_t out = 0; out < outputs; ++out) {
    const Span inside = places_inside(out * stride - pad, dilation, kernel, input);
    const auto known = std::find(axis.sets.begin(), axis.sets.end(), inside);
    axis.set_of.push_back(static_cast<int32_t>(known - axis.sets.begin()));
    if (known == axis.sets.end()) axis.sets.push_back(inside);
  }
  return axis;
}

// A value for each output pixel, from its sets of rows and columns: [pixels], from the first aligned place on, and as
// much behind it as may be read.
template <class Value>
std::vector<int32_t> for_each_pixel(const Axis& rows, const Axis& columns, const Value& value) {
  const size_t pixels = rows.set_of.size() * columns.set_of.size();
  std::vector<int32_t> values(pixels + kMostTilePixels + kAlignment / sizeof(int32_t), 0);
  int32_t* pixel = aligned(values.data());
  for (const int32_t row : rows.set_of)
    for (const int32_t column : columns.set_of) *pixel++ = value(row, column);
  return values;
}

}  // namespace

BorderTable::BorderTable(const ConvAttributes& a, const ConvWeightShape& w, const ConvShape& s,
                         const PreparedWeights& weights, bool counts_padding)
    : has_bases_(!counts_padding) {
  Axis rows = classify(s.out_height, s.height, w.kernel_height, a.strides[0], a.dilations[0], a.pads[0]);
  Axis columns = classify(s.out_width, s.width, w.kernel_width, a.strides[1], a.dilations[1], a.pads[1]);
  const int64_t channels = a.channels / a.group;
  if (has_bases_) {
    of_pixel_ = for_each_pixel(rows, columns, [&](int32_t row, int32_t column) {
      const Span &in_rows = rows.sets[row], &in_columns = columns.sets[column];
      const int64_t taps = (in_rows.end - in_rows.begin) * (in_columns.end - in_columns.begin);
      return static_cast<int32_t>(taps * channels);
    });
    return;
  }
  const int32_t pad_difference = a.pad_value - value_of_zero_bits(a.levels);
  if (pad_difference == 0) {  // zero bits already are what padding means: one class
    rows = {{{0, w.kernel_height}}, {0}};
    columns = {{{0, w.kernel_width}}, {0}};
  }
  const auto column_sets = static_cast<int32_t>(columns.sets.size());
  classes_ = static_cast<int64_t>(rows.sets.size()) * column_sets;
  stride_ = (classes_ + 15) / 16 * 16;
  of_pixel_ = for_each_pixel(rows, columns, [&](int32_t row, int32_t column) { return row * column_sets + column; });
  table_.assign(static_cast<size_t>(w.outputs * stride_), 0);
  const auto terms = static_cast<int32_t>(w.taps() * channels);
  for (int64_t o = 0; o < w.outputs; ++o) {
    int32_t total = 0;
    for (int64_t tap = 0; tap < w.taps(); ++tap) total += weights.tap_sum(o, tap);
    int32_t* entry = table_.data() + o * stride_;
    for (const Span& row : rows.sets)
      for (const Span& column : columns.sets) {
        int32_t inside = 0;
        for (int64_t kh = row.begin; kh < row.end; ++kh)
          for (int64_t kw = column.begin; kw < column.end; ++kw) inside += weights.tap_sum(o, kh * w.kernel_width + kw);
        const int32_t base = a.levels == Levels::kBipolar    ? terms
                             : a.levels == Levels::kUnipolar ? (terms + total) / 2
                                                             : -terms;
        *entry++ = base + pad_difference * (total - inside);
      }
  }
  float_table_.assign(table_.begin(), table_.end());
}

const int32_t* BorderTable::bases_of(int64_t first) const {
  return has_bases_ ? aligned(of_pixel_.data()) + first : nullptr;
}

const int32_t* BorderTable::classes_of(int64_t first) const {
  return aligned(of_pixel_.data()) + (classes_ > 1 ? first : 0);
}

}  // namespace bnn::cpu
