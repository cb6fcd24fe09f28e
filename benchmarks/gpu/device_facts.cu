// What the GPU says of itself, as one line of JSON.

#include "measure.cuh"

int main() {
  using measure::attribute;
  cudaDeviceProp properties;
  measure::check(cudaGetDeviceProperties(&properties, 0), "no GPU");
  int driver = 0, runtime = 0;
  measure::check(cudaDriverGetVersion(&driver), "the version of the driver");
  measure::check(cudaRuntimeGetVersion(&runtime), "the version of the runtime");
  measure::Result result;
  result.text("name", properties.name);
  result.number("compute_capability", properties.major * 10 + properties.minor);
  result.number("multiprocessors", properties.multiProcessorCount);
  result.number("memory_bytes", static_cast<double>(properties.totalGlobalMem));
  result.number("l2_bytes", attribute(cudaDevAttrL2CacheSize));
  result.number("shared_bytes_of_a_block", attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin));
  result.number("clock_mhz", attribute(cudaDevAttrClockRate) / 1e3);
  result.number("memory_clock_mhz", attribute(cudaDevAttrMemoryClockRate) / 1e3);
  result.number("memory_bus_bits", attribute(cudaDevAttrGlobalMemoryBusWidth));
  result.number("cuda_of_driver", driver);
  result.number("cuda_of_runtime", runtime);
  return 0;
}
