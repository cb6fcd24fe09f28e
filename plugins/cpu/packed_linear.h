// The 1-bit fully connected layer.
#pragma once

#include <cstdint>
#include <vector>

#include "core/conv_shape.h"
#include "core/epilogue.h"
#include "cpu/kernels.h"
#include "cpu/runtime.h"

namespace bnn::cpu {

// Immutable once made: any number of threads may call `run` at a time.
class PackedLinear {
 public:
  // weight: [O, words_for(channels)], copied. Throws InvalidInput.
  PackedLinear(const Kernels& kernels, int64_t channels, Levels levels, const Dims& weight_dims, const int32_t* weight);

  int64_t outputs() const { return outputs_; }
  // packed: [N, planes * words_for(channels)] -> N. Throws InvalidInput.
  int64_t batch_of(const Dims& packed) const;

  // y: [N, O] of the type that the epilogue says, or null; bits: [N, words_for(O)] or null.
  void run(int64_t batch, const EpilogueKind& kind, const EpilogueOperands& operands, const int32_t* packed, void* y,
           int32_t* bits, Runtime& runtime) const;

 private:
  int32_t accumulate(const int32_t* row, int64_t o) const;

  const Kernels& kernels_;
  int64_t channels_, words_, outputs_ = 0;
  Levels levels_;
  std::vector<int32_t> weight_;  // unused bits 0
  std::vector<int32_t> base_;    // [O], the accumulator where no bits differ
};

}  // namespace bnn::cpu
