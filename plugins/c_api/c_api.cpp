#include "c_api/c_api.h"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "c_api/vector_ceiling.h"
#include "core/error.h"
#include "core/reference.h"
#include "cpu/average_pool.h"
#include "cpu/matrix_unit.h"
#include "cpu/pack.h"
#include "cpu/packed_conv.h"
#include "cpu/packed_linear.h"
#include "cpu/stem.h"

namespace bnn {
namespace {

thread_local std::string last_error;

// Memory from the heap, and threads of its own for each call.
class PlainRuntime : public cpu::Runtime {
 public:
  explicit PlainRuntime(int threads) : threads_(static_cast<size_t>(threads < 1 ? 1 : threads)) {}

  void* allocate(size_t bytes) override {
    if (void* memory = std::malloc(bytes)) return memory;
    throw std::bad_alloc();
  }
  void release(void* memory) noexcept override { std::free(memory); }

 protected:
  bool worth_threads(double) const override { return true; }  // small layers too are to be tested on several
  void parallel(size_t count, const std::function<void(size_t)>& task) override {
    std::atomic<size_t> next{0};
    const auto work = [&] {
      for (size_t i = next++; i < count; i = next++) task(i);
    };
    std::vector<std::thread> others;
    for (size_t i = 1; i < threads_ && i < count; ++i) others.emplace_back(work);
    work();
    for (std::thread& other : others) other.join();
  }

 private:
  const size_t threads_;
};

template <class Body>
int guarded(Body body) {
  try {
    body();
    return 0;
  } catch (const std::exception& error) {
    last_error = error.what();
    return 1;
  }
}

Levels levels_of(int64_t levels) {
  if (levels < BNN_BIPOLAR || levels > BNN_TERNARY) refuse("levels are ", levels, ", wanted 0, 1 or 2");
  return static_cast<Levels>(levels);
}

bool is_reference(const char* kernels) { return std::strcmp(kernels, "reference") == 0; }

// A call to a convolution, translated and checked.
struct Conv {
  ConvAttributes attributes;
  ConvWeightShape weight_shape;
  ConvShape shape;
  EpilogueKind kind;
  EpilogueOperands operands;
  cpu::ConvTensors tensors;
};

Dims dims_of(const int64_t (&dims)[4]) { return Dims(dims, dims + 4); }

Conv read(const bnn_conv2d_call& call) {
  Conv conv{};
  ConvAttributes& a = conv.attributes;
  a.channels = call.channels;
  a.levels = levels_of(call.levels);
  std::memcpy(a.strides, call.strides, sizeof a.strides);
  std::memcpy(a.pads, call.pads, sizeof a.pads);
  std::memcpy(a.dilations, call.dilations, sizeof a.dilations);
  a.group = call.group;
  a.pad_value = static_cast<int32_t>(call.pad_value);
  check(a);
  conv.weight_shape = weight_shape(a, dims_of(call.weight_dims));
  conv.shape = conv_shape(a, conv.weight_shape, dims_of(call.packed_dims));
  conv.kind = {call.residual != nullptr, static_cast<Activation>(call.activation), call.y != nullptr,
               call.bits != nullptr, call.float16 != 0};
  conv.operands = {call.scale,
                   call.bias,
                   call.slope,
                   call.shift,
                   call.lower,
                   call.upper,
                   call.accumulator_lower,
                   call.accumulator_upper,
                   call.clip_low,
                   call.clip_high};
  conv.tensors = {call.packed, call.residual, call.y, call.bits};
  return conv;
}

void run_reference(const Conv& conv, const int32_t* weight) {
  const int64_t outputs = conv.weight_shape.outputs;
  std::vector<int32_t> sums(static_cast<size_t>(conv.shape.batch * outputs * conv.shape.pixels()));
  reference::convolve(conv.attributes, conv.weight_shape, conv.shape, conv.tensors.packed, weight, sums.data());
  reference::finish(conv.kind, conv.operands, conv.shape.batch, outputs, conv.shape.pixels(), sums.data(),
                    conv.tensors.residual, conv.tensors.y, conv.tensors.bits);
}

template <class Run>
double nanoseconds_of(int runs, const Run& run) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < runs; ++i) run();
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count();
}

constexpr int64_t kRateTaps = 9, kRateChannels = 64;  // of a 3x3 layer

double count_rate(const cpu::Kernels& set, int runs) {
  const int64_t rows = kRateTaps * kRateChannels / cpu::cell_channels(set.cell);
  const int64_t cells = int64_t{set.lanes} * set.counted_vectors;
  PlainRuntime runtime(1);
  const cpu::Scratch column(runtime, static_cast<size_t>(rows * cells * cpu::cell_bytes(set.cell)));
  const cpu::Scratch weights(runtime, static_cast<size_t>(rows * cpu::kBlockOutputs * 4));
  const cpu::Scratch counts(runtime, sizeof(int32_t) * cpu::kBlockOutputs * cpu::kMostTilePixels);
  std::memset(column.data(), 0, static_cast<size_t>(rows * cells * cpu::cell_bytes(set.cell)));
  std::memset(weights.data(), 0, static_cast<size_t>(rows * cpu::kBlockOutputs * 4));
  const cpu::CountTask task{column.data(), rows, cells, set.counted_vectors, weights.data(), counts.data(), nullptr, 0};
  const double products = static_cast<double>(kRateTaps * kRateChannels * cells * cpu::kBlockOutputs);
  return products * runs / nanoseconds_of(runs, [&] { set.count(task); });
}

double multiply_rate(const cpu::MatrixUnit& unit, int runs) {
  struct Nothing : cpu::Meanwhile {
    void do_piece() override {}
  } nothing;
  constexpr int64_t kRow = 58;  // of a padded image 56 pixels wide
  constexpr int64_t kCells = 3 * kRow + cpu::kProductTiles * cpu::kTileRows;
  PlainRuntime runtime(1);
  const cpu::Scratch activations(runtime, kCells * cpu::kStepChannels);
  const cpu::Scratch weights(runtime, 16 * cpu::kTileBytes);
  const cpu::Scratch products(runtime, sizeof(int32_t) * cpu::kProductTiles * cpu::kTileProducts);
  std::memset(activations.data(), 1, kCells * cpu::kStepChannels);
  std::memset(weights.data(), 1, 16 * cpu::kTileBytes);
  int64_t offsets[kRateTaps];
  for (int64_t tap = 0; tap < kRateTaps; ++tap) offsets[tap] = (tap / 3 * kRow + tap % 3) * cpu::kStepChannels;
  cpu::ProductTiles tiles;
  for (int i = 0; i < cpu::kProductTiles; ++i)
    tiles.tiles[i] = reinterpret_cast<int32_t*>(products.data()) + i * cpu::kTileProducts;
  const cpu::MultiplyTask task{reinterpret_cast<const int8_t*>(activations.data()),
                               offsets,
                               nullptr,
                               0,
                               kRateTaps,
                               reinterpret_cast<int8_t*>(weights.data()),
                               16,
                               true,
                               false,
                               cpu::kProductTiles,
                               1,
                               tiles,
                               tiles,
                               nothing};
  unit.acquire();
  const double nanoseconds = nanoseconds_of(runs, [&] { unit.multiply(task); });
  unit.release();
  const int64_t sums = cpu::kProductTiles * cpu::kTileProducts;
  return static_cast<double>(sums * kRateTaps * kRateChannels) * runs / nanoseconds;
}

}  // namespace
}  // namespace bnn

using namespace bnn;

const char* bnn_last_error(void) { return last_error.c_str(); }

int bnn_kernels_count(void) {
  int count = 0;
  cpu::all_kernels(&count);
  return count;
}

const char* bnn_kernels_name(int index) {
  int count = 0;
  return cpu::all_kernels(&count)[index]->name;
}

int bnn_kernels_supported(int index) {
  int count = 0;
  return cpu::all_kernels(&count)[index]->supported();
}

const char* bnn_kernels_chosen(void) {
  const char* name = nullptr;
  guarded([&] { name = cpu::chosen_kernels().name; });
  return name;
}

int bnn_conv2d(const char* kernels, int threads, const bnn_conv2d_call* call) {
  return guarded([&] {
    const Conv conv = read(*call);
    if (is_reference(kernels)) return run_reference(conv, call->weight);
    PlainRuntime runtime(threads);
    const cpu::PackedConv packed(cpu::kernels_named(kernels), conv.attributes, dims_of(call->weight_dims),
                                 call->weight);
    packed.run(conv.shape, conv.kind, conv.operands, conv.tensors, runtime);
  });
}

int bnn_conv2d_time(const char* kernels, int runs, const bnn_conv2d_call* call, double* milliseconds) {
  return guarded([&] {
    const Conv conv = read(*call);
    PlainRuntime runtime(1);
    const cpu::PackedConv packed(cpu::kernels_named(kernels), conv.attributes, dims_of(call->weight_dims),
                                 call->weight);
    packed.run(conv.shape, conv.kind, conv.operands, conv.tensors, runtime);
    const auto run = [&] { packed.run(conv.shape, conv.kind, conv.operands, conv.tensors, runtime); };
    *milliseconds = nanoseconds_of(runs, run) / 1e6;
  });
}

int bnn_count_rate(const char* kernels, int runs, double* rate) {
  return guarded([&] {
    const cpu::Kernels& set = cpu::kernels_named(kernels);
    *rate = set.matrix_unit ? multiply_rate(*set.matrix_unit, runs) : count_rate(set, runs);
  });
}

int bnn_vector_ceiling(const char* kernels, int runs, double* rate) {
  return guarded([&] { *rate = vector_ceiling(kernels, runs); });
}

int bnn_linear(const char* kernels, int threads, const bnn_linear_call* call) {
  return guarded([&] {
    const int64_t words = words_for(call->channels);
    const cpu::PackedLinear linear(cpu::kernels_named(kernels), call->channels, levels_of(call->levels),
                                   {call->outputs, words}, call->weight);
    EpilogueOperands operands;
    operands.scale = call->scale;
    operands.bias = call->bias;
    operands.accumulator_lower = call->accumulator_lower;
    operands.accumulator_upper = call->accumulator_upper;
    const EpilogueKind kind{false, Activation::kNone, call->y != nullptr, call->bits != nullptr, call->float16 != 0};
    PlainRuntime runtime(threads);
    linear.run(call->batch, kind, operands, call->packed, call->y, call->bits, runtime);
  });
}

int bnn_pack(const char* kernels, int threads, const bnn_pack_call* call) {
  return guarded([&] {
    if (call->kind < BNN_PACK_BIPOLAR || call->kind > BNN_PACK_INTERVAL) refuse("kind is ", call->kind);
    const auto kind = static_cast<cpu::PackKind>(call->kind);
    const Dims bounds[2] = {{call->lower_count}, {call->upper_count}};
    const int count = kind == cpu::PackKind::kTernary ? 0 : kind == cpu::PackKind::kInterval ? 2 : 1;
    const auto shape =
        cpu::pack_shape(kind, call->channels, {call->batch, call->channels, call->pixels}, bounds, count);
    PlainRuntime runtime(threads);
    cpu::pack(cpu::kernels_named(kernels), kind, shape, call->x, call->float16 != 0, call->lower, call->upper,
              call->lower_count != 1, call->upper_count != 1, call->packed, runtime);
  });
}

int bnn_average_pool(const char* kernels, int threads, const bnn_average_pool_call* call) {
  return guarded([&] {
    const cpu::Kernels& set = cpu::kernels_named(kernels);
    cpu::AveragePoolAttributes attributes;
    std::memcpy(attributes.kernel, call->kernel, sizeof attributes.kernel);
    std::memcpy(attributes.strides, call->strides, sizeof attributes.strides);
    PlainRuntime runtime(threads);
    if (call->weight) {
      const cpu::AveragePoolConv conv(set, attributes, dims_of(call->weight_dims), call->weight);
      return conv.run(conv.shape(dims_of(call->x_dims)), call->bias, call->x, call->y, runtime);
    }
    check(attributes);
    const cpu::AveragePoolShape shape = average_pool_shape(attributes, dims_of(call->x_dims));
    average_pool(set, attributes, shape, call->x, call->y, runtime);
  });
}

int bnn_stem(const char* kernels, int threads, const bnn_stem_call* call) {
  return guarded([&] {
    PlainRuntime runtime(threads);
    const cpu::Stem stem(cpu::kernels_named(kernels), call->pads, dims_of(call->weight_dims), call->weight);
    stem.run(stem.shape(dims_of(call->x_dims)), call->x, call->bias, call->y, runtime);
  });
}
