// How fast `mma.sync` is: 1-bit products counted with AND and with XOR, and int8 products.
//
// Operands stay in registers, so that nothing but the matrix instruction is measured. The wrappers are those that the
// kernels use (`plugins/cuda/ptx.cuh`).

#include "cuda/ptx.cuh"
#include "measure.cuh"

namespace {

using namespace bnn::cuda;

constexpr int kThreads = 256, kBlocks = 2;  // of one multiprocessor: 16 warps, four for each of its tensor cores
constexpr int kChains = 8;                  // products of a warp that do not wait for each other
constexpr int kWarmUpSteps = 1000;
constexpr double kTargetMs = 20;

struct And {
  static constexpr double kProducts = 16 * 8 * 256;
  BNN_DEVICE static void multiply(int (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    multiply_and_popcount(c, a, b);
  }
};
struct Xor {
  static constexpr double kProducts = 16 * 8 * 256;
  BNN_DEVICE static void multiply(int (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    multiply_xor_popcount(c, a, b);
  }
};
struct Int8 {
  static constexpr double kProducts = 16 * 8 * 32;
  BNN_DEVICE static void multiply(int (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    multiply_int8(c, a, b);
  }
};

// words: [6 * kThreads]; sums and cycles: one for each thread of the grid.
template <class Product>
__global__ void __launch_bounds__(kThreads, kBlocks)
    multiply_many(const uint32_t* words, int steps, int* sums, long long* cycles) {
  uint32_t a[4], b[2];
  for (int i = 0; i < 4; ++i) a[i] = words[i * kThreads + threadIdx.x];
  for (int i = 0; i < 2; ++i) b[i] = words[(4 + i) * kThreads + threadIdx.x];
  int c[kChains][4] = {};
  __syncthreads();
  const long long begin = clock64();
#pragma unroll 1
  for (int step = 0; step < steps; ++step)
#pragma unroll
    for (int chain = 0; chain < kChains; ++chain) Product::multiply(c[chain], a, b);
  const long long end = clock64();
  int sum = 0;
  for (int chain = 0; chain < kChains; ++chain)
    for (int i = 0; i < 4; ++i) sum += c[chain][i];
  sums[blockIdx.x * kThreads + threadIdx.x] = sum;
  cycles[blockIdx.x * kThreads + threadIdx.x] = end - begin;
}

template <class Product>
void measure_product(const std::string& name, const uint32_t* words, measure::Result& result) {
  const int multiprocessors = measure::attribute(cudaDevAttrMultiProcessorCount), blocks = multiprocessors * kBlocks;
  const size_t threads = static_cast<size_t>(blocks) * kThreads;
  int* sums;
  long long* cycles;
  measure::check(cudaMalloc(&sums, threads * sizeof *sums), "memory on the GPU");
  measure::check(cudaMalloc(&cycles, threads * sizeof *cycles), "memory on the GPU");
  const auto run = [&](int steps) {
    return [=](cudaStream_t stream) {
      multiply_many<Product><<<blocks, kThreads, 0, stream>>>(words, steps, sums, cycles);
      measure::check(cudaGetLastError(), "a launch");
    };
  };
  const double warm_up_ms = measure::median_ms(3, run(kWarmUpSteps));
  const int steps = static_cast<int>(kWarmUpSteps * std::max(1.0, kTargetMs / warm_up_ms));
  const double ms = measure::median_ms(9, run(steps));

  std::vector<long long> host(threads);
  measure::check(cudaMemcpy(host.data(), cycles, threads * sizeof *cycles, cudaMemcpyDeviceToHost), "a copy");
  double clocks = 0;
  for (const long long own : host) clocks += static_cast<double>(own) / static_cast<double>(threads);
  const double products = Product::kProducts * kChains * steps * (kThreads / kWarpThreads) * kBlocks;
  result.number(name + "_macs_per_second", products * multiprocessors / (ms * 1e-3));
  result.number(name + "_macs_per_clock_of_a_multiprocessor", products / clocks);
  measure::check(cudaFree(sums), "memory");
  measure::check(cudaFree(cycles), "memory");
}

}  // namespace

int main() {
  const uint32_t* words = measure::random_words(6 * kThreads);
  measure::Result result;
  measure_product<Xor>("b1_xor", words, result);
  if (measure::attribute(cudaDevAttrComputeCapabilityMajor) >= 8) {  // before, the wrappers of these are empty
    measure_product<And>("b1_and", words, result);
    measure_product<Int8>("int8", words, result);
  }
  return 0;
}
