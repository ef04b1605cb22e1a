#include "experiments/data_cursor.h"

#include <numeric>
#include <utility>

#include "common/check.h"
#include "common/rng.h"

namespace moerl {

DataCursor::DataCursor(int64_t num_rows, uint64_t seed) : num_rows_(num_rows), seed_(seed) {
  check(num_rows >= 1, "DataCursor: there are ", num_rows,
        " rows to draw from, expected at least 1");
}

int64_t DataCursor::row(int64_t position) {
  const int64_t epoch = position / num_rows_;
  if (epoch != epoch_) {
    epoch_ = epoch;
    order_.resize(static_cast<size_t>(num_rows_));
    std::iota(order_.begin(), order_.end(), 0);
    Rng rng(seed_, static_cast<uint64_t>(epoch));
    for (size_t i = order_.size(); i > 1; --i)
      std::swap(order_[i - 1], order_[rng.below(static_cast<uint32_t>(i))]);
  }
  return order_[static_cast<size_t>(position % num_rows_)];
}

}  // namespace moerl
