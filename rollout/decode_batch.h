#pragma once
#include <array>
#include <cstddef>
#include <span>

#include "kernels/cuda/staging.h"
#include "kernels/sampling/sample_token.h"
#include "policy/transformer.h"

namespace moerl {

/// The inputs of a decode step, one token of each of some running sequences, in the memory of kCuda
/// at addresses that stay: what a CUDA graph reads.
class DecodeBatch {
 public:
  /// @param max_rows  sequences. @param max_blocks  of one sequence's table.
  DecodeBatch(ExecContext& ctx, int64_t max_rows, int64_t max_blocks);
  /// Of the device, for one of max_rows.
  static int64_t row_bytes(int64_t max_blocks);

  /// Copies the step to the device, behind what that is at; returns at once. Rows from the batch's
  /// last one on, up to `rows`, repeat it, but for writing to the cache: they compute what is
  /// thrown away, from what is there anyway.
  /// @param batch  of segments of one row each; at least one.  @param params  one for each row.
  /// @param sources  of rows whose token is not known here: the row that drew it, for take_tokens;
  ///   -1: known. Empty: all are.
  void fill(const ForwardBatch& batch, std::span<const kernels::SampleParams> params,
            std::span<const int32_t> sources, int64_t rows);
  /// Asks the device to put the tokens of rows with a source in their place.
  /// @param draws  of the step before, [.., kTokenDrawWords] i32, as sample_token leaves them.
  void take_tokens(ExecContext& ctx, const Tensor& draws, int64_t rows);

  // The first `rows` rows of what fill() has put there, or will.
  /// @param most_keys  no row stands behind so many positions.
  BatchOnDevice on_device(int64_t rows, int64_t most_keys) const;
  kernels::List<kernels::SampleParams> params(int64_t rows) const;

 private:
  /// Where an array begins, here and there.
  template <typename T>
  T* here(int64_t offset) {
    return reinterpret_cast<T*>(host_[current_].data() + offset);
  }
  template <typename T>
  const T* there(int64_t offset) const {
    return reinterpret_cast<const T*>(static_cast<const std::byte*>(device_.raw(Device::kCuda)) +
                                      offset);
  }

  // Byte offsets of the arrays, each of max_rows elements but for the tables, one behind the other.
  int64_t max_rows_, params_, segments_, slots_, token_ids_, positions_, sources_, tables_;
  // A step is written while the last one's copy may be under way.
  std::array<kernels::StagingBuffer, 2> host_;
  size_t current_ = 0;
  Tensor device_;
};

}  // namespace moerl
