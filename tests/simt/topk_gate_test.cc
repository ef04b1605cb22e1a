#include "kernels/moe/topk_gate.h"

#include "kernels/moe/topk_gate_impl.h"
#include "tests/simt/on_device.h"

namespace moerl::kernels {
namespace {

using testing::ArrayOnDevice;
using testing::for_each_order;
using testing::OnDevice;
using testing::random_tensor;

/// Logits in steps of 1/4, so that ties are frequent, in groups too.
Tensor logits_with_ties(int64_t rows, int64_t experts) {
  Tensor logits = random_tensor({rows, experts}, DType::kF32, 1, -3, 3);
  for (int64_t i = 0; i < logits.numel(); ++i)
    logits.data<float>()[i] = std::round(4 * logits.data<float>()[i]) / 4;
  return logits;
}

class TopkGateCudaTest : public ::testing::TestWithParam<GateConfig> {};

TEST_P(TopkGateCudaTest, HasTheBitsOfTheCpu) {
  const GateConfig c = GetParam();
  ExecContext cpu(1);
  for (int64_t rows : {0, 1, 9}) {
    const Shape all = {rows, c.n_routed_experts}, chosen = {rows, c.num_experts_per_tok};
    const Tensor logits = logits_with_ties(rows, c.n_routed_experts);
    const Tensor bias = random_tensor({c.n_routed_experts}, DType::kF32, 2, -0.2f, 0.2f);
    const Tensor dweights = random_tensor(chosen, DType::kF32, 3);
    const Tensor extra = random_tensor(all, DType::kF32, 4);
    for (bool with_extras : {false, true}) {
      Tensor scores = cpu.empty(all, DType::kF32), weights = cpu.empty(chosen, DType::kF32);
      Tensor idx = cpu.empty(chosen, DType::kI32), dlogits = cpu.empty(all, DType::kF32);
      topk_gate_forward(cpu, logits, with_extras ? &bias : nullptr, c, scores, idx, weights);
      topk_gate_backward(cpu, scores, idx, c, dweights, with_extras ? &extra : nullptr, dlogits);
      for_each_order([&] {
        const OnDevice logits_(logits), bias_(bias), dweights_(dweights), extra_(extra);
        const OnDevice scores_(all, DType::kF32), weights_(chosen, DType::kF32);
        const OnDevice idx_(chosen, DType::kI32), dlogits_(all, DType::kF32);
        const TopkGateCuda& ops = cuda_ops<TopkGateCuda>();
        ops.forward({c, logits_.data(), with_extras ? bias_.data() : nullptr, scores_.data(),
                     idx_.data<int32_t>(), weights_.data()},
                    rows);
        EXPECT_BITS(scores_, scores);
        EXPECT_BITS(idx_, idx);
        EXPECT_BITS(weights_, weights);
        ops.backward({c, scores_.data(), idx_.data<int32_t>(), dweights_.data(),
                      with_extras ? extra_.data() : nullptr, dlogits_.data()},
                     rows);
        EXPECT_BITS(dlogits_, dlogits);
      });
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Configs, TopkGateCudaTest,
    ::testing::Values(
        GateConfig{.n_routed_experts = 1, .num_experts_per_tok = 1},
        GateConfig{.n_routed_experts = 70,
                   .num_experts_per_tok = 6,
                   .norm_topk_prob = false,
                   .routed_scaling_factor = 2.5f},
        GateConfig{.n_routed_experts = 64,
                   .num_experts_per_tok = 8,
                   .n_group = 8,
                   .topk_group = 4,
                   .routed_scaling_factor = 2.5f},
        GateConfig{
            .n_routed_experts = 12, .num_experts_per_tok = 2, .n_group = 12, .topk_group = 5},
        GateConfig{
            .n_routed_experts = 130, .num_experts_per_tok = 4, .scoring = GateScoring::kSoftmax},
        GateConfig{.n_routed_experts = 40,
                   .num_experts_per_tok = 6,
                   .n_group = 8,
                   .topk_group = 3,
                   .norm_topk_prob = false,
                   .scoring = GateScoring::kSoftmax,
                   .group_worth = GroupWorth::kMax}));

// 150 rows are more than one partial sum.
TEST(BalanceLossCudaTest, HasTheBitsOfTheCpu) {
  ExecContext cpu(1);
  const int64_t rows = 160, experts = 11, k = 2;
  const Tensor scores = random_tensor({rows, experts}, DType::kF32, 1, 0.01f, 1);
  const Tensor before = random_tensor({rows, experts}, DType::kF32, 2);
  std::vector<int32_t> chosen;
  for (int64_t i = 0; i < rows * k; ++i)
    chosen.push_back(static_cast<int32_t>(i * i % (experts - 1)));
  const Tensor idx = Tensor::from<int32_t>({rows, k}, chosen);
  for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{7, 157}, {3, 4}, {5, 5}}) {
    Tensor dscores = before.clone();
    const double loss = sequence_balance_loss(cpu, scores, idx, begin, end, 0.01, &dscores);
    for_each_order([&, begin = begin, end = end] {
      const OnDevice scores_(scores), idx_(idx), dscores_(before);
      const ArrayOnDevice<double> loss_({-1.0}), load_{std::vector<double>(experts)},
          inverse_{std::vector<double>(rows)};
      BalanceLossCuda args{experts,
                           k,
                           begin,
                           end,
                           0.01,
                           scores_.data(),
                           idx_.data<int32_t>(),
                           dscores_.data(),
                           loss_.data(),
                           load_.data(),
                           inverse_.data()};
      cuda_ops<TopkGateCuda>().balance_loss(args);
      EXPECT_EQ(loss_.to_host()[0], loss);
      EXPECT_BITS(dscores_, dscores);
      args.dscores = nullptr;
      cuda_ops<TopkGateCuda>().balance_loss(args);
      EXPECT_EQ(loss_.to_host()[0], loss);
      EXPECT_BITS(dscores_, dscores);
    });
  }
}

}  // namespace
}  // namespace moerl::kernels
