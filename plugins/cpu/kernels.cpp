#include "cpu/kernels.h"

#include <cstdlib>
#include <cstring>

#include "core/error.h"

namespace bnn::cpu {

const Kernels* const* all_kernels(int* count) {
  static const Kernels* const sets[] = {
#if defined(BNN_AMX)
      &amx_kernels(),
#endif
#if defined(__x86_64__)
      &avx512_kernels(), &avx2_kernels(),
#elif defined(__aarch64__)
      &neon_kernels(),
#endif
      &scalar_kernels()};
  *count = sizeof sets / sizeof *sets;
  return sets;
}

const Kernels& kernels_named(const char* name) {
  int count = 0;
  const Kernels* const* sets = all_kernels(&count);
  std::string names;
  for (int i = 0; i < count; ++i) {
    if (!sets[i]->supported()) continue;
    if (std::strcmp(sets[i]->name, name) == 0) return *sets[i];
    names += (names.empty() ? "" : ", ") + std::string(sets[i]->name);
  }
  refuse("CPU kernels '", name, "' are not available here, wanted one of: ", names);
}

const Kernels& chosen_kernels() {
  const char* wanted = std::getenv("BNN_DEPLOY_CPU_KERNELS");
  if (wanted && *wanted) return kernels_named(wanted);
  int count = 0;
  const Kernels* const* sets = all_kernels(&count);
  for (int i = 0; i < count; ++i)
    if (sets[i]->supported()) return *sets[i];
  return scalar_kernels();
}

}  // namespace bnn::cpu
