// Starting a kernel: on a stream of the GPU, or in the host executor.
#pragma once

#include <string>

#include "core/error.h"
#include "cuda/launchers.h"
#include "cuda/ptx.cuh"

#ifndef BNN_HOST_EXECUTOR
#include <cuda_runtime_api.h>
#endif

namespace bnn::cuda {

// How large a launch is. Blocks in z are never needed.
struct LaunchSize {
  int64_t blocks_x;
  int blocks_y;
  int threads;
  int shared_bytes;
};

// What every GPU allows.
inline void check(const char* name, const LaunchSize& size) {
  constexpr int64_t kMostX = 0x7fffffff, kMostY = 0xffff;
  if (size.blocks_x < 0 || size.blocks_x > kMostX || size.blocks_y < 0 || size.blocks_y > kMostY)
    refuse(name, ": a grid of ", size.blocks_x, " x ", size.blocks_y, " blocks, wanted ", kMostX, " x ", kMostY,
           " or fewer");
}

#ifndef BNN_HOST_EXECUTOR
inline void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) throw CudaError(std::string(what) + ": " + cudaGetErrorString(status));
}

template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), const LaunchSize& size, Stream stream,
            const Arguments&... arguments) {
  check(name, size);
  if (size.blocks_x == 0 || size.blocks_y == 0) return;
  if (size.shared_bytes > 48 * 1024)
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, size.shared_bytes), name);
  kernel<<<dim3(static_cast<unsigned>(size.blocks_x), static_cast<unsigned>(size.blocks_y)),
           static_cast<unsigned>(size.threads), static_cast<size_t>(size.shared_bytes), stream>>>(arguments...);
  check(cudaGetLastError(), name);
}
#else
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), const LaunchSize& size, Stream,
            const Arguments&... arguments) {
  check(name, size);
  executor::launch(name, kernel, {static_cast<unsigned>(size.blocks_x), static_cast<unsigned>(size.blocks_y), 1},
                   static_cast<unsigned>(size.threads), static_cast<size_t>(size.shared_bytes), arguments...);
}
#endif

}  // namespace bnn::cuda
