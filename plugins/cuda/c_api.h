/* The GPU's kernels as plain C functions, for tests and measurements. The same functions are in two libraries: one for
 * a GPU, and one in which the host executor runs the kernels.
 *
 * Every function returns 0, or 1 and leaves a message for bnn_cuda_last_error(). Pointers to data are to device memory.
 */
#ifndef BNN_CUDA_C_API_H_
#define BNN_CUDA_C_API_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BNN_API __attribute__((visibility("default")))

enum { BNN_CUDA_BIPOLAR = 0, BNN_CUDA_UNIPOLAR = 1, BNN_CUDA_TERNARY = 2 };
enum { BNN_CUDA_NO_ACTIVATION = 0, BNN_CUDA_PRELU = 1, BNN_CUDA_CLIP = 2 };
enum { BNN_CUDA_PACK_BIPOLAR = 0, BNN_CUDA_PACK_UNIPOLAR = 1, BNN_CUDA_PACK_TERNARY = 2, BNN_CUDA_PACK_INTERVAL = 3 };
enum { BNN_CUDA_CHANNELS_FIRST = 0, BNN_CUDA_CHANNELS_LAST = 1 };
enum { BNN_CUDA_NATIVE = 0, BNN_CUDA_XOR = 1, BNN_CUDA_AND = 2, BNN_CUDA_INT8 = 3 };

typedef struct {
  int64_t channels, levels, strides[2], pads[4], dilations[2], group, pad_value;
  int64_t packed_dims[4]; /* N, H, W, words */
  int64_t weight_dims[4]; /* O, KH, KW, words */
  const int32_t *packed, *weight;
  /* The epilogue, [O] each; null where it is not part of it. residual: like y. */
  const float *scale, *bias;
  const void* residual;
  const float *slope, *shift, *lower, *upper;
  const int32_t *accumulator_lower, *accumulator_upper;
  float clip_low, clip_high;
  int64_t activation, layout, float16;
  void* y;              /* [N, O, H', W'] or [N, H', W', O], or null */
  int32_t* bits;        /* [N, H', W', ceil(O / 32)], or null */
  int32_t* accumulator; /* [N, O, H', W'], or null */
  int32_t* border;      /* bnn_cuda_border_bytes() of scratch memory, filled by bnn_cuda_prepare() */
  int64_t kernel;       /* -1 to choose, 0 to bnn_cuda_tile_count() - 1: a tile, bnn_cuda_tile_count(): popcount */
  int64_t product;
  int64_t multiprocessors, shared_bytes; /* of a GPU to plan for; 0: of the one that is there */
} bnn_cuda_conv2d_call;

typedef struct {
  int64_t kind, layout, float16, batch, channels, pixels;
  const void* x; /* [N, C, pixels] or [N, pixels, C] */
  const float *lower, *upper;
  int64_t lower_count, upper_count; /* 1 or C */
  int32_t* packed;                  /* [N, pixels, words] */
} bnn_cuda_pack_call;

typedef struct {
  int64_t channels, kernel[2], strides[2], pads[4], packed_dims[4];
  const int32_t *packed, *flip;
  int32_t* out;
} bnn_cuda_max_pool_call;

BNN_API const char* bnn_cuda_last_error(void); /* of this thread */
BNN_API int bnn_cuda_device(char* name, size_t name_bytes, int* compute_capability, int* multiprocessors);

BNN_API int bnn_cuda_allocate(size_t bytes, void** pointer);
BNN_API int bnn_cuda_release(void* pointer);
BNN_API int bnn_cuda_copy_to(void* to, const void* from, size_t bytes);
BNN_API int bnn_cuda_copy_from(void* to, const void* from, size_t bytes);

BNN_API int bnn_cuda_tile_count(void);
BNN_API int bnn_cuda_border_bytes(const bnn_cuda_conv2d_call* call, size_t* bytes);
BNN_API int bnn_cuda_chosen_kernel(const bnn_cuda_conv2d_call* call, int* kernel);
/* The shared memory that the tile `kernel` takes, and whether bits become int8 there. */
BNN_API int bnn_cuda_plan(const bnn_cuda_conv2d_call* call, int* shared_bytes, int* widened);
BNN_API int bnn_cuda_prepare(const bnn_cuda_conv2d_call* call, void* stream);
BNN_API int bnn_cuda_conv2d(const bnn_cuda_conv2d_call* call, void* stream);
BNN_API int bnn_cuda_pack(const bnn_cuda_pack_call* call, void* stream);
BNN_API int bnn_cuda_max_pool(const bnn_cuda_max_pool_call* call, void* stream);

/* For measurements, in the library for a GPU alone: what is launched on `*stream` between the first two is recorded as
 * a CUDA graph, and does not run. bnn_cuda_replay() runs it once, then `times` times, and gives the milliseconds of one
 * of these. */
BNN_API int bnn_cuda_begin_recording(void** stream);
BNN_API int bnn_cuda_end_recording(void* stream, void** recording);
BNN_API int bnn_cuda_replay(const void* recording, int times, float* milliseconds);
BNN_API int bnn_cuda_forget(void* recording);

/* In the library of the host executor alone: the order in which threads run. 0 ascending, 1 descending, 2 shuffled. */
BNN_API int bnn_cuda_executor_order(int order, uint32_t seed);

#ifdef __cplusplus
}
#endif
#endif
