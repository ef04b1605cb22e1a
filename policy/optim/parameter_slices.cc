#include "policy/optim/parameter_slices.h"

#include <algorithm>

namespace moerl {
namespace {

/// Of a window: 4 MiB of fp32 where a block has 64 KiB.
constexpr int64_t kWindowBlocks = 64;

}  // namespace

ParameterSlices::ParameterSlices(std::vector<int64_t> sizes, int num_slices, int64_t block)
    : sizes_(std::move(sizes)), num_slices_(num_slices), block_(block), first_blocks_{0} {
  for (int64_t size : sizes_)
    first_blocks_.push_back(first_blocks_.back() + (size + block - 1) / block);
}

std::vector<ParameterRun> ParameterSlices::slice(int index) const {
  return runs(first_block(index), first_block(index + 1));
}

int64_t ParameterSlices::num_windows() const {
  int64_t most = 0;
  for (int s = 0; s < num_slices_; ++s) most = std::max(most, first_block(s + 1) - first_block(s));
  return (most + kWindowBlocks - 1) / kWindowBlocks;
}

std::vector<ParameterRun> ParameterSlices::window(int slice, int64_t index) const {
  const int64_t end = first_block(slice + 1);
  const int64_t begin = std::min(end, first_block(slice) + index * kWindowBlocks);
  return runs(begin, std::min(end, begin + kWindowBlocks));
}

std::vector<ParameterRun> ParameterSlices::runs(int64_t begin_block, int64_t end_block) const {
  std::vector<ParameterRun> runs;
  for (size_t p = 0; p < sizes_.size(); ++p)
    if (const ParameterRun part = run(p, begin_block, end_block); part.size() > 0)
      runs.push_back(part);
  return runs;
}

ParameterRun ParameterSlices::run(size_t p, int64_t begin_block, int64_t end_block) const {
  const int64_t begin = std::max(begin_block, first_blocks_[p]) - first_blocks_[p];
  const int64_t end = std::min(end_block, first_blocks_[p + 1]) - first_blocks_[p];
  if (begin >= end) return {p, 0, 0};
  return {p, begin * block_, std::min(end * block_, sizes_[p])};
}

ParameterRun ParameterSlices::run(int slice, size_t parameter) const {
  return run(parameter, first_block(slice), first_block(slice + 1));
}

int64_t num_elements(const std::vector<ParameterRun>& runs) {
  int64_t n = 0;
  for (const ParameterRun& run : runs) n += run.size();
  return n;
}

}  // namespace moerl
