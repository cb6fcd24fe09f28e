// The operands of a tile as int8 in shared memory, where TilePlan::widened says so: A as 0 and 1, B as -64 and +64.
//
// Every word becomes 32 bytes, the weights once for a block's stay and the halo once for a tile. K runs over the taps
// and, two words a step, over their words: no step is behind the last tap. With i from 0 to 7, bits i, i + 8, i + 16
// and i + 24 of a word become register i of it, and of these a thread takes registers part and part + 4.
//
// A halo pixel has its registers in ascending order, and pixels are an odd number of 16 bytes apart: when the threads
// of a warp read one register each, those of eight neighbouring pixels are on 32 different banks. Loads of more than
// one register would leave it to moves to put them where the instruction wants them. The weights lie in the order in
// which the threads of a warp read them, the four registers of a step at once.
#pragma once

#include "cuda/products.cuh"
#include "cuda/tasks.h"
#include "cuda/tile_plan.h"

namespace bnn::cuda {

BNN_DEVICE uint32_t widen_to_0_or_1(uint32_t word, int i) { return word >> i & 0x01010101u; }
// The bit becomes the sign: 64 is 0x40, and -64 is 0xc0.
BNN_DEVICE uint32_t widen_to_sign(uint32_t word, int i) { return (word << (7 - i) & 0x80808080u) ^ 0xc0c0c0c0u; }

template <int kRowTiles, int kColumnTiles, int kThreads>
class WidenedOperands {
 public:
  BNN_DEVICE WidenedOperands(const ConvTask& task, const TilePlan& plan)
      : task_(task),
        plan_(plan),
        weights_(shared_memory()),
        halo_(weights_.at<uint32_t>(plan.halo_at)),
        steps_(weights_.at<int>(plan.steps_at)) {}

  // Behind the last output there is anything; behind the last word of a tap too, for A has zeros there.
  BNN_DEVICE void fill_weights(int first_output) const {
    for (int i = thread_index(); i < plan_.steps * kColumnTiles * kWarpThreads; i += kThreads) {
      const int lane = i % kWarpThreads, part = lane % 4, column_tile = i / kWarpThreads % kColumnTiles;
      const int k = i / kWarpThreads / kColumnTiles * 2, tap = k / plan_.tap_words, word = k % plan_.tap_words;
      const int output = first_output + channel_of_column(column_tile, lane / 4);
      Registers registers;
#pragma unroll
      for (int n = 0; n < 2; ++n) {
        const bool valid = output < task_.outputs && word + n < task_.words;
        const uint32_t bits =
            valid ? static_cast<uint32_t>(load(task_.weight + task_.weight_at(output, tap, word + n))) : 0;
        registers.values[2 * n] = widen_to_sign(bits, part);
        registers.values[2 * n + 1] = widen_to_sign(bits, part + 4);
      }
      weights_.template store_vector<4>(i * 4, registers);
    }
  }

  // For each step, where its first register is, in words from the first tap of a pixel.
  BNN_DEVICE void fill_steps() const {
    for (int step = thread_index(); step < plan_.steps; step += kThreads) {
      const int tap = 2 * step / plan_.tap_words, word = 2 * step % plan_.tap_words;
      steps_.store(step, pixel_of_tap(task_, plan_, tap) * plan_.pixel_words + word * kWidenedWord);
    }
  }

  // The bits of a pixel were copied to where its registers begin. One thread widens them all, from the last ones on,
  // and so has read all bits that lie where it writes.
  BNN_DEVICE void widen_halo() const {
    for (int pixel = thread_index(); pixel < plan_.halo_rows * plan_.halo_columns; pixel += kThreads) {
      const int first = pixel * plan_.pixel_words;
      for (int word = plan_.tap_words - 1; word >= 0; --word) {
        const uint32_t bits = halo_.load(first + word);
#pragma unroll
        for (int half = 0; half < kWidenedWord; half += 4) {
          Registers registers;
#pragma unroll
          for (int i = 0; i < 4; ++i) registers.values[i] = widen_to_0_or_1(bits, half + i);
          halo_.template store_vector<4>(first + word * kWidenedWord + half, registers);
        }
      }
    }
  }

  // windows: the halo pixels of the first taps of the thread's rows of A.
  BNN_DEVICE void multiply(const int (&windows)[kRowTiles][2], int (&counts)[kRowTiles][kColumnTiles][4]) const {
    const int lane = thread_index() % kWarpThreads;
#pragma unroll 1
    for (int step = 0; step < plan_.steps; ++step) {
      const int at = steps_.load(step) + lane % 4;
      uint32_t a[2][kRowTiles][4];
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half)
#pragma unroll
          for (int i = 0; i < 4; ++i)
            a[i / 2][m][half + i % 2 * 2] = halo_.load(windows[m][half] * plan_.pixel_words + at + i * 4);
#pragma unroll
      for (int j = 0; j < kColumnTiles; ++j) {
        const Registers column =
            weights_.template load_vector<4>(((step * kColumnTiles + j) * kWarpThreads + lane) * 4);
#pragma unroll
        for (int n = 0; n < 2; ++n) {
          const uint32_t b[2] = {column.values[2 * n], column.values[2 * n + 1]};
#pragma unroll
          for (int m = 0; m < kRowTiles; ++m) multiply_int8(counts[m][j], a[n][m], b);
        }
      }
    }
  }

 private:
  using Registers = Vector<uint32_t, 4>;

  const ConvTask& task_;
  const TilePlan& plan_;
  const Shared<uint32_t> weights_, halo_;
  const Shared<int> steps_;
};

}  // namespace bnn::cuda
