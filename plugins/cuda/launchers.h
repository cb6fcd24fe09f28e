// The layers on a GPU: raw pointers to device memory, and a stream. Nothing here allocates, synchronises or copies.
//
// Each throws InvalidInput where sizes or pointers do not fit, and CudaError where CUDA refuses.
#pragma once

#include <stdexcept>

#include "core/conv_shape.h"
#include "cuda/tasks.h"
#include "cuda/tile_plan.h"

struct CUstream_st;  // a cudaStream_t points to one

namespace bnn::cuda {

using Stream = CUstream_st*;

// CUDA refused what was asked of it.
class CudaError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// How the tensor cores multiply. A GPU has the one that `products.cuh` names for it; the host executor plays all.
enum class ProductChoice { kNative, kXorPopcount, kAndPopcount, kInt8 };

// Whether it is kInt8 that the current GPU has.
bool multiplies_int8();

// Which kernel runs: one of kTiles by its index, or one of these.
constexpr int kChooseKernel = -1, kPopcountKernel = kTileCount;

// The sizes and the attributes, with all pointers null. Throws where a size is beyond what the kernels count in int32.
ConvTask conv_task(const ConvAttributes& attributes, const ConvWeightShape& weight, const ConvShape& shape);

// A fully connected layer as a 1x1 convolution over an image of one row: packed [N, words] is [1, 1, N, words], and y,
// [N, O], is [1, 1, N, O], so its layout is kChannelsLast.
ConvTask linear_task(int64_t batch, int64_t channels, int64_t outputs, Levels levels);

// Which kernel `kChooseKernel` stands for on this device.
int chosen_kernel(const ConvTask& task, const Device& device);

// The plan of a tile, 0 to kTileCount - 1. Throws InvalidInput where it does not take the layer.
TilePlan tile_plan(const ConvTask& task, int tile, const Device& device);

// The table of border corrections, which task.border must point to from then on; of use to the tensor-core kernels
// alone. It is the same for images of every size. 0 bytes, and nothing to fill, where none of these takes the layer.
size_t border_table_bytes(const ConvTask& task);
size_t border_table_bytes(const ConvAttributes& attributes, const ConvWeightShape& weight);
void fill_border_table(const ConvTask& task, ProductChoice product, int32_t* table, Stream stream);

// The task of a pool, with its sizes. Throws where they do not fit: the rules are those of a convolution with one
// weight for each tap. attributes: channels, strides and pads.
MaxPoolTask max_pool_task(const ConvAttributes& attributes, const int64_t (&kernel)[2], const Dims& packed);

void convolve(const ConvTask& task, int kernel, ProductChoice product, const Device& device, Stream stream);
void pack(const PackTask& task, Stream stream);
void max_pool(const MaxPoolTask& task, Stream stream);

}  // namespace bnn::cuda
