// The plain loops that every kernel is compared with: one level, one tap, one output at a time.
#pragma once

#include <cstdint>

#include "core/conv_shape.h"
#include "core/epilogue.h"

namespace bnn::reference {

// accumulator: [N, O, H', W'] int32.
void convolve(const ConvAttributes& attributes, const ConvWeightShape& weight_shape, const ConvShape& shape,
              const int32_t* packed, const int32_t* weight, int32_t* accumulator);

// accumulator, residual: [N, O, pixels] -> y: [N, O, pixels] (null for none), bits: [N, pixels, words_for(O)] (null for
// none).
void finish(const EpilogueKind& kind, const EpilogueOperands& operands, int64_t batch, int64_t outputs, int64_t pixels,
            const int32_t* accumulator, const void* residual, void* y, int32_t* bits);

}  // namespace bnn::reference
