// What vector or matrix units could count at best: a measure for the inner loops, and part of no kernel.
#pragma once

namespace bnn {

// The instructions of the inner loop of a set of kernels on registers alone, without loads, in 10^9 one-bit products a
// second; `runs` rounds of a few thousand products. Throws InvalidInput for a set that is unknown, not supported here,
// or without such instructions of its own.
double vector_ceiling(const char* kernels, int runs);

}  // namespace bnn
