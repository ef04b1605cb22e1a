#include "rollout/decode_batch.h"

#include <algorithm>

namespace moerl {

using kernels::AttentionSegment;
using kernels::AttentionSegmentCuda;
using kernels::SampleParams;

namespace {

// Those of 8-byte alignment come first.
constexpr int64_t kParams = sizeof(SampleParams), kSegment = sizeof(AttentionSegmentCuda),
                  kSlot = sizeof(int64_t), kWord = sizeof(int32_t);
static_assert(alignof(SampleParams) <= 8 && kParams % 8 == 0 && kSegment % 8 == 0);

}  // namespace

int64_t DecodeBatch::row_bytes(int64_t max_blocks) {
  return kParams + kSegment + kSlot + (3 + max_blocks) * kWord;
}

DecodeBatch::DecodeBatch(ExecContext& ctx, int64_t max_rows, int64_t max_blocks)
    : max_rows_(max_rows),
      params_(0),
      segments_(params_ + max_rows * kParams),
      slots_(segments_ + max_rows * kSegment),
      token_ids_(slots_ + max_rows * kSlot),
      positions_(token_ids_ + max_rows * kWord),
      sources_(positions_ + max_rows * kWord),
      tables_(sources_ + max_rows * kWord),
      host_{kernels::StagingBuffer(max_rows * row_bytes(max_blocks)),
            kernels::StagingBuffer(max_rows * row_bytes(max_blocks))},
      device_(ctx.empty({max_rows * row_bytes(max_blocks) / kWord}, DType::kI32)) {}

void DecodeBatch::fill(const ForwardBatch& batch, std::span<const SampleParams> params,
                       std::span<const int32_t> sources, int64_t rows) {
  const int64_t count = batch.num_tokens();
  check(count >= 1 && count <= rows && rows <= max_rows_, "DecodeBatch: ", count,
        " rows, expected 1 to ", rows, ", at most ", max_rows_);
  check(static_cast<int64_t>(batch.segments.size()) == count &&
            static_cast<int64_t>(params.size()) == count &&
            (sources.empty() || static_cast<int64_t>(sources.size()) == count),
        "DecodeBatch: ", batch.segments.size(), " segments, ", params.size(), " parameters and ",
        sources.size(), " sources, expected one for each of ", count, " rows");
  current_ = 1 - current_;
  host_[current_].wait();
  int64_t table = tables_;
  for (int64_t row = 0; row < rows; ++row) {
    const auto i = static_cast<size_t>(std::min(row, count - 1));
    const AttentionSegment& segment = batch.segments[i];
    here<SampleParams>(params_)[row] = params[i];
    here<int32_t>(token_ids_)[row] = batch.token_ids[i];
    here<int32_t>(positions_)[row] = batch.positions[i];
    here<int32_t>(sources_)[row] = sources.empty() ? -1 : sources[i];
    if (row >= count) {
      const int32_t* last_table = here<AttentionSegmentCuda>(segments_)[count - 1].block_table;
      here<AttentionSegmentCuda>(segments_)[row] = {row, 1, segment.start, last_table};
      here<int64_t>(slots_)[row] = -1;
      continue;
    }
    const auto bytes = static_cast<int64_t>(segment.block_table.size_bytes());
    check(table + bytes <= device_.bytes(), "DecodeBatch: the block tables exceed the ",
          device_.bytes() - tables_, " bytes that were set apart");
    std::copy(segment.block_table.begin(), segment.block_table.end(), here<int32_t>(table));
    here<AttentionSegmentCuda>(segments_)[row] = {row, 1, segment.start, there<int32_t>(table)};
    here<int64_t>(slots_)[row] = kernels::slot_of(segment.block_table, segment.start);
    table += bytes;
  }
  Tensor filled = device_.rows(0, table / kWord);
  host_[current_].copy_to_device(filled);
}

void DecodeBatch::take_tokens(ExecContext& ctx, const Tensor& draws, int64_t rows) {
  auto* token_ids =
      reinterpret_cast<int32_t*>(static_cast<std::byte*>(device_.raw(Device::kCuda)) + token_ids_);
  kernels::continue_tokens(
      ctx, draws,
      kernels::List<int32_t>::on_device(there<int32_t>(sources_), static_cast<size_t>(rows)),
      token_ids);
}

BatchOnDevice DecodeBatch::on_device(int64_t rows, int64_t most_keys) const {
  const auto n = static_cast<size_t>(rows);
  return {kernels::List<int32_t>::on_device(there<int32_t>(token_ids_), n),
          kernels::List<int32_t>::on_device(there<int32_t>(positions_), n),
          kernels::SegmentsOnDevice{.segments = there<AttentionSegmentCuda>(segments_),
                                    .count = rows,
                                    .most_rows = 1,
                                    .most_keys = most_keys,
                                    .slots = there<int64_t>(slots_)}};
}

kernels::List<SampleParams> DecodeBatch::params(int64_t rows) const {
  return kernels::List<SampleParams>::on_device(there<SampleParams>(params_),
                                                static_cast<size_t>(rows));
}

}  // namespace moerl
