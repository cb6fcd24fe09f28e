// From accumulators to what a layer writes: the pieces that all convolution kernels share.
//
// The unit is eight neighbouring output channels of one pixel: one byte of packed bits, and 16 bytes of float16.
#pragma once

#include "cuda/ptx.cuh"
#include "cuda/tasks.h"

namespace bnn::cuda {

constexpr int kUnit = 8;

// An output pixel.
struct Pixel {
  int image, row, column;
};

// Where eight channels of a pixel are in a tensor like y.
struct UnitAddress {
  int64_t first, step;  // of the first channel, and from one to the next, in elements
  int channels;         // how many there are: fewer than eight at the end, none behind it
  bool together;        // whether all eight are one aligned stretch

  BNN_DEVICE UnitAddress(const ConvTask& task, Layout layout, const Pixel& at, int output) {
    const int64_t pixels = static_cast<int64_t>(task.out_height) * task.out_width;
    const int64_t pixel = static_cast<int64_t>(at.row) * task.out_width + at.column;
    const bool last = layout == Layout::kChannelsLast;
    first = last ? (at.image * pixels + pixel) * task.outputs + output
                 : (static_cast<int64_t>(at.image) * task.outputs + output) * pixels + pixel;
    step = last ? 1 : pixels;
    const int left = task.outputs - output;
    channels = left < 0 ? 0 : left < kUnit ? left : kUnit;
    together = last && channels == kUnit && task.vectors && task.outputs % kUnit == 0;
  }
};

template <class Value>
BNN_DEVICE void read_unit(const Value* tensor, const UnitAddress& at, float (&values)[kUnit]) {
  if (at.together) {
    constexpr int kPart = 16 / sizeof(Value);
#pragma unroll
    for (int first = 0; first < kUnit; first += kPart) {
      const Vector<Value, kPart> part = load_vector<kPart>(tensor + at.first + first);
#pragma unroll
      for (int i = 0; i < kPart; ++i) values[first + i] = widen(part.values[i]);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kUnit; ++i) values[i] = i < at.channels ? widen(load(tensor + at.first + i * at.step)) : 0.0f;
  }
}

template <class Value>
BNN_DEVICE void write_unit(Value* tensor, const UnitAddress& at, const float (&values)[kUnit]) {
  if (at.together) {
    constexpr int kPart = 16 / sizeof(Value);
#pragma unroll
    for (int first = 0; first < kUnit; first += kPart) {
      Vector<Value, kPart> part;
#pragma unroll
      for (int i = 0; i < kPart; ++i) narrow(values[first + i], part.values[i]);
      store_vector(tensor + at.first + first, part);
    }
  } else {
#pragma unroll
    for (int i = 0; i < kUnit; ++i)
      if (i < at.channels) {
        Value value;
        narrow(values[i], value);
        store(tensor + at.first + i * at.step, value);
      }
  }
}

// The operands of a layer's epilogue, by the place that they have in the tile kernel's shared memory.
enum class Operand { kScale, kBias, kSlope, kShift, kLower, kUpper };

BNN_DEVICE const float* real_operand(const EpilogueOperands& operands, Operand operand) {
  switch (operand) {
    case Operand::kScale:
      return operands.scale;
    case Operand::kBias:
      return operands.bias;
    case Operand::kSlope:
      return operands.slope;
    case Operand::kShift:
      return operands.shift;
    case Operand::kLower:
      return operands.lower;
    default:
      return operands.upper;
  }
}

// Only bounds are ever integers.
BNN_DEVICE const int32_t* integer_operand(const EpilogueOperands& operands, Operand operand) {
  return operand == Operand::kLower ? operands.accumulator_lower : operands.accumulator_upper;
}

// z of eight channels: the steps of `core/epilogue.h`, each for all eight before the next one, so that few operands are
// in registers at a time. read(operand, values) reads one operand of the eight.
template <class Read>
BNN_DEVICE void finish_reals(const ConvTask& task, const UnitAddress& at, const int (&accumulators)[kUnit],
                             const Read& read, float (&z)[kUnit]) {
  float first[kUnit], second[kUnit];
  read(Operand::kScale, first);
  read(Operand::kBias, second);
#pragma unroll
  for (int i = 0; i < kUnit; ++i) z[i] = scaled(accumulators[i], first[i], second[i]);
  if (task.kind.residual) {
    if (task.kind.float16)
      read_unit(static_cast<const Half*>(task.residual), at, first);
    else
      read_unit(static_cast<const float*>(task.residual), at, first);
#pragma unroll
    for (int i = 0; i < kUnit; ++i) z[i] = z[i] + first[i];
  }
  if (task.kind.activation == Activation::kPRelu) {
    read(Operand::kSlope, first);
    read(Operand::kShift, second);
#pragma unroll
    for (int i = 0; i < kUnit; ++i) z[i] = prelu(z[i], first[i], second[i]);
  }
  if (task.kind.activation == Activation::kClip) {
#pragma unroll
    for (int i = 0; i < kUnit; ++i) z[i] = clip(z[i], task.operands.clip_low, task.operands.clip_high);
  }
  if (task.kind.float16)
    write_unit(static_cast<Half*>(task.y), at, z);
  else
    write_unit(static_cast<float*>(task.y), at, z);
}

// The packed byte of eight channels; behind the last channel there are zeros.
template <class Value, class Read>
BNN_DEVICE uint8_t finish_bits(const UnitAddress& at, const Value (&values)[kUnit], const Read& read) {
  Value lower[kUnit], upper[kUnit];
  read(Operand::kLower, lower);
  read(Operand::kUpper, upper);
  uint32_t bits = 0;
#pragma unroll
  for (int i = 0; i < kUnit; ++i)
    bits |= static_cast<uint32_t>(i < at.channels && within(lower[i], values[i], upper[i])) << i;
  return static_cast<uint8_t>(bits);
}

// Writes all that a layer makes of eight channels of a pixel, from `output` on, a multiple of 8.
template <class Read>
BNN_DEVICE void finish_unit(const ConvTask& task, const Pixel& pixel, int output, const int (&accumulators)[kUnit],
                            const Read& read) {
  if (output >= task.output_words() * static_cast<int>(kWordBits)) return;
  const UnitAddress at(task, task.layout, pixel, output);
  if (task.accumulator) {
    const UnitAddress there(task, Layout::kChannelsFirst, pixel, output);
#pragma unroll
    for (int i = 0; i < kUnit; ++i)
      if (i < there.channels) store(task.accumulator + there.first + i * there.step, accumulators[i]);
  }
  float z[kUnit];
  if (task.kind.float_output) finish_reals(task, at, accumulators, read, z);
  if (task.kind.packed_output) {
    const uint8_t byte = task.kind.float_output ? finish_bits(at, z, read) : finish_bits(at, accumulators, read);
    const int64_t row = static_cast<int64_t>(pixel.image) * task.out_height + pixel.row;
    const int64_t word = (row * task.out_width + pixel.column) * task.output_words();
    store(reinterpret_cast<uint8_t*>(task.bits + word) + output / kUnit, byte);
  }
}

}  // namespace bnn::cuda
