// All that TensorRT's headers want of CUDA, for what is built without it.
#pragma once

typedef struct CUstream_st* cudaStream_t;
typedef struct CUevent_st* cudaEvent_t;
