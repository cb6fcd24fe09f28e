// Runs GPU kernels on the host, block by block, and refuses what a GPU would let pass.
//
// A kernel is the same source as on the device; `cuda/ptx.cuh` gives it its hardware, which here is this file. Every
// thread of a block is a fiber. A fiber runs until it waits for others (at a barrier, or at an operation of its warp)
// and the scheduler takes the next one, in an order that a test chooses: a result that depends on the order is a bug.
//
// Found and reported, with kernel, block, thread and source line:
//
// - shared memory read before it is written, or touched while an asynchronous copy into it is under way;
// - two threads that touch the same shared byte, one of them writing, with no barrier between them;
// - shared or global memory touched outside what was allocated, or with a wrong alignment;
// - two threads of one launch that write the same global byte, or one that reads what another wrote;
// - a barrier, or an operation of a warp, that not all threads reach.
//
// Not modelled: time, caches, the order of blocks beyond one after the other, and warps that run in lockstep: code that
// is right only in lockstep fails here.
#pragma once

#include <setjmp.h>
#include <ucontext.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

namespace bnn::executor {

constexpr unsigned kWarpThreads = 32;
constexpr size_t kStackBytes = 96 * 1024;
constexpr size_t kWidestExchange = 64;  // bytes that a thread gives to, or takes from, an operation of its warp

// A line of a kernel. As a default argument it is that of the caller.
struct Site {
  const char* file;
  int line;

  static constexpr Site here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
  bool operator==(const Site& other) const { return line == other.line && std::strcmp(file, other.file) == 0; }
};

// What a kernel did wrong.
class Fault : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

enum class Order { kAscending, kDescending, kShuffled };

struct Settings {
  Order order = Order::kAscending;
  uint32_t seed = 0;  // of kShuffled
};

inline Settings& settings() {
  static Settings chosen;
  return chosen;
}

struct Grid {
  unsigned x = 1, y = 1, z = 1;
};

// ---------------------------------------------------------------------------------------------------------- memory

enum class Access { kRead, kWrite, kAtomic };

// The global memory: allocations, and for each byte which thread of which launch wrote it last.
class GlobalMemory {
 public:
  void* allocate(size_t bytes) {
    Allocation allocation;
    allocation.data = std::make_unique<unsigned char[]>(bytes + kAlignment);
    allocation.first = (reinterpret_cast<uintptr_t>(allocation.data.get()) + kAlignment - 1) & ~(kAlignment - 1);
    allocation.bytes = bytes;
    allocation.writers.resize(bytes);
    const uintptr_t first = allocation.first;
    allocations_.emplace(first, std::move(allocation));
    return reinterpret_cast<void*>(first);
  }

  void release(void* pointer) {
    latest_ = nullptr;
    allocations_.erase(reinterpret_cast<uintptr_t>(pointer));
  }

  // Called once before each launch: what earlier launches wrote is there for all.
  void begin_launch() { ++launch_; }

  // Says what is wrong with an access of `thread` (of the whole grid), or nothing.
  std::string access(const void* pointer, size_t bytes, uint64_t thread, Access access) {
    const auto at = reinterpret_cast<uintptr_t>(pointer);
    Allocation* const allocation = find(at);
    if (!allocation || at + bytes > allocation->first + allocation->bytes) {
      if (!allocation) return "touches memory that nobody allocated";
      return "touches bytes " + std::to_string(at - allocation->first) + " to " +
             std::to_string(at - allocation->first + bytes) + " of an allocation of " +
             std::to_string(allocation->bytes);
    }
    if (at % bytes != 0) return "is not aligned to its " + std::to_string(bytes) + " bytes";
    for (size_t i = 0; i < bytes; ++i) {
      Writer& writer = allocation->writers[at - allocation->first + i];
      const bool both_atomic = writer.atomic && access == Access::kAtomic;
      if (writer.launch == launch_ && writer.thread != thread && !both_atomic)
        return std::string(access == Access::kRead ? "reads" : "writes") +
               " a byte that another thread of the launch has written";
      if (access != Access::kRead) writer = {launch_, thread, access == Access::kAtomic};
    }
    return {};
  }

 private:
  static constexpr uintptr_t kAlignment = 256;  // of cudaMalloc

  struct Writer {
    uint64_t launch = 0, thread = 0;
    bool atomic = false;
  };
  struct Allocation {
    std::unique_ptr<unsigned char[]> data;
    uintptr_t first = 0;
    size_t bytes = 0;
    std::vector<Writer> writers;
  };

  Allocation* find(uintptr_t at) {
    if (latest_ && at >= latest_->first && at < latest_->first + latest_->bytes) return latest_;
    auto after = allocations_.upper_bound(at);
    if (after == allocations_.begin()) return nullptr;
    latest_ = &std::prev(after)->second;
    return at < latest_->first + latest_->bytes ? latest_ : latest_ = nullptr;
  }

  std::map<uintptr_t, Allocation> allocations_;
  Allocation* latest_ = nullptr;
  uint64_t launch_ = 1;
};

inline GlobalMemory& global_memory() {
  static GlobalMemory memory;
  return memory;
}

// When a thread did something: how many barriers of its block it had passed. What the threads of a warp do together
// orders none of their accesses to memory.
struct Moment {
  int thread = -1;
  unsigned barriers = 0;

  // Whether `now` is certain to come after this, on every GPU.
  bool before(const Moment& now) const { return thread < 0 || thread == now.thread || barriers < now.barriers; }
};

// The shared memory of one block.
class SharedMemory {
 public:
  explicit SharedMemory(size_t bytes) : data_(bytes), shadow_(bytes) {}

  size_t size() const { return data_.size(); }
  void* at(size_t offset) { return data_.data() + offset; }

  // Each says what is wrong, or nothing.
  std::string read(size_t offset, size_t bytes, const Moment& now) {
    std::string fault = check(offset, bytes);
    for (size_t i = 0; fault.empty() && i < bytes; ++i) {
      Shadow& shadow = shadow_[offset + i];
      if (shadow.state == State::kUnwritten) return "reads shared byte " + std::to_string(offset + i) + ", not written";
      if (shadow.state == State::kCopying)
        return "reads shared byte " + std::to_string(offset + i) + " before its asynchronous copy was waited for";
      if (!shadow.write.before(now))
        return "reads shared byte " + std::to_string(offset + i) + " that thread " +
               std::to_string(shadow.write.thread) + " writes, with no barrier between them";
      // Of several readers between two barriers the last two are enough: a writer is not both of them.
      if (shadow.reads[0].thread >= 0 && shadow.reads[0].thread != now.thread) shadow.reads[1] = shadow.reads[0];
      shadow.reads[0] = now;
    }
    return fault;
  }

  std::string write(size_t offset, size_t bytes, const Moment& now, bool copying = false) {
    std::string fault = check(offset, bytes);
    for (size_t i = 0; fault.empty() && i < bytes; ++i) {
      Shadow& shadow = shadow_[offset + i];
      if (shadow.state == State::kCopying)
        return "writes shared byte " + std::to_string(offset + i) + " while an asynchronous copy into it is under way";
      for (const Moment& earlier : {shadow.write, shadow.reads[0], shadow.reads[1]})
        if (!earlier.before(now))
          return "writes shared byte " + std::to_string(offset + i) + " that thread " + std::to_string(earlier.thread) +
                 " touches, with no barrier between them";
      shadow.state = copying ? State::kCopying : State::kWritten;
      shadow.write = now;
    }
    return fault;
  }

  // The end of an asynchronous copy: from now on the bytes are there.
  void land(size_t offset, const unsigned char* bytes, size_t count, const Moment& now) {
    std::memcpy(at(offset), bytes, count);
    for (size_t i = 0; i < count; ++i) {
      shadow_[offset + i].state = State::kWritten;
      shadow_[offset + i].write = now;
    }
  }

 private:
  enum class State : uint8_t { kUnwritten, kCopying, kWritten };
  struct Shadow {
    State state = State::kUnwritten;
    Moment write, reads[2];
  };

  std::string check(size_t offset, size_t bytes) const {
    if (offset > size() || bytes > size() - offset)
      return "touches shared bytes " + std::to_string(static_cast<int64_t>(offset)) + " to " +
             std::to_string(static_cast<int64_t>(offset + bytes)) + " of " + std::to_string(size());
    return offset % bytes == 0 ? "" : "touches shared memory not aligned to its " + std::to_string(bytes) + " bytes";
  }

  std::vector<unsigned char> data_;
  std::vector<Shadow> shadow_;
};

// ---------------------------------------------------------------------------------------------------------- threads

enum class Wait { kNothing, kBlock, kWarp };

struct Copy {
  size_t offset;
  std::vector<unsigned char> bytes;
};

struct Thread {
  unsigned index = 0;
  bool started = false, ended = false;
  Wait wait = Wait::kNothing;
  Site site{"", 0};
  unsigned barriers = 0;
  std::vector<Copy> copies;  // asynchronous ones that it has not waited for
  jmp_buf state;
  ucontext_t start;
  std::unique_ptr<char[]> stack;
};

// Where the threads of a warp meet.
struct Meeting {
  const char* operation = "";
  Site site{"", 0};
  unsigned arrived = 0;
  unsigned char given[kWarpThreads][kWidestExchange], taken[kWarpThreads][kWidestExchange];
};

class Block;
inline Block*& current_block() {
  static thread_local Block* block = nullptr;
  return block;
}

class Block {
 public:
  Block(const char* kernel, Grid grid, Grid index, unsigned threads, size_t shared_bytes, std::function<void()> body)
      : grid(grid),
        index(index),
        shared(shared_bytes),
        kernel_(kernel),
        body_(std::move(body)),
        threads_(threads),
        meetings_(threads / kWarpThreads) {
    if (threads == 0 || threads % kWarpThreads != 0 || threads > 1024)
      throw Fault(std::string(kernel) + ": a block of " + std::to_string(threads) + " threads");
    for (unsigned i = 0; i < threads; ++i) threads_[i].index = i;
  }

  // Runs every thread to its end. Throws Fault.
  void run() {
    current_block() = this;
    std::vector<unsigned> order(threads_.size());
    std::iota(order.begin(), order.end(), 0u);
    if (settings().order == Order::kDescending) std::reverse(order.begin(), order.end());
    std::mt19937 shuffle(settings().seed + linear_index());
    while (fault_.empty()) {
      if (settings().order == Order::kShuffled) std::shuffle(order.begin(), order.end(), shuffle);
      bool progress = false;
      for (const unsigned i : order) {
        Thread& thread = threads_[i];
        if (thread.ended || thread.wait != Wait::kNothing || !fault_.empty()) continue;
        progress = true;
        resume(thread);
      }
      if (!progress) break;
    }
    current_block() = nullptr;
    if (!fault_.empty()) throw Fault(fault_);
    if (ended_ != threads_.size()) throw Fault(describe_deadlock());
  }

  // From here on: what a running thread asks for.

  Thread& thread() { return *running_; }
  Moment now() const { return {static_cast<int>(running_->index), running_->barriers}; }
  uint64_t thread_of_grid() const { return uint64_t{linear_index()} * threads_.size() + running_->index + 1; }

  [[noreturn]] void fail(const std::string& what, const Site& site) const {
    throw Fault(place(*running_, site) + ": " + what);
  }
  void require(const std::string& fault, const Site& site) const {
    if (!fault.empty()) fail(fault, site);
  }

  // A barrier of the block.
  void barrier(const Site& site) {
    for (const Thread& other : threads_) {
      if (other.ended) fail("waits at a barrier that thread " + std::to_string(other.index) + " never reaches", site);
      if (other.wait == Wait::kBlock && !(other.site == site))
        fail("waits at a barrier while thread " + std::to_string(other.index) + " waits at another, line " +
                 std::to_string(other.site.line),
             site);
    }
    running_->wait = Wait::kBlock;
    running_->site = site;
    if (++at_barrier_ == threads_.size()) {
      at_barrier_ = 0;
      for (Thread& other : threads_) {
        other.wait = Wait::kNothing;
        ++other.barriers;
      }
    } else {
      yield();
    }
  }

  // An operation that all threads of a warp do together: `work(given, taken)` sees what each of them gave, and fills in
  // what each takes away.
  template <class Given, class Taken, class Work>
  Taken meet(const char* operation, const Given& given, const Site& site, Work work) {
    static_assert(sizeof(Given) <= kWidestExchange && sizeof(Taken) <= kWidestExchange);
    const unsigned warp = running_->index / kWarpThreads, lane = running_->index % kWarpThreads;
    Meeting& meeting = meetings_[warp];
    if (meeting.arrived != 0 && (!(meeting.site == site) || std::strcmp(meeting.operation, operation) != 0))
      fail(std::string(operation) + " while other threads of the warp wait at " + meeting.operation + ", line " +
               std::to_string(meeting.site.line),
           site);
    meeting.operation = operation;
    meeting.site = site;
    std::memcpy(meeting.given[lane], &given, sizeof given);
    if (++meeting.arrived == kWarpThreads) {
      Given all[kWarpThreads];
      Taken results[kWarpThreads];
      for (unsigned i = 0; i < kWarpThreads; ++i) std::memcpy(&all[i], meeting.given[i], sizeof(Given));
      work(all, results);
      for (unsigned i = 0; i < kWarpThreads; ++i) std::memcpy(meeting.taken[i], &results[i], sizeof(Taken));
      meeting.arrived = 0;
      for (unsigned i = warp * kWarpThreads; i < (warp + 1) * kWarpThreads; ++i) threads_[i].wait = Wait::kNothing;
    } else {
      running_->wait = Wait::kWarp;
      running_->site = site;
      yield();
    }
    Taken taken;
    std::memcpy(&taken, meeting.taken[lane], sizeof taken);
    return taken;
  }

  const Grid grid, index;
  SharedMemory shared;

 private:
  unsigned linear_index() const { return (index.z * grid.y + index.y) * grid.x + index.x; }

  std::string place(const Thread& thread, const Site& site) const {
    const char* slash = std::strrchr(site.file, '/');
    return std::string(kernel_) + ", block " + std::to_string(index.x) + "," + std::to_string(index.y) + "," +
           std::to_string(index.z) + ", thread " + std::to_string(thread.index) + ", " +
           (slash ? slash + 1 : site.file) + ":" + std::to_string(site.line);
  }

  std::string describe_deadlock() const {
    for (const Thread& thread : threads_)
      if (!thread.ended)
        return place(thread, thread.site) + ": waits for " + (thread.wait == Wait::kBlock ? "the block" : "its warp") +
               ", and the others do not come";
    return kernel_;
  }

  // To `thread` until it waits or ends, and back.
  void resume(Thread& thread) {
    running_ = &thread;
    if (_setjmp(scheduler_) != 0) return;
    if (thread.started) _longjmp(thread.state, 1);
    thread.started = true;
    thread.stack = take_stack();
    getcontext(&thread.start);
    thread.start.uc_stack.ss_sp = thread.stack.get();
    thread.start.uc_stack.ss_size = kStackBytes;
    thread.start.uc_link = nullptr;
    makecontext(&thread.start, &Block::enter, 0);
    setcontext(&thread.start);
  }

  void yield() {
    if (_setjmp(running_->state) == 0) _longjmp(scheduler_, 1);
  }

  // The bottom of every fiber's stack: no exception passes it, and it never returns.
  static void enter() {
    Block& block = *current_block();
    try {
      block.body_();
    } catch (const std::exception& error) {
      block.fault_ = error.what();
    }
    block.end_thread();
  }

  void end_thread() {
    running_->ended = true;
    ++ended_;
    for (const Thread& other : threads_)
      if (fault_.empty() && other.wait == Wait::kBlock)
        fault_ = place(other, other.site) + ": waits at a barrier that thread " + std::to_string(running_->index) +
                 " never reaches";
    _longjmp(scheduler_, 1);
  }

  // Stacks are used again: a launch has thousands of threads, few at a time.
  static std::vector<std::unique_ptr<char[]>>& spare_stacks() {
    static thread_local std::vector<std::unique_ptr<char[]>> stacks;
    return stacks;
  }
  static std::unique_ptr<char[]> take_stack() {
    auto& spare = spare_stacks();
    if (spare.empty()) return std::unique_ptr<char[]>(new char[kStackBytes]);
    auto stack = std::move(spare.back());
    spare.pop_back();
#ifdef __SANITIZE_ADDRESS__
    ASAN_UNPOISON_MEMORY_REGION(stack.get(), kStackBytes);  // frames that a jump left behind
#endif
    return stack;
  }

 public:
  ~Block() {
    for (Thread& thread : threads_)
      if (thread.stack) spare_stacks().push_back(std::move(thread.stack));
  }
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

 private:
  const char* const kernel_;
  const std::function<void()> body_;
  std::vector<Thread> threads_;
  std::vector<Meeting> meetings_;
  Thread* running_ = nullptr;
  size_t at_barrier_ = 0, ended_ = 0;
  std::string fault_;
  jmp_buf scheduler_;
};

// Runs a kernel over a grid, one block after the other. Throws Fault.
template <class... Parameters, class... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), Grid grid, unsigned threads, size_t shared_bytes,
            const Arguments&... arguments) {
  global_memory().begin_launch();
  const std::tuple<Parameters...> parameters(arguments...);
  const size_t blocks = size_t{grid.x} * grid.y * grid.z;
  for (size_t step = 0; step < blocks; ++step) {
    const size_t i = settings().order == Order::kDescending ? blocks - 1 - step : step;
    const Grid index{static_cast<unsigned>(i % grid.x), static_cast<unsigned>(i / grid.x % grid.y),
                     static_cast<unsigned>(i / grid.x / grid.y)};
    Block(name, grid, index, threads, shared_bytes, [&] { std::apply(kernel, parameters); }).run();
  }
}

}  // namespace bnn::executor
