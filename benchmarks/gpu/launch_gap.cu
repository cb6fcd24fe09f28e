// What a small kernel costs in a chain of kernels that depend on each other: launched one by one, in a CUDA graph, and
// in a CUDA graph with programmatic dependent launch, where the next kernel is brought up while the last still runs.

#include "measure.cuh"

namespace {

constexpr int kThreads = 128, kChain = 500;

// Adds 1 to each counter. Behind `wait` everything that earlier kernels wrote is seen.
template <bool kProgrammatic>
__global__ void __launch_bounds__(kThreads) count_up(int* counters) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  if (kProgrammatic) asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  if (kProgrammatic) asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
  counters[blockIdx.x * kThreads + threadIdx.x] += 1;
}

template <bool kProgrammatic>
void launch(int* counters, int blocks, cudaStream_t stream) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(kThreads);
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = kProgrammatic ? 1 : 0;
  measure::check(cudaLaunchKernelEx(&config, count_up<kProgrammatic>, counters), "a launch");
}

template <bool kProgrammatic>
void launch_chain(int* counters, int blocks, cudaStream_t stream) {
  for (int i = 0; i < kChain; ++i) launch<kProgrammatic>(counters, blocks, stream);
}

template <bool kProgrammatic>
cudaGraphExec_t record_chain(int* counters, int blocks) {
  cudaStream_t stream;
  cudaGraph_t graph;
  cudaGraphExec_t chain;
  launch<kProgrammatic>(counters, blocks, nullptr);  // loads the kernel, which cannot be recorded
  measure::check(cudaDeviceSynchronize(), "a kernel");
  measure::check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream");
  measure::check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "a recording");
  launch_chain<kProgrammatic>(counters, blocks, stream);
  measure::check(cudaStreamEndCapture(stream, &graph), "a recording");
  measure::check(cudaGraphInstantiate(&chain, graph, 0), "a graph");
  measure::check(cudaGraphDestroy(graph), "a graph");
  measure::check(cudaStreamDestroy(stream), "a stream");
  return chain;
}

// Microseconds of a kernel of the chain. Every counter must have been raised by every kernel: none overtook another.
template <class Work>
double microseconds(int* counters, int blocks, const Work& work) {
  constexpr int kRepeats = 11;
  const size_t count = static_cast<size_t>(blocks) * kThreads;
  measure::check(cudaMemset(counters, 0, count * sizeof(int)), "memory");
  measure::check(cudaDeviceSynchronize(), "memory");
  const double ms = measure::median_ms(kRepeats, work);
  std::vector<int> host(count);
  measure::check(cudaMemcpy(host.data(), counters, count * sizeof(int), cudaMemcpyDeviceToHost), "a copy");
  for (const int counter : host) measure::require(counter == 2 * kRepeats * kChain, "kernels overtook each other");
  return ms * 1e3 / kChain;
}

template <bool kProgrammatic>
double graph_microseconds(int* counters, int blocks) {
  const cudaGraphExec_t chain = record_chain<kProgrammatic>(counters, blocks);
  const double found = microseconds(
      counters, blocks, [&](cudaStream_t stream) { measure::check(cudaGraphLaunch(chain, stream), "a graph"); });
  measure::check(cudaGraphExecDestroy(chain), "a graph");
  return found;
}

void measure_size(const std::string& name, int* counters, int blocks, measure::Result& result) {
  result.number(name + "_stream_us", microseconds(counters, blocks, [&](cudaStream_t stream) {
                  launch_chain<false>(counters, blocks, stream);
                }));
  result.number(name + "_graph_us", graph_microseconds<false>(counters, blocks));
  if (measure::attribute(cudaDevAttrComputeCapabilityMajor) >= 9)
    result.number(name + "_graph_programmatic_us", graph_microseconds<true>(counters, blocks));
}

}  // namespace

int main() {
  const int multiprocessors = measure::attribute(cudaDevAttrMultiProcessorCount);
  int* counters;
  measure::check(cudaMalloc(&counters, sizeof(int) * static_cast<size_t>(multiprocessors) * 4 * kThreads), "memory");
  measure::Result result;
  measure_size("one_block", counters, 1, result);
  measure_size("a_block_on_each_multiprocessor", counters, multiprocessors, result);
  measure_size("four_blocks_on_each_multiprocessor", counters, 4 * multiprocessors, result);
  return 0;
}
