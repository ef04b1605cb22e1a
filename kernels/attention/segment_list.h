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

/// Where a position lies in the cache: block * kKvBlock + offset.
inline int64_t slot_of(std::span<const int32_t> block_table, int64_t position) {
  return block_table[static_cast<size_t>(position / kKvBlock)] * kKvBlock + position % kKvBlock;
}

/// AttentionSegment where all pointers are the device's.
struct AttentionSegmentCuda {
  int64_t first_row, num_rows, start;
  const int32_t* block_table;
};

/// Segments that lie on the device, and the places of all rows in the cache: see SegmentList.
struct SegmentsOnDevice {
  const AttentionSegmentCuda* segments = nullptr;  ///< [count]
  int64_t count = 0;
  int64_t most_rows = 0, most_keys = 0;  ///< no segment has more
  const int64_t* slots = nullptr;        ///< [rows], as slots_on_device
};

/// The segments of a pass: a view of the caller's, which may not change while it is in use. On
/// kCuda they and their tables are copied to the device once, when an op first asks for them,
/// unless they lie there; what those say, the caller answers for.
class SegmentList {
 public:
  SegmentList() = default;
  SegmentList(std::span<const AttentionSegment> segments) : host_(segments) {}     // NOLINT: a view
  SegmentList(const std::vector<AttentionSegment>& segments) : host_(segments) {}  // NOLINT
  SegmentList(const SegmentsOnDevice& segments) : device_(segments) {}             // NOLINT

  bool on_host() const { return device_.segments == nullptr; }
  /// REQUIRES: on_host().
  std::span<const AttentionSegment> host() const {
    check(on_host(), "SegmentList: ", device_.count, " segments lie on cuda, accessed from cpu");
    return host_;
  }
  int64_t size() const { return on_host() ? static_cast<int64_t>(host_.size()) : device_.count; }
  /// Rows of the longest segment.
  int64_t most_rows() const;
  /// Positions up to the end of the segment that ends last.
  int64_t most_keys() const;
  const AttentionSegmentCuda* on_device(ExecContext& ctx) const;
  /// [num_rows]: slot_of() the rows of a batch; -1 for rows outside of all segments, which are not
  /// kept.
  const int64_t* slots_on_device(ExecContext& ctx, int64_t num_rows) const;

 private:
  std::span<const AttentionSegment> host_;
  SegmentsOnDevice device_;
  mutable Tensor tables_, segments_, slots_;
};

}  // namespace moerl::kernels
