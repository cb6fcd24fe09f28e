// Launches recorded in a CUDA graph, and how long they take: for measurements, on a GPU alone. The host executor
// refuses.
#pragma once

#include "cuda/launchers.h"

namespace bnn::cuda {

struct Recording;

// What is launched on the stream from here on is recorded, and does not run, until `end_recording`, which ends the
// stream too.
Stream begin_recording();
Recording* end_recording(Stream stream);

// Runs a recording once, then `times` times, and returns the milliseconds of one of the latter, by events. While the
// first one runs the host enqueues the rest, so that none of its own time is counted.
float replay(const Recording& recording, int times);
void forget(Recording* recording);

}  // namespace bnn::cuda
