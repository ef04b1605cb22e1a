#include "kernels/optim/adamw.h"

#include <memory>

#include "kernels/optim/adamw_impl.h"
#include "tests/simt/on_device.h"

namespace moerl::kernels {
namespace {

using testing::ArrayOnDevice;
using testing::for_each_order;
using testing::OnDevice;
using testing::random_tensor;

// Runs of a partial block, of several, of none, with and without decay, in one launch.
const std::vector<int64_t> kCounts = {300, 2 * kSumBlock + 5, 0, 1, kSumBlock};

int64_t blocks_of(int64_t count) { return (count + kSumBlock - 1) / kSumBlock; }

TEST(AdamWCudaTest, UpdateHasTheBitsOfTheCpu) {
  ExecContext cpu(1);
  const AdamWStep step{.lr = 0.01f,
                       .weight_decay = 0.1f,
                       .bias_correction1 = 0.1f,
                       .bias_correction2 = 0.05f,
                       .grad_scale = 0.3f};
  std::vector<AdamWRun> runs, expected;
  for (int64_t count : kCounts) {
    const auto seed = static_cast<uint64_t>(10 * runs.size());
    runs.push_back({random_tensor({count}, DType::kF32, seed + 1),
                    random_tensor({count}, DType::kF32, seed + 2),
                    random_tensor({count}, DType::kF32, seed + 3),
                    random_tensor({count}, DType::kF32, seed + 4, 0, 1), runs.size() % 2 == 0});
    const AdamWRun& run = runs.back();
    expected.push_back({run.grad, run.weight.clone(), run.m.clone(), run.v.clone(), run.decays});
  }
  adamw(cpu, step, expected);
  for_each_order([&] {
    struct RunOnDevice {
      OnDevice grad, weight, m, v;
      explicit RunOnDevice(const AdamWRun& r) : grad(r.grad), weight(r.weight), m(r.m), v(r.v) {}
    };
    std::vector<std::unique_ptr<RunOnDevice>> on_device;
    std::vector<AdamWRunCuda> table;
    int64_t blocks = 0;
    for (const AdamWRun& run : runs) {
      const RunOnDevice& d = *on_device.emplace_back(std::make_unique<RunOnDevice>(run));
      table.push_back({d.grad.data(), d.weight.data(), d.m.data(), d.v.data(), run.grad.numel(),
                       blocks, run.decays ? step.weight_decay : 0.0f, 0.0f});
      blocks += blocks_of(run.grad.numel());
    }
    const ArrayOnDevice<AdamWRunCuda> table_(table);
    cuda_ops<AdamWCuda>().update(step, table_.data(), static_cast<int64_t>(table.size()), blocks);
    for (size_t i = 0; i < runs.size(); ++i) {
      EXPECT_BITS(on_device[i]->weight, expected[i].weight);
      EXPECT_BITS(on_device[i]->m, expected[i].m);
      EXPECT_BITS(on_device[i]->v, expected[i].v);
    }
  });
}

// Blocks that are partial, and more than one device block's share of them.
TEST(AdamWCudaTest, BlockSquaresHaveTheBitsOfTheCpu) {
  ExecContext cpu(1);
  for (const std::vector<int64_t>& counts :
       {std::vector<int64_t>{}, {0}, {37}, {1, 17 * kSumBlock + 5, 0, 300}}) {
    std::vector<Tensor> grads;
    for (int64_t count : counts) grads.push_back(random_tensor({count}, DType::kF32, grads.size()));
    const std::vector<double> expected = block_squares(cpu, grads);
    for_each_order([&] {
      std::vector<std::unique_ptr<OnDevice>> on_device;
      std::vector<SquaresRunCuda> table;
      int64_t blocks = 0;
      for (const Tensor& grad : grads) {
        on_device.push_back(std::make_unique<OnDevice>(grad));
        table.push_back({on_device.back()->data(), grad.numel(), blocks});
        blocks += blocks_of(grad.numel());
      }
      const ArrayOnDevice<SquaresRunCuda> table_(table);
      const ArrayOnDevice<double> sums_(std::vector<double>(static_cast<size_t>(blocks), -1));
      cuda_ops<AdamWCuda>().block_squares(table_.data(), static_cast<int64_t>(table.size()), blocks,
                                          sums_.data());
      EXPECT_EQ(sums_.to_host(), expected);
    });
  }
}

}  // namespace
}  // namespace moerl::kernels
