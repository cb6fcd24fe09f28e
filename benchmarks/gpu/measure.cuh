// What the measuring programs share: errors, times by events, and a result of one line of JSON on stdout.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

namespace measure {

// Ends the program: a measurement behind an error means nothing.
inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(status));
  std::exit(1);
}
inline void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "%s\n", what);
  std::exit(1);
}

inline int attribute(cudaDeviceAttr which) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, 0), "an attribute of the GPU");
  return value;
}

// `work(stream)` enqueues something. The median milliseconds of it over `repeats` turns, each behind one that is not
// timed: while that one runs the host enqueues the rest, so that no time of the host's is counted.
template <class Work>
double median_ms(int repeats, const Work& work) {
  cudaStream_t stream;
  cudaEvent_t begin, end;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream");
  check(cudaEventCreate(&begin), "an event");
  check(cudaEventCreate(&end), "an event");
  std::vector<float> times(static_cast<size_t>(repeats));
  for (float& time : times) {
    work(stream);
    check(cudaEventRecord(begin, stream), "an event");
    work(stream);
    check(cudaEventRecord(end, stream), "an event");
    check(cudaStreamSynchronize(stream), "what is measured");
    check(cudaEventElapsedTime(&time, begin, end), "a time");
  }
  check(cudaEventDestroy(begin), "an event");
  check(cudaEventDestroy(end), "an event");
  check(cudaStreamDestroy(stream), "a stream");
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

// Device memory with random bits in it: zeros draw less power and run faster than real data.
inline uint32_t* random_words(size_t count, uint32_t seed = 1) {
  std::mt19937 generator(seed);
  std::vector<uint32_t> block(std::min<size_t>(count, size_t{1} << 20));
  for (uint32_t& word : block) word = static_cast<uint32_t>(generator());
  uint32_t* words = nullptr;
  check(cudaMalloc(&words, count * sizeof(uint32_t)), "memory on the GPU");
  for (size_t at = 0; at < count; at += block.size())
    check(cudaMemcpy(words + at, block.data(), std::min(block.size(), count - at) * sizeof(uint32_t),
                     cudaMemcpyHostToDevice),
          "a copy");
  return words;
}

// One line of JSON.
class Result {
 public:
  ~Result() { std::printf("{%s}\n", text_.c_str()); }
  void number(const std::string& name, double value) {
    char digits[40];
    std::snprintf(digits, sizeof digits, "%.9g", value);
    add(name, digits);
  }
  void text(const std::string& name, const std::string& value) { add(name, "\"" + value + "\""); }

 private:
  void add(const std::string& name, const std::string& value) {
    text_ += (text_.empty() ? "\"" : ", \"") + name + "\": " + value;
  }
  std::string text_;
};

}  // namespace measure
