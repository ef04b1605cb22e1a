#pragma once
#include <cstdint>
#include <vector>

#include "policy/parameter.h"

namespace moerl {

/// Elements [begin, end) of one parameter.
struct ParameterRun {
  size_t parameter;
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

/// All elements of several parameters, one after the other, cut into a slice for each rank. Slices
/// are whole blocks of a parameter's elements (those of kernels::block_squares), so that they
/// differ by a block at most, and a sum over blocks does not depend on the number of slices.
class ParameterSlices {
 public:
  /// @param block  elements of one block. The last one of each parameter may be shorter.
  ParameterSlices(std::vector<int64_t> sizes, int num_slices, int64_t block);

  int num_slices() const { return num_slices_; }
  /// In the order of the parameters.
  std::vector<ParameterRun> slice(int index) const;
  /// What a slice has of one parameter; may be empty.
  ParameterRun run(int slice, size_t parameter) const;
  /// A slice is sent in windows, which bound the memory that it takes. Window i of every slice
  /// travels at the same time; it is empty where a slice is over.
  int64_t num_windows() const;
  std::vector<ParameterRun> window(int slice, int64_t index) const;

 private:
  int64_t first_block(int slice) const { return first_blocks_.back() * slice / num_slices_; }
  ParameterRun run(size_t parameter, int64_t begin_block, int64_t end_block) const;
  std::vector<ParameterRun> runs(int64_t begin_block, int64_t end_block) const;

  std::vector<int64_t> sizes_;
  int num_slices_;
  int64_t block_;
  std::vector<int64_t> first_blocks_;  // of each parameter, and the number of all
};

int64_t num_elements(const std::vector<ParameterRun>& runs);

}  // namespace moerl
