// How fast device memory is copied: bytes read and bytes written, both counted. In buffers far larger than the L2
// cache, and in buffers that stay in it.

#include "measure.cuh"

namespace {

constexpr int kThreads = 512;
constexpr size_t kLargeBytes = size_t{1} << 30;

// count: a multiple of kThreads * 4.
__global__ void __launch_bounds__(kThreads) copy_vectors(const uint4* from, uint4* to) {
  const size_t first = size_t{blockIdx.x} * kThreads * 4 + threadIdx.x;
  uint4 part[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) part[i] = from[first + i * kThreads];
#pragma unroll
  for (int i = 0; i < 4; ++i) to[first + i * kThreads] = part[i];
}

double bytes_per_second(size_t bytes, int times, double ms) {
  return 2.0 * static_cast<double>(bytes) * times / (ms * 1e-3);
}

// `times` copies in a row, so that the time of a launch is hidden where a copy is short.
void measure_copies(const std::string& name, size_t bytes, int times, measure::Result& result) {
  const uint32_t* from = measure::random_words(bytes / 4);
  uint32_t* to = measure::random_words(bytes / 4, 2);
  const double engine_ms = measure::median_ms(9, [&](cudaStream_t stream) {
    for (int i = 0; i < times; ++i)
      measure::check(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream), "a copy");
  });
  const auto blocks = static_cast<unsigned>(bytes / (sizeof(uint4) * kThreads * 4));
  const double kernel_ms = measure::median_ms(9, [&](cudaStream_t stream) {
    for (int i = 0; i < times; ++i)
      copy_vectors<<<blocks, kThreads, 0, stream>>>(reinterpret_cast<const uint4*>(from), reinterpret_cast<uint4*>(to));
    measure::check(cudaGetLastError(), "a launch");
  });
  result.number(name + "_memcpy_bytes_per_second", bytes_per_second(bytes, times, engine_ms));
  result.number(name + "_kernel_bytes_per_second", bytes_per_second(bytes, times, kernel_ms));
  measure::check(cudaFree(const_cast<uint32_t*>(from)), "memory");
  measure::check(cudaFree(to), "memory");
}

}  // namespace

int main() {
  const auto l2_bytes = static_cast<size_t>(measure::attribute(cudaDevAttrL2CacheSize));
  constexpr size_t kBlockBytes = sizeof(uint4) * kThreads * 4;
  measure::Result result;
  measure_copies("large", kLargeBytes, 4, result);
  measure_copies("in_l2", std::max(l2_bytes / 8 / kBlockBytes, size_t{1}) * kBlockBytes, 100, result);
  result.number("large_bytes", static_cast<double>(kLargeBytes));
  return 0;
}
