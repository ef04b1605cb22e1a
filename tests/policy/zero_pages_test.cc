#include "policy/zero_pages.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "tests/testing/sanitized.h"

namespace moerl {
namespace {

int64_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  int64_t pages = 0, resident = 0;
  statm >> pages >> resident;
  return resident * 4096;
}

TEST(ZeroPagesTest, TakeMemoryOnlyWhileTheyHoldNumbers) {
  if (testing::kIsSanitized) GTEST_SKIP() << "a sanitizer takes memory of its own";
  constexpr int64_t kMegabytes = 64, kHalf = (kMegabytes / 2) << 20;
  const int64_t before = resident_bytes();
  Tensor tensor = zero_pages({kMegabytes, 1 << 18}, Device::kCpu);
  EXPECT_LT(resident_bytes() - before, kHalf);
  float* values = tensor.data<float>();
  EXPECT_EQ(std::count(values, values + tensor.numel(), 0.0f), tensor.numel());
  std::fill(values, values + tensor.numel(), 1.0f);
  EXPECT_GT(resident_bytes() - before, kHalf);
  drop_pages(tensor);
  EXPECT_LT(resident_bytes() - before, kHalf);
  EXPECT_EQ(std::count(values, values + tensor.numel(), 0.0f), tensor.numel());
}

TEST(ZeroPagesTest, AreZeroInMemoryThatWasInUse) {
  for (const int64_t numel : {int64_t{5}, int64_t{1} << 18, (int64_t{1} << 20) + 3}) {
    Tensor first = Tensor::empty({numel + 7}, DType::kF32);
    std::fill(first.data<float>(), first.data<float>() + numel + 7, 2.0f);
    Tensor part = first.rows(3, 3 + numel);  // ends within pages
    drop_pages(part);
    EXPECT_EQ(first.data<float>()[2], 2.0f);
    EXPECT_EQ(first.data<float>()[3 + numel], 2.0f);
    EXPECT_EQ(std::count(part.data<float>(), part.data<float>() + numel, 0.0f), numel);
    first = part = Tensor();
    const Tensor again = zero_pages({numel}, Device::kCpu);
    EXPECT_EQ(std::count(again.data<float>(), again.data<float>() + numel, 0.0f), numel);
  }
}

}  // namespace
}  // namespace moerl
