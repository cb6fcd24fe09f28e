// Memory from the heap, and a second thread for each call, however small.
#pragma once

#include <atomic>
#include <cstdlib>
#include <thread>

#include "cpu/runtime.h"

namespace bnn::tests {

class ThreadedRuntime : public cpu::Runtime {
 public:
  void* allocate(size_t bytes) override { return std::malloc(bytes); }
  void release(void* memory) noexcept override { std::free(memory); }

 protected:
  bool worth_threads(double) const override { return true; }
  void parallel(size_t count, const std::function<void(size_t)>& task) override {
    std::atomic<size_t> next{0};
    const auto work = [&] {
      for (size_t i = next++; i < count; i = next++) task(i);
    };
    std::thread other(work);
    work();
    other.join();
  }
};

}  // namespace bnn::tests
