#include "kernels/cuda/graph.h"

#include <memory>
#include <string>

#include "kernels/list.h"
#include "kernels/norm/elementwise.h"
#include "tests/simt/on_device.h"

namespace moerl::kernels {
namespace {

using testing::random_tensor;
using testing::same_bits;

/// Sums on the device, and what became of them.
class CudaGraphTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (IsSkipped()) return;  // no GPU
    device_ = std::make_unique<ExecContext>(1, detect_isa(), Device::kCuda);
    x_ = values(1);
    sum_ = values(2);
    pool_ = std::make_shared<MemoryPool>();
  }
  Tensor values(uint64_t seed) const {
    return random_tensor({300}, DType::kF32, seed).to(Device::kCuda);
  }
  /// The rejected work's complaint.
  std::string refused(const std::function<void()>& work) const {
    try {
      const CudaGraph graph(pool_, work);
    } catch (const std::runtime_error& error) {
      return error.what();
    }
    return "";
  }
  Tensor plus(const Tensor& a, const Tensor& b) {
    ExecContext cpu(1);
    Tensor sum = a.to(Device::kCpu).clone();
    add_inplace(cpu, b.to(Device::kCpu), sum);
    return sum;
  }

  std::unique_ptr<ExecContext> device_;
  std::shared_ptr<MemoryPool> pool_;
  Tensor x_, sum_;
};

TEST_F(CudaGraphTest, RunsAtEveryLaunchAndNotBefore) {
  const Tensor before = sum_.to(Device::kCpu);
  const CudaGraph graph(pool_, [&] { add_inplace(*device_, x_, sum_); });
  EXPECT_TRUE(same_bits(sum_.to(Device::kCpu), before));
  graph.launch();
  const Tensor once = plus(before, x_);
  EXPECT_TRUE(same_bits(sum_.to(Device::kCpu), once));
  graph.launch();
  EXPECT_TRUE(same_bits(sum_.to(Device::kCpu), plus(once, x_)));
}

// Zeroing, a copy and a kernel, in their order, on what the device holds at the launch.
TEST_F(CudaGraphTest, ReadsWhatItsInputsHoldAtTheLaunch) {
  const CudaGraph graph(pool_, [&] {
    sum_.fill_zero();
    const Tensor copy = x_.clone();
    add_inplace(*device_, copy, sum_);
    add_inplace(*device_, copy, sum_);
  });
  for (uint64_t seed : {3, 4}) {
    const Tensor input = values(seed);
    x_.copy_from(input);
    graph.launch();
    EXPECT_TRUE(same_bits(sum_.to(Device::kCpu), plus(input, input)));
  }
}

// The graph writes into `copy` after its tensor has gone, and into nothing of others.
TEST_F(CudaGraphTest, KeepsTheMemoryThatItWorksIn) {
  const CudaGraph graph(pool_, [&] {
    const Tensor copy = x_.clone();
    sum_.copy_from(copy);
  });
  EXPECT_GE(pool_->bytes(), x_.bytes());
  std::vector<Tensor> others;
  for (uint64_t i = 0; i < 20; ++i) others.push_back(values(10 + i));
  graph.launch();
  for (uint64_t i = 0; i < 20; ++i)
    EXPECT_TRUE(same_bits(others[i].to(Device::kCpu), random_tensor({300}, DType::kF32, 10 + i)));
  EXPECT_TRUE(same_bits(sum_.to(Device::kCpu), x_.to(Device::kCpu)));
}

TEST_F(CudaGraphTest, GraphsThatShareAPoolRunOneAfterTheOther) {
  pool_ = std::make_shared<MemoryPool>(true);
  Tensor other = values(5);
  const CudaGraph first(pool_, [&] {
    const Tensor copy = x_.clone();
    add_inplace(*device_, copy, sum_);
  });
  const int64_t bytes = pool_->bytes();
  const CudaGraph second(pool_, [&] {
    const Tensor copy = x_.rows(0, 100).clone();
    other.rows(0, 100).copy_from(copy);
  });
  EXPECT_EQ(pool_->bytes(), bytes);
  const Tensor expected = plus(sum_, x_);
  first.launch();
  second.launch();
  EXPECT_TRUE(same_bits(sum_.to(Device::kCpu), expected));
  EXPECT_TRUE(same_bits(other.rows(0, 100).to(Device::kCpu), x_.rows(0, 100).to(Device::kCpu)));
}

TEST_F(CudaGraphTest, RefusesWhatDependsOnTheHost) {
  Tensor host = random_tensor({300}, DType::kF32, 6);
  EXPECT_NE(refused([&] {
              x_.copy_from(host);
            }).find("copy from the host of 1200 bytes while a CUDA graph is captured"),
            std::string::npos);
  EXPECT_NE(refused([&] { host.copy_from(x_); }).find("copy to the host"), std::string::npos);
  EXPECT_NE(refused([] { device_memory().synchronize(); }).find("wait for the device"),
            std::string::npos);
  EXPECT_NE(refused([&] { upload(*device_, std::span<const float>(host.data<float>(), 3)); }), "");
  // And the next one is captured as if nothing had been.
  const Tensor expected = plus(sum_, x_);
  const CudaGraph graph(pool_, [&] { add_inplace(*device_, x_, sum_); });
  graph.launch();
  EXPECT_TRUE(same_bits(sum_.to(Device::kCpu), expected));
}

TEST_F(CudaGraphTest, PassesOnWhatItsWorkThrows) {
  EXPECT_EQ(refused([] { throw std::runtime_error("in vain"); }), "in vain");
}

}  // namespace
}  // namespace moerl::kernels
