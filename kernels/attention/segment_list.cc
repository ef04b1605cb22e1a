#include "kernels/attention/segment_list.h"

#include <algorithm>

#include "kernels/list.h"

namespace moerl::kernels {

int64_t SegmentList::most_rows() const {
  int64_t most = device_.most_rows;
  for (const AttentionSegment& s : host_) most = std::max(most, s.num_rows);
  return most;
}

int64_t SegmentList::most_keys() const {
  int64_t most = device_.most_keys;
  for (const AttentionSegment& s : host_) most = std::max(most, s.start + s.num_rows);
  return most;
}

const AttentionSegmentCuda* SegmentList::on_device(ExecContext& ctx) const {
  if (!on_host()) return device_.segments;
  if (!segments_.defined()) {
    std::vector<int32_t> tables;
    for (const AttentionSegment& s : host_)
      tables.insert(tables.end(), s.block_table.begin(), s.block_table.end());
    tables_ = upload(ctx, std::span<const int32_t>(tables));
    const auto* table = static_cast<const int32_t*>(tables_.raw(Device::kCuda));
    std::vector<AttentionSegmentCuda> segments;
    for (const AttentionSegment& s : host_) {
      segments.push_back({s.first_row, s.num_rows, s.start, table});
      table += s.block_table.size();
    }
    segments_ = upload(ctx, std::span<const AttentionSegmentCuda>(segments));
  }
  return static_cast<const AttentionSegmentCuda*>(segments_.raw(Device::kCuda));
}

const int64_t* SegmentList::slots_on_device(ExecContext& ctx, int64_t num_rows) const {
  if (!on_host()) return device_.slots;
  if (!slots_.defined() || slots_.bytes() != num_rows * 8) {
    std::vector<int64_t> slots(static_cast<size_t>(num_rows), -1);
    for (const AttentionSegment& s : host_)
      for (int64_t i = 0; i < s.num_rows; ++i)
        slots[static_cast<size_t>(s.first_row + i)] = slot_of(s.block_table, s.start + i);
    slots_ = upload(ctx, std::span<const int64_t>(slots));
  }
  return static_cast<const int64_t*>(slots_.raw(Device::kCuda));
}

}  // namespace moerl::kernels
