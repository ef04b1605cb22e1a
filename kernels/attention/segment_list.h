#pragma once
#include <span>
#include <vector>

#include "kernels/exec_context.h"

namespace moerl::kernels {

/// Positions in one block of keys: of the paged cache, and of the fixed walk over the keys.
inline constexpr int64_t kKvBlock = 32;
/// Positions in one split of the keys: attention.h's softmax starts anew at each.
inline constexpr int64_t kKvSplit = 1024;
static_assert(kKvSplit % kKvBlock == 0);

/// A run of consecutive positions of one sequence within a ragged batch.
struct AttentionSegment {
  int64_t first_row = 0;  ///< of the batch's rows
  int64_t num_rows = 0;   ///< positions [start, start + num_rows)
  int64_t start = 0;      ///< position of the first row; earlier ones are in the cache already
  std::span<const int32_t>
      block_table;  ///< block of positions [32 i, 32 i + 32), for all up to the last row
};

/// AttentionSegment where all pointers are the device's.
struct AttentionSegmentCuda {
  int64_t first_row, num_rows, start;
  const int32_t* block_table;
};

/// The segments of a pass: a view of the caller's, which may not change while it is in use. On
/// kCuda they and their tables are copied to the device once, when an op first asks for them.
class SegmentList {
 public:
  SegmentList() = default;
  SegmentList(std::span<const AttentionSegment> segments) : host_(segments) {}     // NOLINT: a view
  SegmentList(const std::vector<AttentionSegment>& segments) : host_(segments) {}  // NOLINT

  std::span<const AttentionSegment> host() const { return host_; }
  /// Rows of the longest segment.
  int64_t most_rows() const;
  /// Positions up to the end of the segment that ends last.
  int64_t most_keys() const;
  const AttentionSegmentCuda* on_device(ExecContext& ctx) const;
  /// [num_rows]: where the rows of a batch go in the cache, block * kKvBlock + offset; -1 for rows
  /// outside of all segments.
  const int64_t* slots_on_device(ExecContext& ctx, int64_t num_rows) const;

 private:
  std::span<const AttentionSegment> host_;
  mutable Tensor tables_, segments_, slots_;
};

}  // namespace moerl::kernels
