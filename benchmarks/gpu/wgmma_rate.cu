// How fast `wgmma` is, on sm_90a alone: 1-bit products counted with AND (m64n256k256), and int8 products (m64n256k32).
//
// Both operands lie in shared memory as core matrices, 8 rows of 16 bytes each, without swizzling: PTX ISA, "Shared
// Memory Matrix Layout" and "Matrix Descriptor". A row is 32 bytes of K, two core matrices. What has been multiplied is
// checked: the sum over all of A B is, for each k, the sum of column k of A times the sum of row k of B.

#include "measure.cuh"

#pragma nv_diag_suppress 177  // on other GPUs the kernel is empty, and what it would call is not called

namespace {

constexpr int kThreads = 256;  // two warpgroups: one multiplies while the other one waits
constexpr int kGroups = kThreads / 128;
constexpr int kRows = 64, kColumns = 256, kRowBytes = 32;
constexpr int kBurst = 8;  // products in flight
constexpr int kAccumulators = kRows * kColumns / 128;
constexpr int kCoreBytes = 128;
constexpr int kWarmUpSteps = 200;
constexpr double kTargetMs = 20;

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
// The 128 registers of the result, as "%0, %1, ..., %127", and as operands.
#define TEN(t) "%" #t "0,%" #t "1,%" #t "2,%" #t "3,%" #t "4,%" #t "5,%" #t "6,%" #t "7,%" #t "8,%" #t "9,"
#define NAMES                                                                                             \
  "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9," TEN(1) TEN(2) TEN(3) TEN(4) TEN(5) TEN(6) TEN(7) TEN(8) TEN(9) TEN(10) \
      TEN(11) "%120,%121,%122,%123,%124,%125,%126,%127"
#define FOUR(i) "+r"(d[i]), "+r"(d[i + 1]), "+r"(d[i + 2]), "+r"(d[i + 3])
#define SIXTEEN(i) FOUR(i), FOUR(i + 4), FOUR(i + 8), FOUR(i + 12)
#define OPERANDS SIXTEEN(0), SIXTEEN(16), SIXTEEN(32), SIXTEEN(48), SIXTEEN(64), SIXTEEN(80), SIXTEEN(96), SIXTEEN(112)
// d += A B; the predicate says that d is added to.
#define WGMMA(instruction)                                                                                 \
  asm volatile("{.reg .pred add; setp.eq.u32 add, 0, 0;\n\t" instruction " {" NAMES "}, %128, %129, add;}" \
               : OPERANDS                                                                                  \
               : "l"(a), "l"(b))
#endif

struct And {
  static constexpr double kProducts = double{kRows} * kColumns * kRowBytes * 8;
  __device__ __forceinline__ static void multiply(int (&d)[kAccumulators], uint64_t a, uint64_t b) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    WGMMA("wgmma.mma_async.sync.aligned.m64n256k256.s32.b1.b1.and.popc");
#endif
  }
  // One value of K of a word: 32 of them.
  static int value(uint32_t word, int k) { return static_cast<int>(word >> k & 1u); }
  static constexpr int kValuesOfWord = 32;
};
struct Int8 {
  static constexpr double kProducts = double{kRows} * kColumns * kRowBytes;
  __device__ __forceinline__ static void multiply(int (&d)[kAccumulators], uint64_t a, uint64_t b) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
    WGMMA("wgmma.mma_async.sync.aligned.m64n256k32.s32.s8.s8");
#endif
  }
  static int value(uint32_t word, int k) { return static_cast<int8_t>(word >> 8 * k & 0xffu); }
  static constexpr int kValuesOfWord = 4;
};

// Core matrices that are neighbours in K are one behind the other; so are, two by two, those that are neighbours in
// rows.
__device__ uint64_t descriptor(const void* shared) {
  const uint64_t address = __cvta_generic_to_shared(shared);
  return (address & 0x3ffff) >> 4 | uint64_t{kCoreBytes >> 4} << 16 | uint64_t{2 * kCoreBytes >> 4} << 32;
}

// words: A of each warpgroup, then B, as they are in shared memory.
template <class Product>
__global__ void __launch_bounds__(kThreads, 1) multiply_many(const uint32_t* words, int steps, int* sums) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  constexpr int kWordsA = kRows * kRowBytes / 4, kWordsB = kColumns * kRowBytes / 4;
  __shared__ __align__(128) uint32_t operands[kGroups * kWordsA + kWordsB];
  for (int i = threadIdx.x; i < kGroups * kWordsA + kWordsB; i += kThreads) operands[i] = words[i];
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
  const uint64_t a = descriptor(operands + threadIdx.x / 128 * kWordsA), b = descriptor(operands + kGroups * kWordsA);
  int d[kAccumulators];
#pragma unroll
  for (int i = 0; i < kAccumulators; ++i) d[i] = 0;
#pragma unroll 1
  for (int step = 0; step < steps; ++step) {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
    for (int i = 0; i < kBurst; ++i) Product::multiply(d, a, b);
    asm volatile("wgmma.commit_group.sync.aligned;\n\twgmma.wait_group.sync.aligned 0;" ::: "memory");
  }
  int sum = 0;
#pragma unroll
  for (int i = 0; i < kAccumulators; ++i) sum += d[i];
  sums[blockIdx.x * kThreads + threadIdx.x] = sum;
#endif
}

// For each value of K of a row, the sum over the rows of an operand: core matrix after core matrix.
template <class Product>
std::vector<uint32_t> sums_of_k(const uint32_t* operand, int rows) {
  std::vector<uint32_t> sums(size_t{kRowBytes} / 4 * Product::kValuesOfWord);
  for (int row = 0; row < rows; ++row)
    for (int word = 0; word < kRowBytes / 4; ++word) {
      const int core = row / 8 * 2 + word / 4;
      const uint32_t bits = operand[core * kCoreBytes / 4 + row % 8 * 4 + word % 4];
      for (int k = 0; k < Product::kValuesOfWord; ++k)
        sums[static_cast<size_t>(word * Product::kValuesOfWord + k)] += static_cast<uint32_t>(Product::value(bits, k));
    }
  return sums;
}

// The sum of all results of a block after one product of each warpgroup, modulo 2^32 as everything here.
template <class Product>
uint32_t expected_sum(const std::vector<uint32_t>& words) {
  const auto b = sums_of_k<Product>(words.data() + kGroups * kRows * kRowBytes / 4, kColumns);
  uint32_t total = 0;
  for (int group = 0; group < kGroups; ++group) {
    const auto a = sums_of_k<Product>(words.data() + group * kRows * kRowBytes / 4, kRows);
    for (size_t k = 0; k < a.size(); ++k) total += a[k] * b[k];
  }
  return total;
}

template <class Product>
void measure_product(const std::string& name, const uint32_t* words, size_t count, measure::Result& result) {
  const int blocks = measure::attribute(cudaDevAttrMultiProcessorCount);
  const size_t threads = static_cast<size_t>(blocks) * kThreads;
  int* sums;
  measure::check(cudaMalloc(&sums, threads * sizeof *sums), "memory on the GPU");
  const auto run = [&](int steps) {
    return [=](cudaStream_t stream) {
      multiply_many<Product><<<blocks, kThreads, 0, stream>>>(words, steps, sums);
      measure::check(cudaGetLastError(), "a launch");
    };
  };
  const double warm_up_ms = measure::median_ms(3, run(kWarmUpSteps));
  std::vector<uint32_t> host(count), found(threads);
  measure::check(cudaMemcpy(host.data(), words, count * 4, cudaMemcpyDeviceToHost), "a copy");
  measure::check(cudaMemcpy(found.data(), sums, threads * 4, cudaMemcpyDeviceToHost), "a copy");
  uint32_t total = 0;
  for (int i = 0; i < kThreads; ++i) total += found[static_cast<size_t>(i)];
  measure::require(total == expected_sum<Product>(host) * kBurst * kWarmUpSteps, (name + ": a wrong product").c_str());

  const int steps = static_cast<int>(kWarmUpSteps * std::max(1.0, kTargetMs / warm_up_ms));
  const double ms = measure::median_ms(9, run(steps));
  result.number(name + "_macs_per_second", Product::kProducts * kBurst * steps * kGroups * blocks / (ms * 1e-3));
  measure::check(cudaFree(sums), "memory");
}

}  // namespace

int main() {
  measure::require(measure::attribute(cudaDevAttrComputeCapabilityMajor) == 9, "wgmma: there is none on this GPU");
  constexpr size_t kWords = size_t{kGroups * kRows + kColumns} * kRowBytes / 4;
  const uint32_t* words = measure::random_words(kWords);
  measure::Result result;
  measure_product<And>("b1_and", words, kWords, result);
  measure_product<Int8>("int8", words, kWords, result);
  return 0;
}
