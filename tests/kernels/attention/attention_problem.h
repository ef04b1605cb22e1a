#pragma once
#include <algorithm>
#include <cstring>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/attention/attention.h"
#include "kernels/attention/attention_ref.h"
#include "tests/testing/random_tensors.h"

namespace moerl::testing {

/// Heads and widths of an attention.
struct AttentionShape {
  int64_t num_heads, num_kv_heads, k_dim, v_dim;
  DType dtype;
  std::string name() const {
    return "H" + std::to_string(num_heads) + "Hk" + std::to_string(num_kv_heads) + "Dk" +
           std::to_string(k_dim) + "Dv" + std::to_string(v_dim) + dtype_name(dtype);
  }
};

/// Some whole sequences, their rows one after the other.
struct AttentionProblem {
  AttentionShape shape;
  std::vector<int64_t> lengths;
  Tensor q, k, v, dout;
  float scale = 0.3f;

  AttentionProblem(AttentionShape s, std::vector<int64_t> l) : shape(s), lengths(std::move(l)) {
    const int64_t rows = std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
    q = random_tensor({rows, s.num_heads, s.k_dim}, s.dtype, 1);
    k = random_tensor({rows, s.num_kv_heads, s.k_dim}, s.dtype, 2);
    v = random_tensor({rows, s.num_kv_heads, s.v_dim}, s.dtype, 3);
    dout = random_tensor({rows, s.num_heads, s.v_dim}, s.dtype, 4);
  }

  /// The same where the value of a position is the first v_dim of its key.
  AttentionProblem with_values_in_keys() const {
    AttentionProblem problem = *this;
    const auto step = static_cast<size_t>(dtype_size(shape.dtype));
    for (int64_t i = 0; i < num_rows() * shape.num_kv_heads; ++i)
      std::memcpy(static_cast<char*>(problem.v.raw()) + i * shape.v_dim * step,
                  static_cast<const char*>(k.raw()) + i * shape.k_dim * step, shape.v_dim * step);
    return problem;
  }

  int64_t num_rows() const { return q.dim(0); }
  int64_t first_row(size_t sequence) const {
    return std::accumulate(lengths.begin(), lengths.begin() + static_cast<std::ptrdiff_t>(sequence),
                           int64_t{0});
  }
  /// One segment for each sequence.
  std::vector<kernels::AttentionSegment> whole() const {
    std::vector<kernels::AttentionSegment> segments;
    for (size_t i = 0; i < lengths.size(); ++i)
      segments.push_back({first_row(i), lengths[i], 0, {}});
    return segments;
  }
  /// The sequence alone.
  AttentionProblem only(size_t i) const {
    AttentionProblem one = *this;
    one.lengths = {lengths[i]};
    for (Tensor* x : {&one.q, &one.k, &one.v, &one.dout})
      *x = x->rows(first_row(i), first_row(i) + lengths[i]).clone();
    return one;
  }
  kernels::ref::AttentionInput ref_input() const {
    return {num_rows(), shape.num_heads, shape.num_kv_heads, shape.k_dim,  shape.v_dim,
            scale,      to_doubles(q),   to_doubles(k),      to_doubles(v)};
  }
};

struct AttentionResult {
  Tensor o, lse;
};

/// Runs the forward pass of a problem through a paged cache.
class AttentionRunner {
 public:
  /// @param table_seed chooses which physical blocks the sequences get.
  AttentionRunner(const AttentionProblem& problem, uint64_t table_seed,
                  kernels::KvValues values = kernels::KvValues::kStored)
      : problem_(problem) {
    int64_t blocks = 3;  // some that nobody uses
    for (int64_t n : problem.lengths) blocks += (n + kernels::kKvBlock - 1) / kernels::kKvBlock;
    std::vector<int32_t> order(static_cast<size_t>(blocks));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937_64(table_seed));
    for (int64_t n : problem.lengths) {
      const auto needed =
          static_cast<std::ptrdiff_t>((n + kernels::kKvBlock - 1) / kernels::kKvBlock);
      tables_.emplace_back(order.end() - needed, order.end());
      order.resize(order.size() - static_cast<size_t>(needed));
    }
    const AttentionShape& s = problem.shape;
    cache_ = kernels::make_paged_kv(blocks, s.num_kv_heads, s.k_dim, s.v_dim, s.dtype, values);
    // NaN everywhere: a slot that was never written must not reach any result.
    for (Tensor* x : {&cache_.keys, &cache_.values})
      if (x->defined()) std::memset(x->raw(), 0xFF, static_cast<size_t>(x->bytes()));
    result_.o = Tensor::empty({problem.num_rows(), s.num_heads, s.v_dim}, s.dtype);
    result_.lse = Tensor::empty({problem.num_rows(), s.num_heads}, DType::kF32);
  }

  /// Every sequence in runs of `chunk` rows, all sequences in one batch as long as they last.
  AttentionResult run(ExecContext& ctx, int64_t chunk) {
    const int64_t longest = problem_.lengths.empty() ? 0
                                                     : *std::max_element(problem_.lengths.begin(),
                                                                         problem_.lengths.end());
    for (int64_t start = 0; start < longest; start += chunk) step(ctx, start, chunk);
    return result_;
  }
  kernels::PagedKv& cache() { return cache_; }
  const std::vector<int32_t>& table(size_t sequence) const { return tables_[sequence]; }

 private:
  void step(ExecContext& ctx, int64_t start, int64_t chunk) {
    std::vector<AttentionSegment> segments;
    for (size_t i = 0; i < problem_.lengths.size(); ++i) {
      const int64_t n = std::min(chunk, problem_.lengths[i] - start);
      if (n > 0) segments.push_back({problem_.first_row(i) + start, n, start, tables_[i]});
    }
    kernels::kv_append(ctx, problem_.k, problem_.v, segments, cache_);
    kernels::attention_forward(ctx, problem_.q, cache_, segments, problem_.scale, result_.o,
                               &result_.lse);
  }
  using AttentionSegment = kernels::AttentionSegment;

  const AttentionProblem& problem_;
  std::vector<std::vector<int32_t>> tables_;
  kernels::PagedKv cache_;
  AttentionResult result_;
};

}  // namespace moerl::testing
