#include "kernels/cuda/backend.h"
#include "kernels/cuda/order.h"
#include "kernels/cuda/vocabulary.h"
#include "kernels/sampling/sample_token_impl.h"

namespace moerl::kernels::cuda {
namespace {

// A block a row.
using Word = unsigned long long;  // what atomicAdd takes
constexpr int kBucketBits = 8, kBuckets = 1 << kBucketBits;

struct SampleMemory {
  VocabularyMemory vocabulary;
  Word* buckets;   // [kBuckets]
  uint64_t* keys;  // one for each warp
  float* lanes;    // [2, 16]
  static constexpr size_t kBytes = VocabularyMemory::kBytes +
                                   (kBuckets + kVocabularyThreads / 32) * sizeof(uint64_t) +
                                   2 * 16 * sizeof(float);

  __device__ explicit SampleMemory(unsigned char* shared)
      : vocabulary(shared),
        buckets(reinterpret_cast<Word*>(shared + VocabularyMemory::kBytes)),
        keys(reinterpret_cast<uint64_t*>(buckets + kBuckets)),
        lanes(reinterpret_cast<float*>(keys + kVocabularyThreads / 32)) {}
};

/// A row of logits: its order of likelihood and its e.
struct Row {
  const float* logits;
  int64_t vocab_size;
  float scale, shift;
  __device__ uint64_t key(int64_t v) const {
    return order_key(logits[v], static_cast<uint32_t>(v));
  }
  __device__ float e(int64_t v) const { return shifted_exp(logits[v], scale, shift).e; }
  /// e in fixed point: its sums are exact in any order.
  __device__ uint64_t fixed_point(int64_t v) const { return static_cast<uint64_t>(e(v) * 0x1p40f); }
};

template <typename F>
__device__ void for_each_token(const Row& row, const F& f) {
  for (int64_t v = threadIdx.x; v < row.vocab_size; v += kVocabularyThreads) f(v);
}

/// The likeliest token.
__device__ int64_t likeliest(const Row& row, const SampleMemory& memory) {
  uint64_t best = 0;
  for_each_token(row, [&](int64_t v) { best = row.key(v) > best ? row.key(v) : best; });
  best = max_of_warp(best);
  if (threadIdx.x % 32 == 0) memory.keys[threadIdx.x / 32] = best;
  __syncthreads();
  for (int w = 0; w < kVocabularyThreads / 32; ++w)
    best = memory.keys[w] > best ? memory.keys[w] : best;
  return index_of_key(best);
}

/// The sum of the weights of all tokens whose key is at least `floor`.
template <typename Weight>
__device__ uint64_t sum_weights(const Row& row, uint64_t floor, Word* word, const Weight& weight) {
  if (threadIdx.x == 0) *word = 0;
  __syncthreads();
  for_each_token(row, [&](int64_t v) {
    if (row.key(v) >= floor) atomicAdd(word, static_cast<Word>(weight(v)));
  });
  __syncthreads();
  const uint64_t sum = *word;
  __syncthreads();
  return sum;
}

/// The key at which the summed weights of the keys from `floor` on, largest first, reach `needed`;
/// 0 if they never do. Each round sums the weights by eight bits of the keys and goes on in the one
/// bucket where the border lies. Sums of integers: no order of the threads shows.
template <typename Weight>
__device__ uint64_t border_key(const Row& row, uint64_t floor, uint64_t needed, Word* buckets,
                               const Weight& weight) {
  uint64_t border = 0, reached = 0;
  for (int shift = 64 - kBucketBits; shift >= 0; shift -= kBucketBits) {
    for (int i = static_cast<int>(threadIdx.x); i < kBuckets; i += kVocabularyThreads)
      buckets[i] = 0;
    __syncthreads();
    for_each_token(row, [&](int64_t v) {
      const uint64_t key = row.key(v);
      if (key < floor || key >> shift >> kBucketBits != border) return;
      atomicAdd(buckets + (key >> shift & (kBuckets - 1)), static_cast<Word>(weight(v)));
    });
    __syncthreads();
    int bucket = kBuckets;
    do {
      if (bucket == 0) return 0;  // in the first round only, by all threads
      reached += buckets[--bucket];
    } while (reached < needed);
    reached -= buckets[bucket];
    border = border << kBucketBits | static_cast<uint64_t>(bucket);
    __syncthreads();  // before the buckets are emptied
  }
  return border;
}

/// The least key that top-k and top-p keep.
__device__ uint64_t narrow(const Row& row, const SampleParams& params, Word* buckets) {
  uint64_t border = 0;
  if (params.top_k > 0)
    border = border_key(row, 0, static_cast<uint64_t>(params.top_k), buckets,
                        [](int64_t) { return uint64_t{1}; });
  __syncthreads();
  if (params.top_p < 1) {
    auto weight = [&](int64_t v) { return row.fixed_point(v); };
    const uint64_t total = sum_weights(row, border, buckets, weight);
    const auto needed = static_cast<uint64_t>(
        ::ceil(static_cast<double>(params.top_p) * static_cast<double>(total)));
    const uint64_t reached = border_key(row, border, needed, buckets, weight);
    border = reached > border ? reached : border;
  }
  return border;
}

/// By warp 0: the first token of a tile of `count` whose C exceeds the threshold, when the lane
/// sums before it are `sum`; count if there is none.
__device__ int walk_tile(const float* e, int count, float sum, float threshold, float* lanes) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  for (int begin = 0; begin < count; begin += 16) {
    const bool inside = lane < 16 && begin + lane < count;
    const float next = inside ? sum + e[begin + lane] : sum;
    const float c = __shfl_sync(~0u, sum_lanes(next), 0);
    if (!(c > threshold) && begin + 16 < count) {
      sum = next;
      continue;
    }
    if (lane < 16) {
      lanes[lane] = sum;
      lanes[16 + lane] = next;
    }
    __syncwarp();
    // C with the lanes up to this one brought forward.
    float tree[16];
    MOERL_UNROLL
    for (int i = 0; i < 16; ++i) tree[i] = lanes[i <= lane ? 16 + i : i];
    MOERL_UNROLL
    for (int half = 8; half >= 1; half /= 2) MOERL_UNROLL
    for (int i = 0; i < half; ++i) tree[i] = tree[i] + tree[i + half];
    const uint32_t above = __ballot_sync(~0u, inside && tree[0] > threshold);
    return above == 0 ? count : begin + __ffs(static_cast<int>(above)) - 1;
  }
  return count;
}

/// The first token whose C exceeds the threshold; vocab_size if there is none.
template <typename E>
__device__ int64_t pick(int64_t vocab_size, const E& e_of, float threshold,
                        const SampleMemory& memory) {
  float* e = memory.vocabulary.terms;
  float sum = 0.0f;
  for (int64_t begin = 0; begin < vocab_size; begin += kVocabularyTile) {
    const int64_t left = vocab_size - begin;
    const int count = static_cast<int>(left < kVocabularyTile ? left : kVocabularyTile);
    for (int i = static_cast<int>(threadIdx.x); i < count; i += kVocabularyThreads)
      e[i] = e_of(begin + i);
    __syncthreads();
    int found = 0;
    float next = sum;
    if (threadIdx.x < 32) {
      for (int i = static_cast<int>(threadIdx.x); threadIdx.x < 16 && i < count; i += 16)
        next = next + e[i];
      found = sum_lanes(next) > threshold ? 1 : 0;
    }
    // Lanes 16 and on have nothing to say: they add up zeros.
    if (__syncthreads_or(threadIdx.x == 0 ? found : 0) != 0) {
      if (threadIdx.x < 32) {
        const int at = walk_tile(e, count, sum, threshold, memory.lanes);
        if (threadIdx.x == 0) memory.keys[0] = static_cast<uint64_t>(begin + at);
      }
      __syncthreads();
      return static_cast<int64_t>(memory.keys[0]);
    }
    sum = next;
  }
  return vocab_size;
}

__global__ void __launch_bounds__(kVocabularyThreads) sample_kernel(SampleTokenArgs args) {
  MOERL_SHARED_MEMORY(shared);
  const SampleMemory memory(shared);
  const int64_t t = blockIdx.x;
  const SampleParams params = args.params[t];
  const bool greedy = params.temperature == 0;
  const float scale = greedy ? 1.0f : 1.0f / params.temperature;
  Row row{args.logits + t * args.width, args.vocab_size, scale, 0.0f};
  row.shift = max_of_row(row.logits, row.vocab_size, scale, memory.vocabulary);
  auto term = [&](int64_t v) { return shifted_exp(row.logits[v], scale, row.shift); };
  float sum = sum_of_row<false>(row.vocab_size, memory.vocabulary, term).sum;
  const float lse = row.shift + log_or_nan(sum);
  const float uniform = params.uniform.value();
  int64_t token = -1;
  if (is_finite(lse)) {  // the same for all threads
    if (greedy) {
      token = likeliest(row, memory);
    } else if (params.top_k > 0 || params.top_p < 1 || params.min_p > 0) {
      const uint64_t border = narrow(row, params, memory.buckets);
      auto kept = [&](int64_t v) {
        const float e = row.e(v);
        return e < params.min_p || row.key(v) < border ? 0.0f : e;
      };
      sum = sum_of_row<false>(row.vocab_size, memory.vocabulary, [&](int64_t v) {
              return Shifted{0.0f, kept(v)};
            }).sum;
      token = pick(row.vocab_size, kept, uniform * sum, memory);
    } else {
      token = pick(
          row.vocab_size, [&](int64_t v) { return row.e(v); }, uniform * sum, memory);
    }
    if (token >= row.vocab_size) token = -1;
  }
  if (threadIdx.x != 0) return;
  args.draws[t] = {static_cast<int32_t>(token), token < 0 ? lse : row.logits[token] * scale - lse};
}

void run(const SampleTokenArgs& args) {
  launch("sample_token", sample_kernel,
         {static_cast<unsigned>(args.rows), kVocabularyThreads, SampleMemory::kBytes}, args);
}

void continue_tokens(const ContinueTokensArgs& args) {
  launch_each("continue_tokens", args.rows, [args] __device__(int64_t t) {
    const int32_t source = args.sources[t];
    if (source < 0) return;
    const int32_t token = args.draws[source].token;
    args.token_ids[t] = token < 0 ? 0 : token;
  });
}

const RegisterCudaOps<SampleTokenCuda> registered({run, continue_tokens});

}  // namespace
}  // namespace moerl::kernels::cuda
