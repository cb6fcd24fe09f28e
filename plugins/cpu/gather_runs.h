// Fills the column of a tile from the planes, once for every instruction set: `Tag` keeps the copies of it apart, and
// the compiler makes a fixed-size copy one or a few vector moves of whatever set the file is compiled for.
#pragma once

#include <cstring>

#include "cpu/kernels.h"

namespace bnn::cpu {

// One copy of kStepBytes in a row, in bytes from the beginning of the plane and of the row.
struct CopyStep {
  int64_t source, target;
};

// The same steps for each row. kSteps: how many, known to the compiler; 0 for any number.
template <class Tag, int kStepBytes, int64_t kCellBytes, int kSteps>
void gather_rows(const GatherTask& t, const CopyStep* steps, int count) {
  auto* row = static_cast<uint8_t*>(t.column);
  for (int64_t tap = 0; tap < t.taps; ++tap) {
    const auto* plane = static_cast<const uint8_t*>(t.planes) + t.tap_offsets[tap] * kCellBytes;
    for (int64_t k = 0; k < t.plane_count; ++k) {
#pragma GCC unroll 6
      for (int i = 0; i < (kSteps > 0 ? kSteps : count); ++i)
        std::memcpy(row + steps[i].target, plane + steps[i].source, kStepBytes);
      row += t.row_cells * kCellBytes;
      plane += t.plane_cells * kCellBytes;
    }
  }
}

// Copies the runs in whole steps, past the end of each: the next run, or the next row, overwrites what is too much.
// Both buffers end with kSlackBytes to spare.
template <class Tag, int kStepBytes, int64_t kCellBytes>
void gather_runs(const GatherTask& t) {
  static_assert(kStepBytes <= kSlackBytes, "a copy may run past its end by less than the slack only");
  CopyStep steps[kMostTilePixels];  // a run has at least one pixel, and a step no less than one cell
  int count = 0;
  for (int r = 0; r < t.run_count; ++r)
    for (int64_t i = 0; i < t.runs[r].length * kCellBytes; i += kStepBytes)
      steps[count++] = {t.runs[r].source * kCellBytes + i, t.runs[r].target * kCellBytes + i};
  switch (count) {
    case 2:
      return gather_rows<Tag, kStepBytes, kCellBytes, 2>(t, steps, count);
    case 3:
      return gather_rows<Tag, kStepBytes, kCellBytes, 3>(t, steps, count);
    case 4:
      return gather_rows<Tag, kStepBytes, kCellBytes, 4>(t, steps, count);
    case 5:
      return gather_rows<Tag, kStepBytes, kCellBytes, 5>(t, steps, count);
    case 6:
      return gather_rows<Tag, kStepBytes, kCellBytes, 6>(t, steps, count);
    default:
      return gather_rows<Tag, kStepBytes, kCellBytes, 0>(t, steps, count);
  }
}

}  // namespace bnn::cpu
