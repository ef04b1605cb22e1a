// The emulator finds the faults that it is there for. Run by the emulated programs only.
#include <gmock/gmock.h>

#include <cmath>

#include "kernels/cuda/emulator/options.h"
#include "kernels/cuda/staging.h"
#include "tests/simt/on_device.h"
#include "tests/simt/planted_faults.h"

namespace moerl::testing {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kThreads = 64;

Tensor exchange(Fault fault) {
  const OnDevice out({kThreads}, DType::kF32);
  run_exchange(fault, out.data());
  return out.to_host();
}

/// What the kernel's error says; empty if it ran to its end.
std::string error_of(Fault fault) {
  try {
    exchange(fault);
  } catch (const std::runtime_error& error) {
    return error.what();
  }
  return {};
}

bool is_sound(const Tensor& out) {
  for (int64_t i = 0; i < kThreads; ++i)
    if (out.data<float>()[i] != static_cast<float>(2 * (kThreads - 1 - i))) return false;
  return true;
}

TEST(EmulatorTest, ASoundKernelRunsInEveryOrder) {
  for_each_order([] { EXPECT_TRUE(is_sound(exchange(Fault::kNone))); });
}

TEST(EmulatorTest, MissingBarriersShowInTheResult) {
  if (simt::sanitizer() == simt::Sanitizer::kThread) GTEST_SKIP() << "reported as races, below";
  for_each_order([] {
    EXPECT_FALSE(is_sound(exchange(Fault::kNoBarrierBeforeRead)));
    EXPECT_FALSE(is_sound(exchange(Fault::kNoBarrierBeforeReuse)));
  });
}

TEST(EmulatorTest, MissingBarriersAreRacesOfTheThreadSanitizer) {
  if (simt::sanitizer() != simt::Sanitizer::kThread) GTEST_SKIP() << "needs the thread sanitizer";
  for_each_order([] {
    EXPECT_DEATH(exchange(Fault::kNoBarrierBeforeRead), "data race");
    EXPECT_DEATH(exchange(Fault::kNoBarrierBeforeReuse), "data race");
  });
  const OnDevice in({kThreads}, DType::kF32), out({kThreads}, DType::kF32);
  for_each_order([&] {
    EXPECT_DEATH(run_async_copy(Fault::kCopiesOverReads, in.data(), out.data()), "data race");
  });
}

TEST(EmulatorTest, DeadlocksAreReportedWithThreadsAndLines) {
  for_each_order([] {
    const std::string error = error_of(Fault::kDivergentBarrier);
    EXPECT_THAT(error, HasSubstr("threads wait in vain:"));
    EXPECT_THAT(error, HasSubstr("thread 0 and on: __syncthreads at "));
    EXPECT_THAT(error, HasSubstr("thread 40 and on: __shfl_sync at "));
    EXPECT_THAT(error, HasSubstr("planted_faults.cu:"));
    EXPECT_THAT(error_of(Fault::kMixedCollectives), HasSubstr("lanes of the warp wait at"));
  });
}

TEST(EmulatorTest, WrongMasksAreErrorsThatNameOpThreadAndLine) {
  for_each_order([] {
    const std::string error = error_of(Fault::kMaskWithoutCaller);
    EXPECT_THAT(error, HasSubstr("exchange: block (0, 0, 0): thread "));
    EXPECT_THAT(error, HasSubstr("__shfl_sync at "));
    EXPECT_THAT(error, HasSubstr("planted_faults.cu:"));
  });
}

TEST(EmulatorTest, AccessesOutOfBoundsAndMisalignedOnesAreFoundByTheAddressSanitizer) {
  if (simt::sanitizer() != simt::Sanitizer::kAddress) GTEST_SKIP() << "needs the address sanitizer";
  EXPECT_DEATH(exchange(Fault::kPastSharedMemory), "use-after-poison");
  EXPECT_DEATH(exchange(Fault::kPastGlobalMemory), "heap-buffer-overflow");
  EXPECT_DEATH(exchange(Fault::kMisaligned), "misaligned address");
}

TEST(EmulatorTest, AsynchronousCopiesLandWhenTheyAreWaitedFor) {
  const Tensor numbers = random_tensor({kThreads}, DType::kF32, 1);
  const OnDevice in(numbers), out({kThreads}, DType::kF32);
  for_each_order([&] {
    run_async_copy(Fault::kNone, in.data(), out.data());
    const Tensor copied = out.to_host();
    for (int64_t i = 0; i < kThreads; ++i)
      EXPECT_EQ(copied.data<float>()[i], numbers.data<float>()[kThreads - 1 - i]);
    run_async_copy(Fault::kReadsBeforeWait, in.data(), out.data());
    const Tensor early = out.to_host();
    for (int64_t i = 0; i < kThreads; ++i) EXPECT_TRUE(std::isnan(early.data<float>()[i]));
    try {
      run_async_copy(Fault::kNeverWaits, in.data(), out.data());
      FAIL() << "no error";
    } catch (const std::runtime_error& error) {
      EXPECT_THAT(error.what(), HasSubstr("copies that it never waited for"));
    }
  });
}

/// The operands of run_wgmma, and their product.
class EmulatedWgmmaTest : public ::testing::Test {
 protected:
  Tensor multiply(Fault fault) {
    run_wgmma(fault, in_.data<bf16>(), out_.data());
    return out_.to_host();
  }
  std::string error_of(Fault fault) {
    try {
      multiply(fault);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return {};
  }
  double expected(int64_t row, int64_t column) const {
    double sum = 0.0;
    for (int64_t k = 0; k < 16; ++k)
      sum += double{to_float(numbers_.data<bf16>()[row * 64 + k])} *
             to_float(numbers_.data<bf16>()[(64 + column) * 64 + k]);
    return sum;
  }

  const Tensor numbers_ = random_tensor({192, 64}, DType::kBF16, 1);
  const OnDevice in_{numbers_}, out_{{64, 128}, DType::kF32};
};

TEST(EmulatedStagingTest, WhoeverDoesNotWaitFindsOut) {
  Tensor on_device = random_tensor({kThreads}, DType::kF32, 1).to(Device::kCuda);
  kernels::StagingBuffer staged(on_device.bytes());
  auto* first = reinterpret_cast<float*>(staged.data());
  *first = 1;
  staged.copy_to_device(on_device);
  *first = 2;
  try {
    staged.wait();
    ADD_FAILURE() << "the copy was given another number on its way";
  } catch (const std::runtime_error& error) {
    EXPECT_THAT(error.what(), HasSubstr("the host wrote what was still to be copied"));
  }
  staged.copy_to_host(on_device);
  EXPECT_TRUE(std::isnan(*first));
  staged.wait();
  EXPECT_EQ(*first, 1);
}

TEST_F(EmulatedWgmmaTest, ASoundProductIsThatOfItsRows) {
  for_each_order([&] {
    const Tensor out = multiply(Fault::kNone);
    for (int64_t i = 0; i < out.numel(); ++i)
      ASSERT_EQ(out.data<float>()[i], static_cast<float>(expected(i / 128, i % 128))) << i;
  });
}

TEST_F(EmulatedWgmmaTest, SumsAreThereWhenTheyAreWaitedFor) {
  for_each_order([&] {
    const Tensor early = multiply(Fault::kReadsBeforeWait);
    for (int64_t i = 0; i < early.numel(); ++i) ASSERT_EQ(early.data<float>()[i], 0.0f) << i;
    EXPECT_THAT(error_of(Fault::kNeverWaits), HasSubstr("products that it never waited for"));
  });
}

TEST_F(EmulatedWgmmaTest, OperandsAreReadUntilTheProductIsWaitedFor) {
  if (simt::sanitizer() == simt::Sanitizer::kThread) {
    EXPECT_DEATH(multiply(Fault::kCopiesOverReads), "data race");
    return;
  }
  for_each_order([&] {
    const Tensor out = multiply(Fault::kCopiesOverReads);
    EXPECT_TRUE(std::isnan(out.data<float>()[0]));
  });
}

TEST_F(EmulatedWgmmaTest, WarpsThatDoNotAskTogetherAreErrors) {
  for_each_order([&] {
    EXPECT_THAT(error_of(Fault::kWarpsDiffer), HasSubstr("the warps of a warpgroup differ"));
    EXPECT_THAT(error_of(Fault::kWarpAsksForLess), HasSubstr("fewer products than others"));
  });
}

TEST_F(EmulatedWgmmaTest, MissingFencesAreErrorsThatNameTheLine) {
  for_each_order([&] {
    const std::string error = error_of(Fault::kNoFenceForWgmma);
    EXPECT_THAT(error, HasSubstr("without fence_for_wgmma"));
    EXPECT_THAT(error, HasSubstr("planted_faults.cu:"));
    EXPECT_THAT(error_of(Fault::kNoFenceOfSums), HasSubstr("without wgmma_fence"));
  });
}

}  // namespace
}  // namespace moerl::testing
