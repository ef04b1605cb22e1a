#pragma once
// Passes of a block over one row of the vocabulary, in the order of kernels/cpu: sixteen lane sums
// over v mod 16, v ascending, then the lane tree. All threads compute the terms of a tile into
// shared memory; a half-warp adds them up while the others go on with the next tile.

#include "kernels/cuda/rows.h"

namespace moerl::kernels::cuda {

inline constexpr int kVocabularyThreads = 256, kVocabularyTile = 2048;

/// What the block shares: two tiles of terms, two of a second kind, and a word for each warp.
struct VocabularyMemory {
  float *terms, *others, *words;
  static constexpr size_t kBytes = (4 * kVocabularyTile + kVocabularyThreads / 32) * sizeof(float);

  __device__ explicit VocabularyMemory(unsigned char* shared)
      : terms(reinterpret_cast<float*>(shared)),
        others(terms + 2 * kVocabularyTile),
        words(others + 2 * kVocabularyTile) {}
};

/// Largest z of the row, for all threads. A NaN may or may not show.
__device__ __forceinline__ float max_of_row(const float* logits, int64_t vocab_size, float scale,
                                            const VocabularyMemory& memory) {
  float largest = -INFINITY;
  for (int64_t v = threadIdx.x; v < vocab_size; v += kVocabularyThreads)
    largest = max(largest, logits[v] * scale);
  for (int half = 16; half >= 1; half /= 2)
    largest = max(largest, __shfl_xor_sync(~0u, largest, half));
  if (threadIdx.x % 32 == 0) memory.words[threadIdx.x / 32] = largest;
  __syncthreads();
  largest = memory.words[0];
  for (int w = 1; w < kVocabularyThreads / 32; ++w) largest = max(largest, memory.words[w]);
  __syncthreads();
  return largest;
}

/// exp(z - max), and z - max kept above what would make 0 * -inf of it.
struct Shifted {
  float x, e;
};
__device__ __forceinline__ Shifted shifted_exp(float logit, float scale, float shift) {
  const float x = max(-200.0f, logit * scale - shift);
  return {x, exp(x)};
}

struct RowSums {
  float sum, weighted;  ///< of e, and of e x where asked for
};

/// Sums over a row; term(v) is a Shifted.
template <bool kWeighted, typename Term>
__device__ RowSums sum_of_row(int64_t vocab_size, const VocabularyMemory& memory,
                              const Term& term) {
  // Warp 0 adds up e, warp 1 e x, each with its first sixteen lanes.
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
  float sum = 0.0f;
  for (int64_t begin = 0, tile = 0; begin < vocab_size; begin += kVocabularyTile, ++tile) {
    float* e = memory.terms + tile % 2 * kVocabularyTile;
    float* x = memory.others + tile % 2 * kVocabularyTile;
    const int64_t left = vocab_size - begin;
    const int count = static_cast<int>(left < kVocabularyTile ? left : kVocabularyTile);
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kVocabularyThreads) {
      const Shifted shifted = term(begin + i);
      e[i] = shifted.e;
      if (kWeighted) x[i] = shifted.x;
    }
    __syncthreads();
    if (lane < 16 && warp == 0)
      for (int i = lane; i < count; i += 16) sum = sum + e[i];
    if (kWeighted && lane < 16 && warp == 1)
      for (int i = lane; i < count; i += 16) sum = fma(e[i], x[i], sum);
  }
  sum = sum_lanes(sum);
  if (lane == 0) memory.words[warp] = sum;
  __syncthreads();
  const RowSums sums = {memory.words[0], memory.words[1]};
  __syncthreads();
  return sums;
}

}  // namespace moerl::kernels::cuda
