#pragma once
#include <cstdint>
#include <vector>

namespace moerl::kernels::ref {

/// Rows of the table [V, D] by id.
inline std::vector<double> embedding(const std::vector<double>& table, int64_t dim,
                                     const std::vector<int32_t>& ids) {
  std::vector<double> y;
  for (int32_t id : ids)
    for (int64_t d = 0; d < dim; ++d) y.push_back(table[static_cast<size_t>(id * dim + d)]);
  return y;
}

/// What dy [T, D] adds to the gradient of the table.
inline std::vector<double> embedding_backward(const std::vector<double>& dy, int64_t vocab_size,
                                              int64_t dim, const std::vector<int32_t>& ids) {
  std::vector<double> dtable(static_cast<size_t>(vocab_size * dim));
  for (size_t t = 0; t < ids.size(); ++t)
    for (int64_t d = 0; d < dim; ++d)
      dtable[static_cast<size_t>(ids[t] * dim + d)] +=
          dy[t * static_cast<size_t>(dim) + static_cast<size_t>(d)];
  return dtable;
}

}  // namespace moerl::kernels::ref
