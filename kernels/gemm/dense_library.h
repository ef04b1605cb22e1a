#pragma once
// What a library of products is to moerl: plain types and abstract classes, since it is a shared
// library that needs no symbol of the program.

#include <compare>
#include <cstdint>
#include <memory>
#include <ostream>
#include <vector>

#include "kernels/dtype.h"

namespace moerl::kernels {

/// Products of bf16 rows by one bf16 weight, all but the number of rows: y [rows, columns] = x W^T
/// with W [columns, depth] or, transposed, x W with W [depth, columns].
struct DenseShape {
  bool transposed = false;
  DType y_dtype = DType::kBF16;
  bool accumulate = false;  ///< y += instead of y =, the sum being rounded once
  int64_t columns = 0, depth = 0;

  friend auto operator<=>(const DenseShape&, const DenseShape&) = default;
  friend std::ostream& operator<<(std::ostream& out, const DenseShape& shape) {
    return out << dtype_name(shape.y_dtype) << " [rows, " << shape.columns << "] "
               << (shape.accumulate ? "+= " : "= ") << "bf16 [rows, " << shape.depth << "] W"
               << (shape.transposed ? "" : "^T");
  }
};

/// One way of a library to compute the products of one shape.
class DenseAlgorithm {
 public:
  virtual ~DenseAlgorithm() = default;
  /// All of the device and 16-byte aligned; behind what was asked of the default stream before.
  /// @throws std::runtime_error naming call, shape and status.
  virtual void run(int64_t rows, const void* x, const void* weight, void* y) const = 0;
};

class DenseLibrary {
 public:
  virtual ~DenseLibrary() = default;
  /// Those that sum up an element's whole depth in one place and need no memory but x, W and y, the
  /// fastest first. They may not outlive the library. Extents are multiples of 8.
  /// @throws std::runtime_error naming call, shape and status.
  virtual std::vector<std::unique_ptr<DenseAlgorithm>> algorithms(const DenseShape& shape) = 0;
};

}  // namespace moerl::kernels
