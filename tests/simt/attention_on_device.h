#pragma once
#include <algorithm>
#include <memory>
#include <vector>

#include "kernels/attention/attention_impl.h"
#include "tests/kernels/attention/attention_problem.h"
#include "tests/simt/on_device.h"

namespace moerl::testing {

inline kernels::AttentionDims dims_of(const AttentionShape& s) {
  return {s.num_heads, s.num_kv_heads, s.k_dim, s.v_dim};
}

/// Whose forward pass: that of AttentionCuda, or that of AttentionWgmmaCuda.
enum class Kernels { kUsual, kWgmma };

/// The forward pass through a paged cache on the device, whose slots are NaN until written.
class DeviceRunner {
 public:
  explicit DeviceRunner(const AttentionProblem& p,
                        kernels::KvValues values = kernels::KvValues::kStored,
                        Kernels forward = Kernels::kUsual)
      : problem_(p),
        forward_(forward),
        q_(p.q),
        k_(p.k),
        v_(p.v),
        keys_({num_blocks(p), p.shape.num_kv_heads, p.shape.k_dim, kernels::kKvBlock},
              p.shape.dtype),
        values_({num_blocks(p), p.shape.num_kv_heads, kernels::kKvBlock, p.shape.v_dim},
                p.shape.dtype),
        kept_values_(values == kernels::KvValues::kStored ? values_.raw() : nullptr),
        o_({p.num_rows(), p.shape.num_heads, p.shape.v_dim}, p.shape.dtype),
        lse_({p.num_rows(), p.shape.num_heads}, DType::kF32) {
    // Blocks are dealt out in turns, so that no sequence has neighbours.
    const int64_t most = blocks_of(*std::max_element(p.lengths.begin(), p.lengths.end()));
    int32_t next = 0;
    host_tables_.resize(p.lengths.size());
    for (int64_t b = 0; b < most; ++b)
      for (size_t i = 0; i < p.lengths.size(); ++i)
        if (b < blocks_of(p.lengths[i])) host_tables_[i].push_back(next++);
    for (const std::vector<int32_t>& table : host_tables_)
      tables_.push_back(std::make_unique<ArrayOnDevice<int32_t>>(table));
  }

  /// Every sequence in runs of `chunk` rows.
  AttentionResult run(int64_t chunk) {
    const std::vector<int64_t>& lengths = problem_.lengths;
    for (int64_t start = 0; start < *std::max_element(lengths.begin(), lengths.end());
         start += chunk) {
      std::vector<Rows> rows;
      for (size_t i = 0; i < lengths.size(); ++i)
        if (start < lengths[i]) rows.push_back({i, start, std::min(start + chunk, lengths[i])});
      append(rows);
      attend(rows, false);
    }
    return {o_.to_host(), lse_.to_host()};
  }
  /// The last `count` rows of every sequence.
  /// @param side_by_side  whether their splits are computed by blocks of their own.
  AttentionResult run_last(int64_t count, bool side_by_side) {
    std::vector<Rows> whole, last;
    for (size_t i = 0; i < problem_.lengths.size(); ++i) {
      const int64_t length = problem_.lengths[i];
      whole.push_back({i, 0, length});
      last.push_back({i, std::max(length - count, int64_t{0}), length});
    }
    append(whole);
    attend(last, side_by_side);
    return {o_.to_host(), lse_.to_host()};
  }

 private:
  /// Positions [begin, end) of a sequence.
  struct Rows {
    size_t sequence;
    int64_t begin, end;
  };
  static int64_t blocks_of(int64_t length) {
    return (length + kernels::kKvBlock - 1) / kernels::kKvBlock;
  }
  static int64_t num_blocks(const AttentionProblem& p) {
    int64_t blocks = 0;
    for (int64_t length : p.lengths) blocks += blocks_of(length);
    return blocks;
  }

  void append(const std::vector<Rows>& rows) {
    std::vector<int64_t> slots(static_cast<size_t>(problem_.num_rows()), -1);
    for (const Rows& r : rows)
      for (int64_t t = r.begin; t < r.end; ++t)
        slots[static_cast<size_t>(problem_.first_row(r.sequence) + t)] =
            host_tables_[r.sequence][static_cast<size_t>(t / kernels::kKvBlock)] *
                kernels::kKvBlock +
            t % kernels::kKvBlock;
    const ArrayOnDevice<int64_t> slots_(slots);
    const AttentionShape& s = problem_.shape;
    kernels::cuda_ops<kernels::AttentionCuda>().kv_append(
        {dims_of(s), dtype_size(s.dtype), problem_.num_rows(), k_.raw(), v_.raw(), slots_.data(),
         keys_.raw(), kept_values_});
  }

  void attend(const std::vector<Rows>& rows, bool side_by_side) {
    const AttentionShape& s = problem_.shape;
    kernels::AttentionForwardCuda args{.dims = dims_of(s),
                                       .is_bf16 = s.dtype == DType::kBF16,
                                       .scale = problem_.scale,
                                       .rows = problem_.num_rows(),
                                       .q = q_.raw(),
                                       .keys = keys_.raw(),
                                       .values = kept_values_,
                                       .num_segments = static_cast<int64_t>(rows.size()),
                                       .o = o_.raw(),
                                       .lse = lse_.data()};
    std::vector<kernels::AttentionSegmentCuda> segments;
    for (const Rows& r : rows) {
      segments.push_back({problem_.first_row(r.sequence) + r.begin, r.end - r.begin, r.begin,
                          tables_[r.sequence]->data()});
      args.most_rows = std::max(args.most_rows, r.end - r.begin);
      args.most_keys = std::max(args.most_keys, r.end);
    }
    const ArrayOnDevice<kernels::AttentionSegmentCuda> segments_(segments);
    args.segments = segments_.data();
    const OnDevice partials(
        {args.num_splits(), args.rows * s.num_heads, kernels::attention_partial_floats(args.dims)},
        DType::kF32);
    if (side_by_side) args.partials = partials.data();
    if (forward_ == Kernels::kWgmma)
      kernels::cuda_ops<kernels::AttentionWgmmaCuda>().forward(args);
    else
      kernels::cuda_ops<kernels::AttentionCuda>().forward(args);
  }

  const AttentionProblem& problem_;
  const Kernels forward_;
  OnDevice q_, k_, v_, keys_, values_;
  void* const kept_values_;  // null: in the keys
  OnDevice o_, lse_;
  std::vector<std::vector<int32_t>> host_tables_;
  std::vector<std::unique_ptr<ArrayOnDevice<int32_t>>> tables_;
};

/// The last `count` rows of every sequence have the same bits.
inline void expect_same_last(const AttentionProblem& p, int64_t count, const AttentionResult& got,
                             const AttentionResult& expected) {
  for (size_t i = 0; i < p.lengths.size(); ++i) {
    const int64_t end = p.first_row(i) + p.lengths[i];
    const int64_t begin = end - std::min(count, p.lengths[i]);
    EXPECT_TRUE(same_bits(got.o.rows(begin, end), expected.o.rows(begin, end)))
        << "o of sequence " << i;
    EXPECT_TRUE(same_bits(got.lse.rows(begin, end), expected.lse.rows(begin, end)))
        << "lse of sequence " << i;
  }
}
/// The last three rows of the longer one lie on both sides of a border between splits.
inline const std::vector<int64_t> kSplitLengths = {kernels::kKvSplit + 2, 5};

}  // namespace moerl::testing
