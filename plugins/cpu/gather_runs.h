// Fills the column of a tile from the planes, once for every instruction set: `Tag` keeps the copies of it apart, and
// the compiler makes a fixed-size copy one or a few vector moves of whatever set the file is compiled for.
#pragma once

#include <cstring>

#include "cpu/kernels.h"

namespace bnn::cpu {

// Copies the runs of one row, in whole steps, past the end of each run: the next run, or the next row, overwrites what
// is too much. Both buffers end with kSlackBytes to spare. kShort: no run is longer than one step.
template <class Tag, int kStepBytes, int64_t kCellBytes, bool kShort>
inline void copy_runs(const Run* runs, int run_count, const uint8_t* plane, uint8_t* row) {
  for (int r = 0; r < run_count; ++r) {
    uint8_t* target = row + runs[r].target * kCellBytes;
    const uint8_t* source = plane + runs[r].source * kCellBytes;
    std::memcpy(target, source, kStepBytes);
    if constexpr (kShort) continue;
    for (int64_t i = kStepBytes; i < runs[r].length * kCellBytes; i += kStepBytes)
      std::memcpy(target + i, source + i, kStepBytes);
  }
}

template <class Tag, int kStepBytes, int64_t kCellBytes, bool kShort>
void gather_rows(const GatherTask& t) {
  auto* row = static_cast<uint8_t*>(t.column);
  for (int64_t tap = 0; tap < t.taps; ++tap) {
    const auto* plane = static_cast<const uint8_t*>(t.planes) + t.tap_offsets[tap] * kCellBytes;
    for (int64_t k = 0; k < t.plane_count; ++k) {
      copy_runs<Tag, kStepBytes, kCellBytes, kShort>(t.runs, t.run_count, plane, row);
      row += t.row_cells * kCellBytes;
      plane += t.plane_cells * kCellBytes;
    }
  }
}

template <class Tag, int kStepBytes, int64_t kCellBytes>
void gather_runs(const GatherTask& t) {
  static_assert(kStepBytes <= kSlackBytes, "a copy may run past its end by less than the slack only");
  bool all_short = true;
  for (int r = 0; r < t.run_count; ++r) all_short &= t.runs[r].length * kCellBytes <= kStepBytes;
  if (all_short) return gather_rows<Tag, kStepBytes, kCellBytes, true>(t);
  gather_rows<Tag, kStepBytes, kCellBytes, false>(t);
}

}  // namespace bnn::cpu
