// Run by the GPU's program only: the emulator has no NCCL.
#include <gtest/gtest.h>

#include <filesystem>

#include "policy/parallel/collectives.h"
#include "policy/parallel/communicator_loader.h"
#include "tests/simt/on_device.h"

namespace moerl::testing {
namespace {

namespace fs = std::filesystem;

class NcclTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (IsSkipped()) return;  // no GPU
    const fs::path directory = fs::read_symlink("/proc/self/exe").parent_path();
    if (!fs::exists(directory / kNcclLibrary)) GTEST_SKIP() << "no " << kNcclLibrary << " here";
    comm_ = open_nccl(directory, single_process(), 60);
  }
  std::unique_ptr<Communicator> comm_;
};

// A machine with one GPU can have one rank: it sends to itself.
TEST_F(NcclTest, ARankAloneReceivesWhatItSends) {
  ASSERT_EQ(comm_->size(), 1);
  for (int64_t n : {1, 1000, 1 << 20}) {
    const Tensor values = random_tensor({n}, DType::kF32, static_cast<uint64_t>(n));
    const OnDevice sent(values), received(values.shape(), DType::kF32);
    const auto bytes = static_cast<size_t>(values.bytes());
    const std::span<const std::byte> send(static_cast<const std::byte*>(sent.raw()), bytes);
    const std::span<std::byte> receive(static_cast<std::byte*>(received.raw()), bytes);
    comm_->all_to_all_v({&send, 1}, {&receive, 1});
    EXPECT_TRUE(same_bits(received.to_host(), values)) << n;
  }
}

TEST_F(NcclTest, NothingIsSentWhereThereIsNothing) {
  const std::span<const std::byte> send;
  const std::span<std::byte> receive;
  comm_->all_to_all_v({&send, 1}, {&receive, 1});
}

}  // namespace
}  // namespace moerl::testing
