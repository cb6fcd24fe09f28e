// The wrappers of `cuda/ptx.cuh`, played by the executor. The fragments are written down a second time here, from the
// PTX manual and element by element, so that a wrong one in a kernel cannot agree with a wrong one here by
// construction.
#pragma once

#include "cuda/host/executor.h"

#define BNN_DEVICE inline
#define BNN_KERNEL(threads, blocks) void

namespace bnn::cuda {

using executor::Site;

inline executor::Block& block() { return *executor::current_block(); }

inline int thread_index() { return static_cast<int>(block().thread().index); }
inline int block_x() { return static_cast<int>(block().index.x); }
inline int block_y() { return static_cast<int>(block().index.y); }
inline int grid_x() { return static_cast<int>(block().grid.x); }

inline void synchronize_block(const Site& site = Site::here()) { block().barrier(site); }

inline uint32_t ballot(bool bit, const Site& site = Site::here()) {
  return block().meet<bool, uint32_t>("ballot", bit, site, [](const bool* bits, uint32_t* words) {
    uint32_t word = 0;
    for (int lane = 0; lane < kWarpThreads; ++lane) word |= uint32_t{bits[lane]} << lane;
    std::fill(words, words + kWarpThreads, word);
  });
}

inline int shuffle_xor(int value, int lanes, const Site& site = Site::here()) {
  return block().meet<int, int>("shuffle", value, site, [lanes](const int* given, int* taken) {
    for (int lane = 0; lane < kWarpThreads; ++lane) taken[lane] = given[lane ^ lanes];
  });
}

inline int popcount(uint32_t word) { return __builtin_popcount(word); }
inline int anew(int value) { return value; }

// ---- global memory

inline void check_global(const void* address, size_t bytes, executor::Access access, const Site& site) {
  block().require(executor::global_memory().access(address, bytes, block().thread_of_grid(), access), site);
}

template <class T>
T load(const T* address, const Site& site = Site::here()) {
  check_global(address, sizeof(T), executor::Access::kRead, site);
  return *address;
}
template <class T>
void store(T* address, T value, const Site& site = Site::here()) {
  check_global(address, sizeof(T), executor::Access::kWrite, site);
  *address = value;
}
template <int N, class T>
Vector<T, N> load_vector(const T* address, const Site& site = Site::here()) {
  check_global(address, sizeof(Vector<T, N>), executor::Access::kRead, site);
  return *reinterpret_cast<const Vector<T, N>*>(address);
}
template <int N, class T>
void store_vector(T* address, const Vector<T, N>& value, const Site& site = Site::here()) {
  check_global(address, sizeof(Vector<T, N>), executor::Access::kWrite, site);
  *reinterpret_cast<Vector<T, N>*>(address) = value;
}

inline int atomic_add(int* address, int value, const Site& site = Site::here()) {
  check_global(address, sizeof(int), executor::Access::kAtomic, site);
  const int before = *address;
  *address = before + value;
  return before;
}

// ---- the block's shared memory

template <class T>
class Shared {
 public:
  explicit Shared(int64_t offset) : offset_(offset) {}

  T load(int i, const Site& site = Site::here()) const { return get<T>(i, site); }
  void store(int i, T value, const Site& site = Site::here()) const { put(i, value, site); }
  template <int N>
  Vector<T, N> load_vector(int i, const Site& site = Site::here()) const {
    return get<Vector<T, N>>(i, site);
  }
  template <int N>
  void store_vector(int i, const Vector<T, N>& value, const Site& site = Site::here()) const {
    put(i, value, site);
  }
  template <class U>
  Shared<U> at(int bytes) const {
    return Shared<U>(offset_ + bytes);
  }
  // A negative index becomes an offset beyond any memory, and is refused as one.
  size_t offset(int i) const { return static_cast<size_t>(offset_ + i * static_cast<int64_t>(sizeof(T))); }

 private:
  template <class V>
  V get(int i, const Site& site) const {
    block().require(block().shared.read(offset(i), sizeof(V), block().now()), site);
    V value;
    std::memcpy(&value, block().shared.at(offset(i)), sizeof(V));
    return value;
  }
  template <class V>
  void put(int i, const V& value, const Site& site) const {
    block().require(block().shared.write(offset(i), sizeof(V), block().now()), site);
    std::memcpy(block().shared.at(offset(i)), &value, sizeof(V));
  }

  int64_t offset_;
};

inline Shared<uint32_t> shared_memory() { return Shared<uint32_t>(0); }

// The source is read when the copy is asked for, as it may be on a GPU; the destination changes when it is waited for.
template <int N>
void copy_async(const Shared<uint32_t>& to, int i, const uint32_t* from, bool valid, const Site& site = Site::here()) {
  static_assert(N == 1 || N == 2 || N == 4);
  std::vector<unsigned char> bytes(4 * N);
  if (valid) {
    check_global(from, 4 * N, executor::Access::kRead, site);
    std::memcpy(bytes.data(), from, 4 * N);
  }
  block().require(block().shared.write(to.offset(i), 4 * N, block().now(), true), site);
  block().thread().copies.push_back({to.offset(i), std::move(bytes)});
}

inline void wait_for_copies() {
  for (const executor::Copy& copy : block().thread().copies)
    block().shared.land(copy.offset, copy.bytes.data(), copy.bytes.size(), block().now());
  block().thread().copies.clear();
}

// ---- matrix instructions

namespace fragments {

struct Operands {
  uint32_t a[4], b[2];
  int c[4];
};
struct Sums {
  int c[4];
};

// c += A B of a whole warp, where `product(a, b)` is the sum of the products of two words. `words`: K of A, in words.
template <class Product>
void multiply(const Operands* threads, Sums* sums, Product product) {
  uint32_t a[16][8], b[8][8];
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    const int group = lane >> 2, part = lane & 3;
    for (int i = 0; i < 4; ++i) a[group + 8 * (i & 1)][part + 4 * (i >> 1)] = threads[lane].a[i];
    for (int i = 0; i < 2; ++i) b[group][part + 4 * i] = threads[lane].b[i];
  }
  for (int lane = 0; lane < kWarpThreads; ++lane)
    for (int i = 0; i < 4; ++i) {
      const int row = (lane >> 2) + (i < 2 ? 0 : 8), column = (lane & 3) * 2 + (i & 1);
      int sum = threads[lane].c[i];
      for (int k = 0; k < 8; ++k) sum += product(a[row][k], b[column][k]);
      sums[lane].c[i] = sum;
    }
}

inline int count_xor(uint32_t a, uint32_t b) { return __builtin_popcount(a ^ b); }
inline int count_and(uint32_t a, uint32_t b) { return __builtin_popcount(a & b); }
template <class Byte>
int dot_bytes(uint32_t a, uint32_t b) {
  int sum = 0;
  for (int i = 0; i < 4; ++i) sum += static_cast<Byte>(a >> (8 * i)) * static_cast<Byte>(b >> (8 * i));
  return sum;
}

template <int (*kProduct)(uint32_t, uint32_t)>
void by_the_warp(const char* name, int (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], const Site& site) {
  Operands given;
  std::memcpy(given.a, a, sizeof a);
  std::memcpy(given.b, b, sizeof b);
  std::memcpy(given.c, c, sizeof c);
  const Sums taken = block().meet<Operands, Sums>(
      name, given, site, [](const Operands* threads, Sums* sums) { multiply(threads, sums, kProduct); });
  std::memcpy(c, taken.c, sizeof c);
}

}  // namespace fragments

inline void multiply_xor_popcount(int (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                  const Site& site = Site::here()) {
  fragments::by_the_warp<fragments::count_xor>("multiply_xor_popcount", c, a, b, site);
}
inline void multiply_and_popcount(int (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                                  const Site& site = Site::here()) {
  fragments::by_the_warp<fragments::count_and>("multiply_and_popcount", c, a, b, site);
}
inline void multiply_int8(int (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                          const Site& site = Site::here()) {
  fragments::by_the_warp<fragments::dot_bytes<int8_t>>("multiply_int8", c, a, b, site);
}
inline void multiply_uint8(int (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                           const Site& site = Site::here()) {
  fragments::by_the_warp<fragments::dot_bytes<uint8_t>>("multiply_uint8", c, a, b, site);
}

// ---- float16

inline float widen(Half half) { return to_float(half); }
inline float widen(float value) { return value; }
inline void narrow(float value, Half& half) { half = to_half(value); }
inline void narrow(float value, float& same) { same = value; }

}  // namespace bnn::cuda
