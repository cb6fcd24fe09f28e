// Small kernels with one fault each, and some without, run by the host executor: it must be able to fail.
//
//     executor_faults                      lists the kernels, one to a line
//     executor_faults KERNEL [ORDER]       runs one; ascending, descending or shuffled
//
// Exit status 0: no fault was found; 1: one was, and is on stdout. The lines on which a kernel can go wrong say
// `fault:`.

#include <cstdio>
#include <cstring>
#include <string>

#include "cuda/ptx.cuh"

namespace bnn::cuda {
namespace {

constexpr int kThreads = 64, kBlocks = 2, kWords = 128;

// Global memory, and a place in it for each thread of the grid.
struct Memory {
  uint32_t* in;   // kWords, written by the host
  uint32_t* out;  // kWords

  uint32_t* mine() const { return out + block_x() * kThreads + thread_index(); }
};

using Kernel = void (*)(Memory);

int other_warp() { return (thread_index() + kWarpThreads) % kThreads; }

// ---- without a fault

void stage_through_shared_memory(const Memory memory) {
  const Shared<uint32_t> shared = shared_memory();
  copy_async<1>(shared, thread_index(), memory.in + thread_index(), thread_index() < 50);
  wait_for_copies();
  synchronize_block();
  const uint32_t value = shared.load(other_warp());
  synchronize_block();
  shared.store(thread_index(), value);
  store(memory.mine(), shared.load(thread_index()) + (ballot(value != 0) & 1u));
}

void stay_in_bounds_with_vectors(const Memory memory) {
  const Vector<uint32_t, 4> four = load_vector<4>(memory.in + kWords - 4);
  if (thread_index() % 2 == 0) store_vector(memory.mine(), Vector<uint32_t, 2>{four.values[2], four.values[3]});
}

void count_threads(const Memory memory) { atomic_add(reinterpret_cast<int*>(memory.out), 1); }

// ---- shared memory

void read_unwritten(const Memory memory) {
  const Shared<uint32_t> shared = shared_memory();
  if (thread_index() != 7) shared.store(thread_index(), 1);
  synchronize_block();
  store(memory.mine(), shared.load(other_warp()));  // fault: read_unwritten
}

void read_before_waiting(const Memory memory) {
  const Shared<uint32_t> shared = shared_memory();
  copy_async<1>(shared, thread_index(), memory.in, true);
  store(memory.mine(), shared.load(thread_index()));  // fault: read_before_waiting
}

// A barrier does not wait for the copies of those who come to it.
void wait_after_the_barrier(const Memory memory) {
  const Shared<uint32_t> shared = shared_memory();
  copy_async<1>(shared, thread_index(), memory.in, true);
  synchronize_block();
  store(memory.mine(), shared.load(other_warp()));  // fault: wait_after_the_barrier
  wait_for_copies();
}

void write_into_a_copy(const Memory memory) {
  const Shared<uint32_t> shared = shared_memory();
  copy_async<1>(shared, thread_index(), memory.in, true);
  shared.store(thread_index(), 1);  // fault: write_into_a_copy
  wait_for_copies();
}

// Which of the two comes second is the scheduler's choice.
void read_and_write(const Memory) {
  const Shared<uint32_t> shared = shared_memory();
  if (thread_index() == 0) shared.store(0, 1);
  synchronize_block();
  if (thread_index() == 5) shared.load(0);       // fault: read_and_write
  if (thread_index() == 40) shared.store(0, 2);  // fault: read_and_write
}

// The barrier that is missing is the one behind the reads.
void write_after_many_reads(const Memory memory) {
  const Shared<uint32_t> shared = shared_memory();
  if (thread_index() == 0) shared.store(0, 1);
  synchronize_block();
  store(memory.mine(), shared.load(0));
  if (thread_index() == 1 || thread_index() == 62) shared.store(0, 2);  // fault: write_after_many_reads
}

void write_after_write(const Memory) {
  shared_memory().store(thread_index() % kWarpThreads, 1);  // fault: write_after_write
}

// Threads of one warp need no barrier only where they run in lockstep, and nothing promises that.
void exchange_within_a_warp(const Memory memory) {
  const Shared<uint32_t> shared = shared_memory();
  shared.store(thread_index(), 1);
  ballot(true);                                           // orders nothing
  store(memory.mine(), shared.load(thread_index() ^ 1));  // fault: exchange_within_a_warp
}

void exceed_shared_memory(const Memory) {
  shared_memory().store(thread_index() + kWords - kThreads + 1, 1);  // fault: exceed_shared_memory
}

void precede_shared_memory(const Memory) {
  shared_memory().store(thread_index() - 1, 1);  // fault: precede_shared_memory
}

void misalign_a_shared_vector(const Memory memory) {
  const Shared<uint32_t> shared = shared_memory();
  for (int i = thread_index(); i < kWords; i += kThreads) shared.store(i, 1);
  synchronize_block();
  store(memory.mine(), shared.load_vector<2>(thread_index()).values[0]);  // fault: misalign_a_shared_vector
}

// ---- global memory

void exceed_an_allocation(const Memory memory) {
  store(memory.mine(), load(memory.in + kWords - kThreads + 1 + thread_index()));  // fault: exceed_an_allocation
}

void straddle_the_end(const Memory memory) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(memory.in);
  const auto* last = reinterpret_cast<const uint32_t*>(bytes + 4 * kWords - 2);
  store(memory.mine(), load(last));  // fault: straddle_the_end
}

void misalign_a_global_vector(const Memory memory) {
  store(memory.mine(), load_vector<4>(memory.in + 2).values[0]);  // fault: misalign_a_global_vector
}

void misalign_a_copy(const Memory memory) {
  copy_async<2>(shared_memory(), 2 * thread_index(), memory.in + 1, true);  // fault: misalign_a_copy
}

void touch_memory_of_the_host(const Memory memory) {
  static uint32_t value = 1;
  store(memory.mine(), load(&value));  // fault: touch_memory_of_the_host
}

void write_together(const Memory memory) {
  if (thread_index() % 40 == 0) store(memory.out + block_x(), 1u);  // fault: write_together
}

void write_bytes_of_a_word_twice(const Memory memory) {
  auto* bytes = reinterpret_cast<uint8_t*>(memory.out);
  store(bytes + block_x() * kThreads + thread_index() / 2, uint8_t{1});  // fault: write_bytes_of_a_word_twice
}

void read_what_another_wrote(const Memory memory) {
  store(memory.mine(), 1u);
  synchronize_block();
  if (thread_index() == 5) load(memory.mine() - 1);  // fault: read_what_another_wrote
}

void write_what_others_count_in(const Memory memory) {
  atomic_add(reinterpret_cast<int*>(memory.out), 1);
  synchronize_block();
  if (thread_index() == 5) store(memory.out, 1u);  // fault: write_what_others_count_in
}

// Right, by luck, where blocks run one after the other from the first on.
void depend_on_the_order_of_blocks(const Memory memory) {
  if (block_x() == 0 && thread_index() == 0) load(memory.out);  // fault: depend_on_the_order_of_blocks
  if (block_x() == 1 && thread_index() == 0) store(memory.out, 1u);
}

// ---- barriers, and operations of a warp

void part_at_a_barrier(const Memory) {
  if (thread_index() < kWarpThreads) {
    synchronize_block();  // fault: part_at_a_barrier
  } else {
    synchronize_block();  // fault: part_at_a_barrier
  }
}

void leave_before_a_barrier(const Memory) {
  if (thread_index() == 40) return;
  synchronize_block();  // fault: leave_before_a_barrier
}

void miss_a_vote(const Memory memory) {
  if (thread_index() % 2 == 0) store(memory.mine(), ballot(true));  // fault: miss_a_vote
}

void wait_for_a_vote_at_a_barrier(const Memory) {
  if (thread_index() % 2 == 0) ballot(true);  // fault: wait_for_a_vote_at_a_barrier
  synchronize_block();                        // fault: wait_for_a_vote_at_a_barrier
}

void mix_operations(const Memory) {
  if (thread_index() % 2 == 0)
    ballot(true);  // fault: mix_operations
  else
    shuffle_xor(1, 1);  // fault: mix_operations
}

void mix_products(const Memory) {
  int c[4] = {0, 0, 0, 0};
  const uint32_t a[4] = {0, 0, 0, 0}, b[2] = {0, 0};
  if (thread_index() % 2 == 0)
    multiply_and_popcount(c, a, b);  // fault: mix_products
  else
    multiply_xor_popcount(c, a, b);  // fault: mix_products
}

struct Entry {
  const char* name;
  Kernel kernel;
};
#define ENTRY(name) {#name, name}
constexpr Entry kKernels[] = {ENTRY(stage_through_shared_memory),
                              ENTRY(stay_in_bounds_with_vectors),
                              ENTRY(count_threads),
                              ENTRY(read_unwritten),
                              ENTRY(read_before_waiting),
                              ENTRY(wait_after_the_barrier),
                              ENTRY(write_into_a_copy),
                              ENTRY(read_and_write),
                              ENTRY(write_after_many_reads),
                              ENTRY(write_after_write),
                              ENTRY(exchange_within_a_warp),
                              ENTRY(exceed_shared_memory),
                              ENTRY(precede_shared_memory),
                              ENTRY(misalign_a_shared_vector),
                              ENTRY(exceed_an_allocation),
                              ENTRY(straddle_the_end),
                              ENTRY(misalign_a_global_vector),
                              ENTRY(misalign_a_copy),
                              ENTRY(touch_memory_of_the_host),
                              ENTRY(write_together),
                              ENTRY(write_bytes_of_a_word_twice),
                              ENTRY(read_what_another_wrote),
                              ENTRY(write_what_others_count_in),
                              ENTRY(depend_on_the_order_of_blocks),
                              ENTRY(part_at_a_barrier),
                              ENTRY(leave_before_a_barrier),
                              ENTRY(miss_a_vote),
                              ENTRY(wait_for_a_vote_at_a_barrier),
                              ENTRY(mix_operations),
                              ENTRY(mix_products)};

executor::Order order_of(const std::string& name) {
  if (name == "descending") return executor::Order::kDescending;
  return name == "shuffled" ? executor::Order::kShuffled : executor::Order::kAscending;
}

int run(const Entry& entry, const std::string& order) {
  executor::settings().order = order_of(order);
  executor::GlobalMemory& global = executor::global_memory();
  const Memory memory{static_cast<uint32_t*>(global.allocate(4 * kWords)),
                      static_cast<uint32_t*>(global.allocate(4 * kWords))};
  for (uint32_t i = 0; i < kWords; ++i) memory.in[i] = i + 1;
  try {
    // Twice: what one launch wrote, the next one may touch.
    for (int launch = 0; launch < 2; ++launch)
      executor::launch(entry.name, entry.kernel, {kBlocks, 1, 1}, kThreads, 4 * kWords, memory);
  } catch (const executor::Fault& fault) {
    std::printf("%s\n", fault.what());
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace bnn::cuda

int main(int count, char** arguments) {
  using namespace bnn::cuda;
  for (const Entry& entry : kKernels) {
    if (count == 1)
      std::printf("%s\n", entry.name);
    else if (std::strcmp(entry.name, arguments[1]) == 0)
      return run(entry, count > 2 ? arguments[2] : "");
  }
  return count == 1 ? 0 : 2;
}
