// What a kernel needs of whoever calls it: memory for the length of a call, and threads.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <thread>

namespace bnn::cpu {

class Runtime {
 public:
  virtual ~Runtime() = default;
  virtual void* allocate(size_t bytes) = 0;  // throws where there is none
  virtual void release(void* memory) noexcept = 0;

  // Runs task(0) to task(count - 1), which together take about that long on one thread, in any order: on this thread,
  // or where it is worth waking others on any. The tasks do not throw.
  void run_tasks(size_t count, double nanoseconds, const std::function<void(size_t)>& task) {
    if (count > 1 && worth_threads(nanoseconds)) return parallel(count, task);
    for (size_t i = 0; i < count; ++i) task(i);
  }

 protected:
  // A thread that sleeps takes some ten microseconds to wake up.
  virtual bool worth_threads(double nanoseconds) const { return nanoseconds >= 10e3; }
  virtual void parallel(size_t count, const std::function<void(size_t)>& task) = 0;
};

constexpr size_t kAlignment = 64;                 // of any vector
constexpr int64_t kNearBytes = int64_t{1} << 15;  // what may well stay in the nearest cache: most of it

// The first aligned place from `p` on.
template <class Value>
Value* aligned(Value* p) {
  const auto address = reinterpret_cast<uintptr_t>(p);
  return reinterpret_cast<Value*>((address + kAlignment - 1) / kAlignment * kAlignment);
}

// Memory for one call, aligned and released on every way out.
class Scratch {
 public:
  Scratch(Runtime& runtime, size_t bytes) : runtime_(runtime), memory_(runtime.allocate(bytes + kAlignment)) {}
  ~Scratch() { runtime_.release(memory_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  uint8_t* data() const { return aligned(static_cast<uint8_t*>(memory_)); }

 private:
  Runtime& runtime_;
  void* memory_;
};

// Hands out the numbers 0 to count - 1 to tasks that run at the same time, always the lowest that is free: tasks that
// run one after the other share a number, and with it scratch memory that is still in the cache.
class SlotPool {
 public:
  static constexpr int kMost = 64;

  explicit SlotPool(int count) : free_(count >= kMost ? ~uint64_t{0} : (uint64_t{1} << count) - 1) {}

  int acquire() {
    for (;;) {
      uint64_t free = free_.load(std::memory_order_relaxed);
      const uint64_t lowest = free & (~free + 1);
      if (free == 0) {
        std::this_thread::yield();  // more threads than slots
      } else if (free_.compare_exchange_weak(free, free & ~lowest, std::memory_order_acquire)) {
        return __builtin_ctzll(lowest);
      }
    }
  }

  void release(int slot) { free_.fetch_or(uint64_t{1} << slot, std::memory_order_release); }

 private:
  std::atomic<uint64_t> free_;
};

// How many threads the machine can run; how many the runtime has is not known to a kernel. Asked for once: the C
// library reads a file of the system to tell.
inline int most_threads() {
  static const int most = [] {
    const int found = static_cast<int>(std::thread::hardware_concurrency());
    return found < 1 ? 1 : found > SlotPool::kMost ? SlotPool::kMost : found;
  }();
  return most;
}

}  // namespace bnn::cpu
