#include "kernels/cuda/staging.h"

#include <cstring>
#include <memory>
#include <string>

#include "kernels/cuda/graph.h"
#include "tests/simt/on_device.h"

namespace moerl::kernels {
namespace {

using testing::random_tensor;
using testing::same_bits;

constexpr int64_t kRows = 5, kColumns = 7;

/// A tensor on the device, and page-locked memory of its size.
class StagingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (IsSkipped()) return;  // no GPU
    on_device_ = random_tensor({kRows, kColumns}, DType::kF32, 1).to(Device::kCuda);
    staged_ = std::make_unique<StagingBuffer>(on_device_.bytes());
  }
  bool staged_is(const Tensor& expected) const {
    return std::memcmp(staged_->data(), expected.raw(), static_cast<size_t>(expected.bytes())) == 0;
  }
  static std::string error_of(const std::function<void()>& call) {
    try {
      call();
    } catch (const std::exception& error) {
      return error.what();
    }
    return "";
  }
  Tensor on_device_;
  std::unique_ptr<StagingBuffer> staged_;
};

TEST_F(StagingTest, CopiesRowsThereAndBack) {
  const Tensor values = random_tensor({3, kColumns}, DType::kF32, 2);
  Tensor expected = on_device_.to(Device::kCpu).clone();
  expected.rows(1, 4).copy_from(values);
  std::memcpy(staged_->data(), values.raw(), static_cast<size_t>(values.bytes()));
  Tensor rows = on_device_.rows(1, 4);
  staged_->copy_to_device(rows);
  staged_->wait();
  EXPECT_TRUE(same_bits(on_device_.to(Device::kCpu), expected));
  staged_->copy_to_host(on_device_);
  staged_->wait();
  EXPECT_TRUE(staged_is(expected));
}

TEST_F(StagingTest, WaitingForNothingReturns) {
  staged_->wait();
  staged_->wait();
}

// The device is asked for more between the copy and the wait: the copy has what was there before.
TEST_F(StagingTest, ACopyHasItsPlaceInTheOrderOfTheWork) {
  const Tensor before = on_device_.to(Device::kCpu).clone();
  staged_->copy_to_host(on_device_);
  on_device_.fill_zero();
  staged_->wait();
  EXPECT_TRUE(staged_is(before));
}

TEST_F(StagingTest, WhatDoesNotFitIsRefused) {
  Tensor larger = random_tensor({kRows + 1, kColumns}, DType::kF32, 1).to(Device::kCuda);
  EXPECT_EQ(error_of([&] { staged_->copy_to_host(larger); }),
            "StagingBuffer: a tensor of 168 bytes, expected at most 140");
  EXPECT_NE(error_of([&] { staged_->copy_to_device(larger); }), "");
}

TEST_F(StagingTest, AGraphCannotCopyFromTheHostOrToIt) {
  const auto pool = std::make_shared<MemoryPool>();
  EXPECT_NE(error_of([&] {
              CudaGraph(pool, [&] { staged_->copy_to_device(on_device_); });
            }).find("copy from the host of 140 bytes while a CUDA graph is captured"),
            std::string::npos);
  EXPECT_NE(error_of([&] {
              CudaGraph(pool, [&] { staged_->copy_to_host(on_device_); });
            }).find("copy to the host"),
            std::string::npos);
}

}  // namespace
}  // namespace moerl::kernels
