// All that a kernel knows of its hardware. On a GPU these are instructions; on the host the executor plays them
// (`cuda/host/ptx_host.h`, which has the same names). Nothing else in this folder uses a CUDA built-in.
//
// Fragments of the matrix instructions: PTX ISA, "Matrix Fragments for mma.m16n8k256" (.b1), "for mma.m8n8k128" (.b1)
// and "for mma.m16n8k32" (.s8, .u8). With group = lane / 4 and part = lane % 4:
//
//   A, 16 rows:  a[0] row group, a[1] row group + 8, words k = part;  a[2], a[3] the same rows, words k = part + 4
//   B, 8 columns: b[0] column group, word k = part;  b[1] the same column, word k = part + 4
//   C, 16 x 8:   c[0], c[1] row group, columns 2 part and 2 part + 1;  c[2], c[3] row group + 8, the same columns
//
// A word is 32 one-bit values, or 4 bytes. The kernels sum over all of K, so which k a word stands for is
// free, as long as A and B agree: a thread's two words are neighbours in memory.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/float16.h"

namespace bnn::cuda {

constexpr int kWarpThreads = 32;

// N neighbouring values, read or written at once. In memory they are aligned to their size.
template <class T, int N>
struct alignas(sizeof(T) * N) Vector {
  T values[N];
};

}  // namespace bnn::cuda

#ifdef BNN_HOST_EXECUTOR
#include "cuda/host/ptx_host.h"
#else

#include <cuda_fp16.h>

#define BNN_DEVICE __device__ __forceinline__
// blocks: how many of them a multiprocessor should hold at once, which bounds the registers of a thread.
#define BNN_KERNEL(threads, blocks) __global__ void __launch_bounds__(threads, blocks)

namespace bnn::cuda {

BNN_DEVICE int thread_index() { return static_cast<int>(threadIdx.x); }
BNN_DEVICE int block_x() { return static_cast<int>(blockIdx.x); }
BNN_DEVICE int block_y() { return static_cast<int>(blockIdx.y); }
BNN_DEVICE int grid_x() { return static_cast<int>(gridDim.x); }

BNN_DEVICE void synchronize_block() { __syncthreads(); }
BNN_DEVICE uint32_t ballot(bool bit) { return __ballot_sync(~0u, bit); }
BNN_DEVICE int shuffle_xor(int value, int lanes) { return __shfl_xor_sync(~0u, value, lanes); }

BNN_DEVICE int popcount(uint32_t word) { return __popc(word); }

// The value. What is computed from it is computed anew, not kept in a register since it was computed before.
BNN_DEVICE int anew(int value) {
  asm volatile("" : "+r"(value));
  return value;
}

// ---- global memory

template <class T>
BNN_DEVICE T load(const T* address) {
  return *address;
}
template <class T>
BNN_DEVICE void store(T* address, T value) {
  *address = value;
}
template <int N, class T>
BNN_DEVICE Vector<T, N> load_vector(const T* address) {
  return *reinterpret_cast<const Vector<T, N>*>(address);
}
template <int N, class T>
BNN_DEVICE void store_vector(T* address, const Vector<T, N>& value) {
  *reinterpret_cast<Vector<T, N>*>(address) = value;
}

// Returns what was there before.
BNN_DEVICE int atomic_add(int* address, int value) { return atomicAdd(address, value); }

// ---- the block's shared memory

template <class T>
class Shared {
 public:
  BNN_DEVICE explicit Shared(T* first) : first_(first) {}
  BNN_DEVICE T load(int i) const { return first_[i]; }
  BNN_DEVICE void store(int i, T value) const { first_[i] = value; }
  template <int N>
  BNN_DEVICE Vector<T, N> load_vector(int i) const {
    return *reinterpret_cast<const Vector<T, N>*>(first_ + i);
  }
  template <int N>
  BNN_DEVICE void store_vector(int i, const Vector<T, N>& value) const {
    *reinterpret_cast<Vector<T, N>*>(first_ + i) = value;
  }
  // An array of U that begins `bytes` behind the first element.
  template <class U>
  BNN_DEVICE Shared<U> at(int bytes) const {
    return Shared<U>(reinterpret_cast<U*>(reinterpret_cast<unsigned char*>(first_) + bytes));
  }
  BNN_DEVICE uint32_t address(int i) const { return static_cast<uint32_t>(__cvta_generic_to_shared(first_ + i)); }

 private:
  T* first_;
};

BNN_DEVICE Shared<uint32_t> shared_memory() {
  extern __shared__ __align__(16) uint32_t memory[];
  return Shared<uint32_t>(memory);
}

// Copies N words, or writes N zeros, without waiting. N words are aligned on both sides.
template <int N>
BNN_DEVICE void copy_async(const Shared<uint32_t>& to, int i, const uint32_t* from, bool valid) {
  static_assert(N == 1 || N == 2 || N == 4);
#if __CUDA_ARCH__ >= 800
  const int bytes = valid ? 4 * N : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to.address(i)), "l"(from), "n"(4 * N), "r"(bytes)
               : "memory");
#else
#pragma unroll
  for (int word = 0; word < N; ++word) to.store(i + word, valid ? from[word] : 0u);
#endif
}

// Waits until this thread's own copies have landed. A barrier makes them seen by the others.
BNN_DEVICE void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;\n\tcp.async.wait_group 0;" ::: "memory");
#endif
}

// ---- matrix instructions: c += A B, by all threads of a warp together

// Counts the ones of A xor B.
BNN_DEVICE void multiply_xor_popcount(int (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.xor.popc {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else  // sm_75 multiplies 8 rows by 8 columns, half as deep
#pragma unroll
  for (int deep = 0; deep < 2; ++deep)
#pragma unroll
    for (int half = 0; half < 2; ++half)
      asm volatile("mma.sync.aligned.m8n8k128.row.col.s32.b1.b1.s32.xor.popc {%0,%1}, {%2}, {%3}, {%0,%1};"
                   : "+r"(c[2 * half]), "+r"(c[2 * half + 1])
                   : "r"(a[2 * deep + half]), "r"(b[deep]));
#endif
}

// Counts the ones of A and B. From sm_80 on.
BNN_DEVICE void multiply_and_popcount(int (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k256.row.col.s32.b1.b1.s32.and.popc {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// Sums products of signed, or unsigned, bytes, four to a word. From sm_80 on.
BNN_DEVICE void multiply_int8(int (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}
BNN_DEVICE void multiply_uint8(int (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if __CUDA_ARCH__ >= 800
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.u8.u8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// ---- float16

BNN_DEVICE float widen(Half half) { return __half2float(__ushort_as_half(half.bits)); }
BNN_DEVICE float widen(float value) { return value; }
BNN_DEVICE void narrow(float value, Half& half) { half.bits = __half_as_ushort(__float2half_rn(value)); }
BNN_DEVICE void narrow(float value, float& same) { same = value; }

}  // namespace bnn::cuda
#endif
