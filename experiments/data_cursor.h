#pragma once
#include <cstdint>
#include <vector>

namespace moerl {

/// The order in which a stage draws rows: every epoch is a permutation of its own, all of them a
/// function of the seed. A position is a count of rows drawn, so it needs no other state to go on
/// from a checkpoint.
class DataCursor {
 public:
  /// @param num_rows  >= 1.
  DataCursor(int64_t num_rows, uint64_t seed);
  /// Row number of the draw at `position`, counted from 0 over all epochs.
  int64_t row(int64_t position);

 private:
  int64_t num_rows_;
  uint64_t seed_;
  int64_t epoch_ = -1;
  std::vector<int32_t> order_;
};

}  // namespace moerl
