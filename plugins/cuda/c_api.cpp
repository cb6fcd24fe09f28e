#include "cuda/c_api.h"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <string>

#include "core/error.h"
#include "cuda/device.h"
#include "cuda/launchers.h"
#include "cuda/recording.h"

namespace {

using namespace bnn;
using namespace bnn::cuda;

thread_local std::string last_error;

template <class Work>
int guarded(const Work& work) {
  try {
    work();
    return 0;
  } catch (const std::exception& error) {
    last_error = error.what();
    return 1;
  }
}

// An enumerator of the kernels' from a number of the call's; `last` is the greatest there is.
template <class Enum>
Enum choice(const char* what, int64_t found, Enum last) {
  if (found < 0 || found > static_cast<int64_t>(last))
    refuse(what, " is ", found, ", wanted 0 to ", static_cast<int64_t>(last));
  return static_cast<Enum>(found);
}

int narrow(const char* what, int64_t found, int64_t least, int64_t most) {
  if (found < least || found > most) refuse(what, " is ", found, ", wanted ", least, " to ", most);
  return static_cast<int>(found);
}

constexpr int64_t kLargest = std::numeric_limits<int>::max();

ProductChoice product_of(const bnn_cuda_conv2d_call& call) {
  return choice("product", call.product, ProductChoice::kInt8);
}

Dims dims(const int64_t (&sizes)[4]) { return Dims(sizes, sizes + 4); }

ConvTask task_of(const bnn_cuda_conv2d_call& call) {
  ConvAttributes a;
  a.channels = call.channels;
  a.levels = choice("levels", call.levels, Levels::kTernary);
  a.group = call.group;
  a.pad_value = narrow("attribute pad_value", call.pad_value, -1, 1);
  std::copy(call.strides, call.strides + 2, a.strides);
  std::copy(call.pads, call.pads + 4, a.pads);
  std::copy(call.dilations, call.dilations + 2, a.dilations);
  check(a);
  const ConvWeightShape weight = weight_shape(a, dims(call.weight_dims));
  ConvTask task = conv_task(a, weight, conv_shape(a, weight, dims(call.packed_dims)));

  task.kind.residual = call.residual != nullptr;
  task.kind.activation = choice("activation", call.activation, Activation::kClip);
  task.kind.float_output = call.y != nullptr;
  task.kind.packed_output = call.bits != nullptr;
  task.operands = {call.scale,
                   call.bias,
                   call.slope,
                   call.shift,
                   call.lower,
                   call.upper,
                   call.accumulator_lower,
                   call.accumulator_upper,
                   call.clip_low,
                   call.clip_high};
  task.layout = choice("layout", call.layout, Layout::kChannelsLast);
  task.kind.float16 = call.float16 != 0;
  task.packed = call.packed;
  task.weight = call.weight;
  task.residual = call.residual;
  task.y = call.y;
  task.bits = call.bits;
  task.accumulator = call.accumulator;
  task.border = call.border;
  return task;
}

Device device_of(const bnn_cuda_conv2d_call& call) {
  Device device = device_info().sizes;
  // More than any GPU has, and few enough to be multiplied.
  if (call.multiprocessors) device.multiprocessors = narrow("multiprocessors", call.multiprocessors, 1, 1 << 16);
  if (call.shared_bytes) device.shared_bytes = narrow("shared_bytes", call.shared_bytes, 1, 1 << 24);
  if (product_of(call) == ProductChoice::kInt8) device.int8 = true;
  return device;
}

}  // namespace

const char* bnn_cuda_last_error(void) { return last_error.c_str(); }

int bnn_cuda_device(char* name, size_t name_bytes, int* compute_capability, int* multiprocessors) {
  return guarded([&] {
    const DeviceInfo& info = device_info();
    std::snprintf(name, name_bytes, "%s", info.name.c_str());
    *compute_capability = info.compute_capability;
    *multiprocessors = info.sizes.multiprocessors;
  });
}

int bnn_cuda_allocate(size_t bytes, void** pointer) {
  return guarded([&] { *pointer = allocate(bytes); });
}
int bnn_cuda_release(void* pointer) {
  return guarded([&] { release(pointer); });
}
int bnn_cuda_copy_to(void* to, const void* from, size_t bytes) {
  return guarded([&] { copy_to_device(to, from, bytes); });
}
int bnn_cuda_copy_from(void* to, const void* from, size_t bytes) {
  return guarded([&] { copy_from_device(to, from, bytes); });
}

int bnn_cuda_tile_count(void) { return kTileCount; }

int bnn_cuda_border_bytes(const bnn_cuda_conv2d_call* call, size_t* bytes) {
  return guarded([&] { *bytes = border_table_bytes(task_of(*call)); });
}
int bnn_cuda_chosen_kernel(const bnn_cuda_conv2d_call* call, int* kernel) {
  return guarded([&] { *kernel = chosen_kernel(task_of(*call), device_of(*call)); });
}
int bnn_cuda_plan(const bnn_cuda_conv2d_call* call, int* shared_bytes, int* widened) {
  return guarded([&] {
    const TilePlan plan =
        tile_plan(task_of(*call), narrow("kernel", call->kernel, 0, kTileCount - 1), device_of(*call));
    *shared_bytes = plan.shared_bytes;
    *widened = plan.widened;
  });
}
int bnn_cuda_prepare(const bnn_cuda_conv2d_call* call, void* stream) {
  return guarded(
      [&] { fill_border_table(task_of(*call), product_of(*call), call->border, static_cast<Stream>(stream)); });
}
int bnn_cuda_conv2d(const bnn_cuda_conv2d_call* call, void* stream) {
  return guarded([&] {
    convolve(task_of(*call), narrow("kernel", call->kernel, kChooseKernel, kPopcountKernel), product_of(*call),
             device_of(*call), static_cast<Stream>(stream));
  });
}

int bnn_cuda_pack(const bnn_cuda_pack_call* call, void* stream) {
  return guarded([&] {
    const auto step = [&](int64_t count) {
      if (count != 1 && count != call->channels) refuse(count, " thresholds for ", call->channels, " channels");
      return count == 1 ? 0 : 1;
    };
    PackTask task{};
    task.kind = choice("kind", call->kind, PackKind::kInterval);
    task.layout = choice("layout", call->layout, Layout::kChannelsLast);
    task.float16 = call->float16 != 0;
    task.batch = narrow("the batch", call->batch, 0, kLargest);
    task.channels = narrow("channels", call->channels, 1, kLargest);
    task.words = static_cast<int>(words_for(call->channels));
    task.pixels = call->pixels;
    task.x = call->x;
    task.lower = call->lower;
    task.upper = call->upper;
    if (call->lower) task.lower_step = step(call->lower_count);
    if (call->upper) task.upper_step = step(call->upper_count);
    task.packed = call->packed;
    pack(task, static_cast<Stream>(stream));
  });
}

int bnn_cuda_max_pool(const bnn_cuda_max_pool_call* call, void* stream) {
  return guarded([&] {
    ConvAttributes window;
    window.channels = call->channels;
    std::copy(call->strides, call->strides + 2, window.strides);
    std::copy(call->pads, call->pads + 4, window.pads);
    MaxPoolTask task = max_pool_task(window, call->kernel, dims(call->packed_dims));
    task.packed = call->packed;
    task.flip = call->flip;
    task.out = call->out;
    max_pool(task, static_cast<Stream>(stream));
  });
}

int bnn_cuda_begin_recording(void** stream) {
  return guarded([&] { *stream = begin_recording(); });
}
int bnn_cuda_end_recording(void* stream, void** recording) {
  return guarded([&] { *recording = end_recording(static_cast<Stream>(stream)); });
}
int bnn_cuda_replay(const void* recording, int times, float* milliseconds) {
  return guarded([&] { *milliseconds = replay(*static_cast<const Recording*>(recording), times); });
}
int bnn_cuda_forget(void* recording) {
  return guarded([&] { forget(static_cast<Recording*>(recording)); });
}

#ifdef BNN_HOST_EXECUTOR
int bnn_cuda_executor_order(int order, uint32_t seed) {
  return guarded([&] { set_executor_order(narrow("order", order, 0, 2), seed); });
}
#endif
