// What was right and what was wrong, for each set of kernels that this processor supports.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

#include "c_api/c_api.h"
#include "tests/cases.h"

namespace bnn::tests {

struct Tally {
  int passed = 0, failed = 0;
};

inline void note(Tally& tally, bool right, const char* kernels, const std::string& what) {
  ++(right ? tally.passed : tally.failed);
  if (!right) std::printf("%s: wrong: %s (%s)\n", kernels, what.c_str(), bnn_last_error());
}

inline std::vector<const char*> supported_kernels() {
  std::vector<const char*> names;
  for (int i = 0; i < bnn_kernels_count(); ++i)
    if (bnn_kernels_supported(i)) names.push_back(bnn_kernels_name(i));
  return names;
}

// float_layers.cpp: one random call each, compared with its definition.
void check_average_pool(Random& random, std::vector<Tally>& tallies);
void check_stem(Random& random, std::vector<Tally>& tallies);

// matrix_convolution.cpp: with each matrix unit; the last tally is that of one in plain C++.
void check_matrix_convolutions(Random& random, std::vector<Tally>& tallies);

}  // namespace bnn::tests
