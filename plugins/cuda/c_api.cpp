#include "cuda/c_api.h"

#include <algorithm>
#include <cstdio>
#include <string>

#include "core/error.h"
#include "cuda/device.h"
#include "cuda/launchers.h"

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

Dims dims(const int64_t (&sizes)[4]) { return Dims(sizes, sizes + 4); }

ConvTask task_of(const bnn_cuda_conv2d_call& call) {
  ConvAttributes a;
  a.channels = call.channels;
  a.levels = static_cast<Levels>(call.levels);
  a.group = call.group;
  a.pad_value = static_cast<int32_t>(call.pad_value);
  std::copy(call.strides, call.strides + 2, a.strides);
  std::copy(call.pads, call.pads + 4, a.pads);
  std::copy(call.dilations, call.dilations + 2, a.dilations);
  check(a);
  const ConvWeightShape weight = weight_shape(a, dims(call.weight_dims));
  ConvTask task = conv_task(a, weight, conv_shape(a, weight, dims(call.packed_dims)));

  task.kind.residual = call.residual != nullptr;
  task.kind.activation = static_cast<Activation>(call.activation);
  task.kind.float_output = call.y != nullptr;
  task.kind.packed_output = call.bits != nullptr;
  task.operands = {call.scale,  call.bias,  call.slope, call.shift, call.lower, call.upper, call.accumulator_lower,
                   call.accumulator_upper, call.clip_low, call.clip_high};
  task.layout = static_cast<Layout>(call.layout);
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
  if (call.multiprocessors) device.multiprocessors = static_cast<int>(call.multiprocessors);
  if (call.shared_bytes) device.shared_bytes = static_cast<int>(call.shared_bytes);
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
int bnn_cuda_prepare(const bnn_cuda_conv2d_call* call, void* stream) {
  return guarded([&] {
    fill_border_table(task_of(*call), static_cast<ProductChoice>(call->product), call->border,
                      static_cast<Stream>(stream));
  });
}
int bnn_cuda_conv2d(const bnn_cuda_conv2d_call* call, void* stream) {
  return guarded([&] {
    convolve(task_of(*call), static_cast<int>(call->kernel), static_cast<ProductChoice>(call->product),
             device_of(*call), static_cast<Stream>(stream));
  });
}

int bnn_cuda_pack(const bnn_cuda_pack_call* call, void* stream) {
  return guarded([&] {
    const auto step = [&](int64_t count) {
      if (count > 1 && count != call->channels) refuse(count, " thresholds for ", call->channels, " channels");
      return count > 1 ? 1 : 0;
    };
    PackTask task{};
    task.kind = static_cast<PackKind>(call->kind);
    task.layout = static_cast<Layout>(call->layout);
    task.float16 = call->float16 != 0;
    task.batch = static_cast<int>(call->batch);
    task.channels = static_cast<int>(call->channels);
    task.words = static_cast<int>(words_for(call->channels));
    task.pixels = call->pixels;
    task.x = call->x;
    task.lower = call->lower;
    task.upper = call->upper;
    task.lower_step = step(call->lower_count);
    task.upper_step = step(call->upper_count);
    task.packed = call->packed;
    pack(task, static_cast<Stream>(stream));
  });
}

int bnn_cuda_max_pool(const bnn_cuda_max_pool_call* call, void* stream) {
  return guarded([&] {
    ConvAttributes window;  // the rules for sizes are those of a convolution with one weight for each tap
    window.channels = call->channels;
    std::copy(call->strides, call->strides + 2, window.strides);
    std::copy(call->pads, call->pads + 4, window.pads);
    check(window);
    const ConvWeightShape weight =
        weight_shape(window, {1, call->kernel[0], call->kernel[1], words_for(call->channels)});
    const ConvTask sizes = conv_task(window, weight, conv_shape(window, weight, dims(call->packed_dims)));
    const MaxPoolTask task{sizes.batch,        sizes.height,       sizes.width,    sizes.channels, sizes.words,
                           sizes.kernel_height, sizes.kernel_width, sizes.stride_y, sizes.stride_x, sizes.pad_top,
                           sizes.pad_left,      sizes.out_height,   sizes.out_width, call->packed,  call->flip,
                           call->out};
    max_pool(task, static_cast<Stream>(stream));
  });
}

#ifdef BNN_HOST_EXECUTOR
int bnn_cuda_executor_order(int order, uint32_t seed) {
  return guarded([&] { set_executor_order(order, seed); });
}
#endif
