/* The kernels as plain C functions, for tests and measurements. No part of any runtime's interface.
 *
 * Every function returns 0, or 1 and leaves a message for bnn_last_error(). `kernels` names a set of kernels; where a
 * function has a plain reference, "reference" names that. */
#ifndef BNN_C_API_H_
#define BNN_C_API_H_

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BNN_API __attribute__((visibility("default")))

enum { BNN_BIPOLAR = 0, BNN_UNIPOLAR = 1, BNN_TERNARY = 2 };
enum { BNN_NO_ACTIVATION = 0, BNN_PRELU = 1, BNN_CLIP = 2 };
enum { BNN_PACK_BIPOLAR = 0, BNN_PACK_UNIPOLAR = 1, BNN_PACK_TERNARY = 2, BNN_PACK_INTERVAL = 3 };

typedef struct {
  int64_t channels, levels, strides[2], pads[4], dilations[2], group, pad_value;
  int64_t packed_dims[4]; /* N, H, W, words */
  int64_t weight_dims[4]; /* O, KH, KW, words */
  const int32_t *packed, *weight;
  /* The epilogue, [O] each; null where it is not part of it. */
  const float *scale, *bias;
  const void* residual; /* [N, O, H', W'], of the type of y */
  const float *slope, *shift, *lower, *upper;
  const int32_t *accumulator_lower, *accumulator_upper;
  float clip_low, clip_high;
  int64_t activation;
  void* y;         /* [N, O, H', W'], or null */
  int32_t* bits;   /* [N, H', W', ceil(O / 32)], or null */
  int64_t float16; /* whether residual and y are float16, not float32 */
} bnn_conv2d_call;

typedef struct {
  int64_t channels, levels, batch, outputs;
  const int32_t *packed, *weight; /* [N, words], [O, words] */
  const float *scale, *bias;
  const int32_t *accumulator_lower, *accumulator_upper;
  void* y;         /* [N, O], or null */
  int32_t* bits;   /* [N, ceil(O / 32)], or null */
  int64_t float16; /* whether y is float16 */
} bnn_linear_call;

typedef struct {
  int64_t kind, batch, channels, pixels;
  const void* x;              /* [N, C, pixels] */
  const float *lower, *upper; /* [1] or [C] */
  int64_t lower_count, upper_count;
  int32_t* packed; /* [N, pixels, words] */
  int64_t float16; /* whether x is float16 */
} bnn_pack_call;

typedef struct {
  int64_t x_dims[4]; /* N, C, H, W */
  int64_t kernel[2], strides[2];
  int64_t weight_dims[4]; /* O, C, 1, 1 */
  const float* x;
  const float *weight, *bias; /* of the 1x1 convolution behind the pool; null for the pool alone */
  float* y;                   /* [N, O or C, H', W'] */
} bnn_average_pool_call;

typedef struct {
  int64_t x_dims[4];      /* N, C, H, W */
  int64_t weight_dims[4]; /* O, C, KH, KW */
  int64_t pads[4];        /* top, left, bottom, right */
  const float *x, *weight, *bias;
  float* y; /* [N, O, H', W'], pooled */
} bnn_stem_call;

BNN_API const char* bnn_last_error(void); /* of this thread */
BNN_API int bnn_kernels_count(void);
BNN_API const char* bnn_kernels_name(int index);
BNN_API int bnn_kernels_supported(int index);
BNN_API const char* bnn_kernels_chosen(void); /* null where the environment names a set that is not there */

BNN_API int bnn_conv2d(const char* kernels, int threads, const bnn_conv2d_call* call);
BNN_API int bnn_linear(const char* kernels, int threads, const bnn_linear_call* call);
BNN_API int bnn_pack(const char* kernels, int threads, const bnn_pack_call* call);
BNN_API int bnn_average_pool(const char* kernels, int threads, const bnn_average_pool_call* call);
BNN_API int bnn_stem(const char* kernels, int threads, const bnn_stem_call* call);

/* A convolution that is prepared once and run many times, in milliseconds for `runs` runs on this thread. */
BNN_API int bnn_conv2d_time(const char* kernels, int runs, const bnn_conv2d_call* call, double* milliseconds);

/* The inner loop alone, on data that stays in the nearest cache: 10^9 one-bit products a second. */
BNN_API int bnn_count_rate(const char* kernels, int runs, double* rate);

/* What the inner loop's instructions could count at best, on registers alone, in the same unit. */
BNN_API int bnn_vector_ceiling(const char* kernels, int runs, double* rate);

#ifdef __cplusplus
}
#endif
#endif
