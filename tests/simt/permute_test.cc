#include "kernels/moe/permute.h"

#include "kernels/moe/permute_impl.h"
#include "tests/simt/on_device.h"

namespace moerl::kernels {
namespace {

using testing::ArrayOnDevice;
using testing::for_each_order;
using testing::OnDevice;
using testing::random_tensor;

constexpr int64_t kExperts = 7, kTopk = 3;

/// Distinct experts of a token, some experts without any.
Tensor choose_experts(int64_t tokens) {
  std::vector<int32_t> experts;
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t k = 0; k < kTopk; ++k)
      experts.push_back(static_cast<int32_t>((t * t + 2 * k) % (kExperts - 1)));
  return Tensor::from<int32_t>({tokens, kTopk}, experts);
}

// 131 tokens have more slots than a block sorts at a time.
TEST(SortByExpertCudaTest, EqualsTheCpu) {
  for (int64_t tokens : {0, 1, 131}) {
    ExecContext cpu(1);
    const Tensor topk_idx = choose_experts(tokens);
    const ExpertRows rows = sort_by_expert(cpu, topk_idx, kExperts);
    for_each_order([&] {
      const int64_t slots = topk_idx.numel();
      const OnDevice topk_idx_(topk_idx), slot_of_row_({slots}, DType::kI32),
          row_of_slot_({slots}, DType::kI32);
      const ArrayOnDevice<int64_t> offsets_(std::vector<int64_t>(kExperts + 1, -1));
      cuda_ops<PermuteCuda>().sort(topk_idx_.data<int32_t>(), slots, kExperts, offsets_.data(),
                                   slot_of_row_.data<int32_t>(), row_of_slot_.data<int32_t>());
      EXPECT_EQ(offsets_.to_host(), testing::to_vector<int64_t>(rows.offsets));
      EXPECT_BITS(slot_of_row_, rows.slot_of_row);
      EXPECT_BITS(row_of_slot_, rows.row_of_slot);
    });
  }
}

class PermuteCudaTest : public ::testing::TestWithParam<std::tuple<DType, int64_t, int64_t>> {};

TEST_P(PermuteCudaTest, HasTheBitsOfTheCpu) {
  const auto [dtype, tokens, dim] = GetParam();
  ExecContext cpu(1);
  const ExpertRows rows = sort_by_expert(cpu, choose_experts(tokens), kExperts);
  const Shape by_token = {tokens, dim}, by_row = {tokens * kTopk, dim};
  const Tensor x = random_tensor(by_token, dtype, 1), z = random_tensor(by_row, dtype, 2);
  const Tensor shared = random_tensor(by_token, dtype, 3);
  const Tensor weights = random_tensor({tokens, kTopk}, DType::kF32, 4);

  Tensor expanded = cpu.empty(by_row, dtype), reduced = cpu.empty(by_token, dtype);
  Tensor reduced_alone = cpu.empty(by_token, dtype), dx = cpu.empty(by_token, dtype);
  Tensor dx_added = shared.clone(), drow = cpu.empty(by_row, dtype);
  Tensor dweights = cpu.empty(weights.shape(), DType::kF32);
  expand_forward(cpu, x, rows, kTopk, expanded);
  expand_backward(cpu, z, rows, kTopk, dx);
  expand_backward(cpu, z, rows, kTopk, dx_added, Write::kAccumulate);
  reduce_forward(cpu, z, weights, rows, &shared, reduced);
  reduce_forward(cpu, z, weights, rows, nullptr, reduced_alone);
  reduce_backward(cpu, x, z, weights, rows, drow, dweights);

  for_each_order([&, dtype = dtype, tokens = tokens, dim = dim] {
    const OnDevice x_(x), z_(z), shared_(shared), weights_(weights);
    const ArrayOnDevice<int32_t> row_of_slot_(testing::to_vector<int32_t>(rows.row_of_slot));
    const OnDevice expanded_(by_row, dtype), reduced_(by_token, dtype), alone_(by_token, dtype);
    const OnDevice dx_(by_token, dtype), added_(shared), drow_(by_row, dtype);
    const OnDevice dweights_(weights.shape(), DType::kF32);
    const PermuteCuda& ops = cuda_ops<PermuteCuda>();
    PermuteArgs args;
    args.is_bf16 = dtype == DType::kBF16;
    args.num_topk = kTopk;
    args.dim = dim;
    args.row_of_slot = row_of_slot_.data();
    args.weights = weights_.data();
    args.by_token = x_.raw();
    args.by_row = z_.raw();
    args.dweights = dweights_.data();

    args.row_out = expanded_.raw();
    ops.expand(args, tokens);
    EXPECT_BITS(expanded_, expanded);
    args.row_out = drow_.raw();
    ops.reduce_backward(args, tokens);
    EXPECT_BITS(drow_, drow);
    EXPECT_BITS(dweights_, dweights);
    args.token_out = dx_.raw();
    ops.expand_backward(args, tokens);
    EXPECT_BITS(dx_, dx);
    args.token_out = alone_.raw();
    ops.reduce(args, tokens);
    EXPECT_BITS(alone_, reduced_alone);
    args.shared = shared_.raw();
    args.token_out = reduced_.raw();
    ops.reduce(args, tokens);
    EXPECT_BITS(reduced_, reduced);
    args.accumulate = true;
    args.token_out = added_.raw();
    ops.expand_backward(args, tokens);
    EXPECT_BITS(added_, dx_added);
  });
}

INSTANTIATE_TEST_SUITE_P(Shapes, PermuteCudaTest,
                         ::testing::Combine(::testing::Values(DType::kF32, DType::kBF16),
                                            ::testing::Values(0, 1, 9),
                                            ::testing::Values(1, 37, 130)));

}  // namespace
}  // namespace moerl::kernels
