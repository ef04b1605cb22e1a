#include "policy/parallel/device_of_rank.h"

#include <gtest/gtest.h>

#include <set>

#include "common/error.h"
#include "tests/testing/thread_ranks.h"

namespace moerl {
namespace {

TEST(DeviceOfRankTest, EachRankOfAMachineHasANumber) {
  std::mutex mutex;
  std::set<int> numbers;
  testing::ThreadRanks::run(3, [&](Communicator& comm) {
    const int number = rank_on_machine(comm);
    EXPECT_EQ(number, comm.rank());
    std::lock_guard lock(mutex);
    numbers.insert(number);
  });
  EXPECT_EQ(numbers, (std::set<int>{0, 1, 2}));
}

TEST(DeviceOfRankTest, EachSeesOneDevice) {
  EXPECT_EQ(device_of_rank(nullptr, 3), "3");
  EXPECT_EQ(device_of_rank("4,6,GPU-1a2b", 1), "6");
  EXPECT_EQ(device_of_rank("4,6,GPU-1a2b", 2), "GPU-1a2b");
  EXPECT_EQ(device_of_rank("5", 2), "5") << "the launcher gave each rank its own";
  EXPECT_EQ(device_of_rank("", 1), "") << "no device is to be seen";
}

TEST(DeviceOfRankTest, MoreRanksThanDevicesAreRefused) {
  try {
    device_of_rank("0,1", 2);
    FAIL() << "nothing was thrown";
  } catch (const ConfigError& error) {
    EXPECT_STREQ(error.what(),
                 "CUDA_VISIBLE_DEVICES is 0,1, expected a device for each of at least 3 ranks on "
                 "this machine");
  }
}

}  // namespace
}  // namespace moerl
