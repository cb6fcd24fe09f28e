// The GPU's memory and its sizes. In the host build it is the executor's memory, and a GPU of whatever size is asked
// for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "cuda/launchers.h"

namespace bnn::cuda {

struct DeviceInfo {
  std::string name;
  int compute_capability;  // 90 is 9.0; 0 in the host executor
  Device sizes;
};

bool device_present();

// Whether what is put on the stream goes into a graph instead of running.
bool is_capturing(Stream stream);

// Of the GPU that is current. Throws CudaError where there is none.
const DeviceInfo& device_info();

void* allocate(size_t bytes);
void release(void* pointer);
void copy_to_device(void* to, const void* from, size_t bytes);
void copy_from_device(void* to, const void* from, size_t bytes);

// In the host build alone: the order in which threads run, one of executor::Order.
void set_executor_order(int order, uint32_t seed);

}  // namespace bnn::cuda
