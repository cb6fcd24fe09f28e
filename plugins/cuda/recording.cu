#include "cuda/recording.h"

#include <memory>

#include "cuda/launch.cuh"

namespace bnn::cuda {

#ifndef BNN_HOST_EXECUTOR

struct Recording {
  cudaGraphExec_t graph = nullptr;
  cudaStream_t stream = nullptr;
  cudaEvent_t begin = nullptr, end = nullptr;

  ~Recording() {
    if (graph) cudaGraphExecDestroy(graph);
    if (begin) cudaEventDestroy(begin);
    if (end) cudaEventDestroy(end);
    if (stream) cudaStreamDestroy(stream);
  }
};

Stream begin_recording() {
  cudaStream_t stream = nullptr;
  check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream");
  const cudaError_t status = cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
  if (status != cudaSuccess) cudaStreamDestroy(stream);
  check(status, "the beginning of a recording");
  return stream;
}

Recording* end_recording(Stream stream) {
  auto recording = std::make_unique<Recording>();
  recording->stream = stream;
  cudaGraph_t graph = nullptr;
  check(cudaStreamEndCapture(stream, &graph), "the end of a recording");
  const cudaError_t status = cudaGraphInstantiate(&recording->graph, graph, 0);
  cudaGraphDestroy(graph);
  check(status, "a recording");
  check(cudaEventCreate(&recording->begin), "an event");
  check(cudaEventCreate(&recording->end), "an event");
  return recording.release();
}

float replay(const Recording& recording, int times) {
  if (times < 1) refuse("times is ", times, ", wanted 1 or more");
  check(cudaGraphLaunch(recording.graph, recording.stream), "a recording");
  check(cudaEventRecord(recording.begin, recording.stream), "an event");
  for (int i = 0; i < times; ++i) check(cudaGraphLaunch(recording.graph, recording.stream), "a recording");
  check(cudaEventRecord(recording.end, recording.stream), "an event");
  check(cudaStreamSynchronize(recording.stream), "a recording");
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, recording.begin, recording.end), "a time");
  return milliseconds / static_cast<float>(times);
}

void forget(Recording* recording) { delete recording; }

#else

struct Recording {};

Stream begin_recording() { refuse("the host executor measures no times"); }
Recording* end_recording(Stream) { refuse("the host executor measures no times"); }
float replay(const Recording&, int) { refuse("the host executor measures no times"); }
void forget(Recording*) {}

#endif

}  // namespace bnn::cuda
