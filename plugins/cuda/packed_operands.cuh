// The operands of a tile as words of bits in shared memory, and their products, 8 words of K a step.
//
// Within a step a thread holds two neighbouring words of A and of B: another order of K than the manual's, the same for
// both. What the matrix instruction takes is made of them in registers, as `Product` says.
#pragma once

#include "cuda/products.cuh"
#include "cuda/tasks.h"
#include "cuda/tile_plan.h"

namespace bnn::cuda {

template <class Product, int kRowTiles, int kColumnTiles, int kThreads>
class PackedOperands {
 public:
  BNN_DEVICE PackedOperands(const ConvTask& task, const TilePlan& plan)
      : task_(task),
        plan_(plan),
        weights_(shared_memory()),
        halo_(weights_.at<uint32_t>(plan.halo_at)),
        sums_(weights_.at<int>(plan.sums_at)),
        steps_(weights_.at<int>(plan.steps_at)),
        group_(thread_index() % kWarpThreads / 4),
        part_(thread_index() % 4) {}

  // Output `r` of the tile is in row r of shared memory: column r % 8 of column tile r / 8. Behind the last tap, and
  // behind the last output, there are zeros.
  BNN_DEVICE void fill_weights(int first_output) const {
    switch (plan_.chunk) {
      case 4:
        return fill_weights_by<4>(first_output);
      case 2:
        return fill_weights_by<2>(first_output);
      default:
        return fill_weights_by<1>(first_output);
    }
  }

  // For each step and part, where the thread's two words are, in words from the first tap of a pixel; -1: behind the
  // last tap.
  BNN_DEVICE void fill_steps() const {
    for (int i = thread_index(); i < plan_.steps * 4; i += kThreads) {
      const int tap = 2 * i / plan_.tap_words, word = 2 * i % plan_.tap_words;
      steps_.store(i, tap < task_.taps() ? pixel_of_tap(task_, plan_, tap) * plan_.pixel_words + word : -1);
    }
  }

  // The popcount of each halo pixel.
  BNN_DEVICE void sum_pixels() const {
    for (int pixel = thread_index(); pixel < plan_.halo_rows * plan_.halo_columns; pixel += kThreads) {
      int ones = 0;
      for (int word = 0; word < plan_.tap_words; word += 2) {
        const Vector<uint32_t, 2> words = halo_.template load_vector<2>(pixel * plan_.pixel_words + word);
        ones += popcount(words.values[0]) + popcount(words.values[1]);
      }
      sums_.store(pixel, ones);
    }
  }

  // Their sum over each window. The four threads of a group have the same pixels and share the taps.
  BNN_DEVICE void sum_windows(const int (&windows)[kRowTiles][2], int (&counts)[kRowTiles][kColumnTiles][4],
                              int (&window_sums)[kRowTiles][2]) const {
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        int sum = 0;
        for (int tap = part_; tap < task_.taps(); tap += 4)
          sum += sums_.load(windows[m][half] + pixel_of_tap(task_, plan_, tap));
        sum += shuffle_xor(sum, 1);
        sum += shuffle_xor(sum, 2);
        if (Product::kSumInCount == 0) {
          window_sums[m][half] += sum;
        } else {
#pragma unroll
          for (int j = 0; j < kColumnTiles; ++j)
#pragma unroll
            for (int i = 0; i < 2; ++i) counts[m][j][half * 2 + i] += Product::kSumInCount * sum;
        }
      }
  }

  // windows: the halo pixels of the first taps of the thread's rows of A.
  BNN_DEVICE void multiply(const int (&windows)[kRowTiles][2], int (&counts)[kRowTiles][kColumnTiles][4]) const {
#pragma unroll 1
    for (int step = 0; step < plan_.steps; ++step) {
      const int at = steps_.load(step * 4 + part_);
      uint32_t a[kRowTiles][4];
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          Vector<uint32_t, 2> words = {{0, 0}};
          if (at >= 0) words = halo_.template load_vector<2>(windows[m][half] * plan_.pixel_words + at);
          a[m][half] = words.values[0];
          a[m][half + 2] = words.values[1];
        }
#pragma unroll
      for (int part = 0; part < Product::kParts; ++part) multiply_part(step, part, a, counts);
    }
  }

 private:
  template <int kChunk>
  BNN_DEVICE void fill_weights_by(int first_output) const {
    const int copies = plan_.steps * 8 / kChunk;
    for (int i = thread_index(); i < kColumnTiles * 8 * copies; i += kThreads) {
      const int row = i / copies, k = i % copies * kChunk, tap = k / plan_.tap_words, word = k % plan_.tap_words;
      const int output = first_output + channel_of_column(row / 8, row % 8);
      const bool valid = output < task_.outputs && tap < task_.taps() && word < task_.words;
      const uint32_t* from =
          reinterpret_cast<const uint32_t*>(task_.weight) + (valid ? task_.weight_at(output, tap, word) : 0);
      const int to = row * plan_.weight_words + k;
      if constexpr (Product::kWidens) {
#pragma unroll
        for (int n = 0; n < kChunk; ++n) weights_.store(to + n, valid ? mirror_bytes(load(from + n)) : 0u);
      } else {
        copy_async<kChunk>(weights_, to, from, valid);
      }
    }
  }

  // Of the product of a step, the part that `Product` takes at once.
  BNN_DEVICE void multiply_part(int step, int part, const uint32_t (&words_a)[kRowTiles][4],
                                int (&counts)[kRowTiles][kColumnTiles][4]) const {
    uint32_t a[kRowTiles][4];
#pragma unroll
    for (int m = 0; m < kRowTiles; ++m)
#pragma unroll
      for (int i = 0; i < 4; ++i) a[m][i] = Product::widen_a(words_a[m][i], part);
#pragma unroll
    for (int j = 0; j < kColumnTiles; ++j) {
      const Vector<uint32_t, 2> words =
          weights_.template load_vector<2>((j * 8 + group_) * plan_.weight_words + step * 8 + part_ * 2);
      const uint32_t b[2] = {Product::widen_b(words.values[0], part), Product::widen_b(words.values[1], part)};
#pragma unroll
      for (int m = 0; m < kRowTiles; ++m) Product::multiply(counts[m][j], a[m], b);
    }
  }

  const ConvTask& task_;
  const TilePlan& plan_;
  const Shared<uint32_t> weights_, halo_;
  const Shared<int> sums_, steps_;
  const int group_, part_;
};

}  // namespace bnn::cuda
