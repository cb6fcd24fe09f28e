#include "cuda/device.h"

#include "cuda/launch.cuh"

namespace bnn::cuda {

#ifndef BNN_HOST_EXECUTOR

bool device_present() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0;
}

bool is_capturing(Stream stream) {
  cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  check(cudaStreamIsCapturing(stream, &status), "the state of a stream");
  return status != cudaStreamCaptureStatusNone;
}

const DeviceInfo& device_info() {
  static thread_local DeviceInfo info;
  static thread_local int known = -1;
  int device = 0;
  check(cudaGetDevice(&device), "no GPU");
  if (device != known) {
    cudaDeviceProp properties;
    check(cudaGetDeviceProperties(&properties, device), "the properties of the GPU");
    info.name = properties.name;
    info.compute_capability = properties.major * 10 + properties.minor;
    info.sizes = {properties.multiProcessorCount, static_cast<int>(properties.sharedMemPerBlockOptin),
                  multiplies_int8()};
    known = device;
  }
  return info;
}

void* allocate(size_t bytes) {
  void* pointer = nullptr;
  check(cudaMalloc(&pointer, bytes), "memory on the GPU");
  return pointer;
}
void release(void* pointer) { cudaFree(pointer); }
void copy_to_device(void* to, const void* from, size_t bytes) {
  check(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice), "a copy to the GPU");
}
void copy_from_device(void* to, const void* from, size_t bytes) {
  check(cudaMemcpy(to, from, bytes, cudaMemcpyDeviceToHost), "a copy from the GPU");
}

#else

bool device_present() { return true; }
bool is_capturing(Stream) { return false; }

const DeviceInfo& device_info() {
  static const DeviceInfo info{"host executor", 0, {1, 99 * 1024, multiplies_int8()}};
  return info;
}

void* allocate(size_t bytes) { return executor::global_memory().allocate(bytes); }
void release(void* pointer) { executor::global_memory().release(pointer); }
void copy_to_device(void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }
void copy_from_device(void* to, const void* from, size_t bytes) { std::memcpy(to, from, bytes); }

void set_executor_order(int order, uint32_t seed) {
  executor::settings() = {static_cast<executor::Order>(order), seed};
}

#endif

}  // namespace bnn::cuda
