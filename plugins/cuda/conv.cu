#include <limits>

#include "cuda/border_table.cuh"
#include "cuda/conv_popcount.cuh"
#include "cuda/conv_tile.cuh"
#include "cuda/launch.cuh"

namespace bnn::cuda {
namespace {

constexpr int64_t kLargest = std::numeric_limits<int32_t>::max();
constexpr int kBorderRound = 128;       // the largest kOutputs: a tile reads whole rows of the table
constexpr int kMostResidentBlocks = 4;  // of one multiprocessor; more tiles than that go through the same blocks

int narrow_size(const char* what, int64_t size) {
  if (size < 0 || size > kLargest) refuse(what, " is ", size, ", wanted ", kLargest, " or less");
  return static_cast<int>(size);
}

// The sizes of the border table, for images of any size: the first tap of a window is at most a pad before the image,
// and the last one at most a pad behind it.
void set_border(const ConvAttributes& a, const ConvWeightShape& weight, ConvTask& task) {
  const auto most = [&](int side, int axis) {
    const int64_t kernel = axis == 0 ? weight.kernel_height : weight.kernel_width;
    const int64_t taps = (a.pads[side] + a.dilations[axis] - 1) / a.dilations[axis];
    return static_cast<int>(taps < kernel ? taps : kernel);
  };
  task.padded_top = most(0, 0);
  task.padded_left = most(1, 1);
  task.padded_bottom = most(2, 0);
  task.padded_right = most(3, 1);
  task.border_stride = static_cast<int>((weight.outputs + kBorderRound - 1) / kBorderRound * kBorderRound);
}

// Calls `with(Product{})`.
template <class With>
void with_product(ProductChoice product, const With& with) {
#ifndef BNN_HOST_EXECUTOR
  if (product != ProductChoice::kNative) refuse("a product was asked for that this GPU may not have");
  with(Native{});
#else
  if (product == ProductChoice::kAndPopcount) return with(AndPopcount{});
  if (product == ProductChoice::kInt8) return with(Int8{});
  with(XorPopcount{});  // and what Native is on the host
#endif
}

template <int kIndex, class Choice>
void launch_tile(const ConvTask& task, const TilePlan& plan, const Device& device, Stream stream) {
  constexpr TileSize kSize = kTiles[kIndex];
  const int columns = (task.outputs + kSize.outputs - 1) / kSize.outputs;
  const int resident = (device.multiprocessors * kMostResidentBlocks + columns - 1) / columns;
  const LaunchSize size{plan.tiles() < resident ? plan.tiles() : resident, columns, kSize.warps * kWarpThreads,
                        plan.shared_bytes};
  launch("conv_tile", conv_tile<Choice, kSize.pixels, kSize.outputs, kSize.warps>, size, stream, task, plan);
}

bool is_aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

void require_aligned(const char* what, const void* pointer) {
  if (!is_aligned(pointer)) refuse(what, " is not aligned to 16 bytes");
}

void check_pointers(const ConvTask& task, bool border) {
  const auto present = [](const char* what, bool wanted, const void* pointer) {
    if (wanted && !pointer) refuse(what, " is missing");
  };
  const auto require = [&](const char* what, bool wanted, const void* pointer) {
    present(what, wanted, pointer);
    require_aligned(what, pointer);
  };
  const EpilogueKind& kind = task.kind;
  require("packed", true, task.packed);
  require("weight", true, task.weight);
  require("border", border, task.border);
  present("y", kind.float_output, task.y);
  present("residual", kind.residual, task.residual);
  require("bits", kind.packed_output, task.bits);
  const EpilogueOperands& e = task.operands;
  const bool prelu = kind.activation == Activation::kPRelu;
  if (kind.float_output && !(e.scale && e.bias)) refuse("scale or bias is missing");
  if (prelu && !(e.slope && e.shift)) refuse("slope or shift is missing");
  if (kind.integer_bits() && !(e.accumulator_lower && e.accumulator_upper)) refuse("an integer bound is missing");
  if (kind.packed_output && kind.float_output && !(e.lower && e.upper)) refuse("a bound is missing");
}

}  // namespace

bool multiplies_int8() {
#ifndef BNN_HOST_EXECUTOR
  // What the code was compiled for, which may be older than the GPU. Where there is none at all, the first launch says
  // so.
  cudaFuncAttributes attributes;
  if (cudaFuncGetAttributes(&attributes, fill_border_entries<Native>) == cudaSuccess)
    return attributes.ptxVersion >= kFirstInt8;
  cudaGetLastError();
#endif
  return false;
}

ConvTask conv_task(const ConvAttributes& a, const ConvWeightShape& weight, const ConvShape& shape) {
  ConvTask task{};
  task.batch = narrow_size("the batch", shape.batch);
  task.height = static_cast<int>(shape.height);
  task.width = static_cast<int>(shape.width);
  task.channels = static_cast<int>(a.channels);
  task.words = static_cast<int>(words_for(a.channels));
  task.planes = static_cast<int>(planes_of(a.levels));
  task.outputs = static_cast<int>(weight.outputs);
  task.kernel_height = static_cast<int>(weight.kernel_height);
  task.kernel_width = static_cast<int>(weight.kernel_width);
  task.group = static_cast<int>(a.group);
  task.stride_y = static_cast<int>(a.strides[0]);
  task.stride_x = static_cast<int>(a.strides[1]);
  task.dilation_y = static_cast<int>(a.dilations[0]);
  task.dilation_x = static_cast<int>(a.dilations[1]);
  task.pad_top = static_cast<int>(a.pads[0]);
  task.pad_left = static_cast<int>(a.pads[1]);
  task.out_height = narrow_size("the height of the output", shape.out_height);
  task.out_width = narrow_size("the width of the output", shape.out_width);
  task.levels = a.levels;
  task.pad_value = a.pad_value;
  narrow_size("the number of output pixels", shape.batch * narrow_size("the size of an output image", shape.pixels()));

  set_border(a, weight, task);
  return task;
}

ConvTask linear_task(int64_t batch, int64_t channels, int64_t outputs, Levels levels) {
  ConvAttributes attributes;
  attributes.channels = channels;
  attributes.levels = levels;
  check(attributes);
  const ConvWeightShape weight = weight_shape(attributes, {outputs, 1, 1, words_for(channels)});
  ConvTask task = conv_task(attributes, weight, {1, 1, batch, 1, batch});
  task.layout = Layout::kChannelsLast;
  return task;
}

int chosen_kernel(const ConvTask& task, const Device& device) {
  TilePlan plan;
  const int tile = choose_tile(task, device, plan);
  return tile < 0 ? kPopcountKernel : tile;
}

TilePlan tile_plan(const ConvTask& task, int tile, const Device& device) {
  TilePlan plan;
  if (!plan_tiles(task, kTiles[tile], device, plan))
    refuse("tile ", tile, " does not take this layer: it needs more shared memory than ", device.shared_bytes,
           " bytes, or a table too large");
  return plan;
}

size_t border_table_bytes(const ConvTask& task) {
  return task.group == 1 ? sizeof(int32_t) * static_cast<size_t>(task.border_entries()) : 0;
}

size_t border_table_bytes(const ConvAttributes& attributes, const ConvWeightShape& weight) {
  ConvTask task{};
  task.group = static_cast<int>(attributes.group);
  set_border(attributes, weight, task);
  return border_table_bytes(task);
}

void fill_border_table(const ConvTask& task, ProductChoice product, int32_t* table, Stream stream) {
  if (border_table_bytes(task) == 0) return;
  if (!table || !task.weight) refuse("border or weight is missing");
  require_aligned("border", table);
  const LaunchSize size{(task.border_entries() + kBorderThreads - 1) / kBorderThreads, 1, kBorderThreads, 0};
  with_product(product, [&](auto choice) {
    launch("fill_border_entries", fill_border_entries<decltype(choice)>, size, stream, task, table);
  });
}

void convolve(const ConvTask& asked, int kernel, ProductChoice product, const Device& device, Stream stream) {
  ConvTask task = asked;
  task.vectors = is_aligned(task.y) && is_aligned(task.residual);
  if (kernel == kChooseKernel) kernel = chosen_kernel(task, device);
  if (kernel < 0 || kernel > kPopcountKernel) refuse("there is no kernel ", kernel);
  if (kernel != kPopcountKernel && task.group != 1) refuse("tile kernels take no groups, found ", task.group);
  check_pointers(task, kernel != kPopcountKernel);
  if (task.batch == 0 || task.out_height == 0 || task.out_width == 0) return;
  if (kernel == kPopcountKernel) {
    const int64_t pixels = int64_t{task.batch} * task.out_height * task.out_width;
    const int units = (task.output_words() * static_cast<int>(kWordBits)) / kUnit;
    const LaunchSize size{(pixels + kPopcountThreads - 1) / kPopcountThreads, units, kPopcountThreads, 0};
    return launch("conv_popcount", conv_popcount, size, stream, task);
  }
  const TilePlan plan = tile_plan(task, kernel, device);
  with_product(product, [&](auto choice) {
    using Choice = decltype(choice);
    switch (kernel) {
      case 0:
        return launch_tile<0, Choice>(task, plan, device, stream);
      case 1:
        return launch_tile<1, Choice>(task, plan, device, stream);
      case 2:
        return launch_tile<2, Choice>(task, plan, device, stream);
      default:
        return launch_tile<3, Choice>(task, plan, device, stream);
    }
  });
}

}  // namespace bnn::cuda
