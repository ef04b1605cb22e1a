#include "kernels/gemm/linear.h"

#include <cmath>
#include <memory>

#include "tests/simt/linear_problem.h"

namespace moerl::kernels {
namespace {

using testing::absolute;
using testing::ArrayOnDevice;
using testing::expect_near;
using testing::for_each_order;
using testing::matrix;
using testing::OnDevice;
using testing::product;
using testing::random_tensor;
using testing::same_bits;
using testing::to_doubles;
using Problem = testing::LinearProblem;

/// y = x W^T, or x W.
Tensor multiply(const Tensor& x, const Tensor& w, bool transposed, const Tensor& before,
                Write write = Write::kOverwrite) {
  const OnDevice x_(x), w_(w), y_(before);
  LinearCudaProduct args = product(x_, x, w_, y_, before);
  args.accumulate = write == Write::kAccumulate;
  const LinearCuda& ops = cuda_ops<LinearCuda>();
  transposed ? ops.dgrad(args) : ops.forward(args);
  return y_.to_host();
}

Tensor wgrad(const Tensor& dy, const Tensor& x, const Tensor& before) {
  const OnDevice dy_(dy), x_(x), dweight_(before);
  cuda_ops<LinearCuda>().wgrad({.dtype = x.dtype(),
                                .tokens = x.dim(0),
                                .rows = dy.dim(1),
                                .columns = x.dim(1),
                                .dy = dy_.raw(),
                                .x = x_.raw(),
                                .dweight = dweight_.data(),
                                .dweights = nullptr,
                                .groups = {}});
  return dweight_.to_host();
}

class LinearCudaTest : public ::testing::TestWithParam<std::tuple<DType, std::array<int64_t, 3>>> {
};

TEST_P(LinearCudaTest, ForwardEqualsTheReference) {
  const auto [dtype, sizes] = GetParam();
  const auto [tokens, out, in] = sizes;
  const Problem p(dtype, tokens, out, in);
  const auto x = matrix(p.x), w = matrix(p.w);
  for_each_order([&, dtype = dtype, tokens = tokens, out = out] {
    for (DType y_dtype : {DType::kF32, dtype})
      expect_near(multiply(p.x, p.w, false, random_tensor({tokens, out}, y_dtype, 4)),
                  ref::linear_forward(x, w), ref::linear_forward(absolute(x), absolute(w)),
                  x.columns);
  });
}

TEST_P(LinearCudaTest, DgradEqualsTheReferenceAndAccumulates) {
  const auto [dtype, sizes] = GetParam();
  const auto [tokens, out, in] = sizes;
  const Problem p(dtype, tokens, out, in);
  const auto dy = matrix(p.dy), w = matrix(p.w);
  const Tensor before = random_tensor({tokens, in}, dtype, 4);
  auto sum = ref::linear_dgrad(dy, w), magnitude = ref::linear_dgrad(absolute(dy), absolute(w));
  for_each_order(
      [&] { expect_near(multiply(p.dy, p.w, true, before), sum, magnitude, dy.columns); });
  const std::vector<double> added = to_doubles(before);
  for (size_t i = 0; i < added.size(); ++i) sum.values[i] += added[i];
  expect_near(multiply(p.dy, p.w, true, before, Write::kAccumulate), sum, magnitude, dy.columns);
}

TEST_P(LinearCudaTest, WgradAddsTheReference) {
  const auto [dtype, sizes] = GetParam();
  const auto [tokens, out, in] = sizes;
  const Problem p(dtype, tokens, out, in);
  const Tensor before = random_tensor({out, in}, DType::kF32, 4);
  auto sum = ref::linear_wgrad(matrix(p.dy), matrix(p.x));
  auto magnitude = ref::linear_wgrad(absolute(matrix(p.dy)), absolute(matrix(p.x)));
  const std::vector<double> added = to_doubles(before);
  for (size_t i = 0; i < added.size(); ++i) {
    sum.values[i] += added[i];
    magnitude.values[i] += std::fabs(added[i]);
  }
  for_each_order([&] {
    expect_near(wgrad(p.dy, p.x, before), sum, magnitude, static_cast<size_t>(p.x.dim(0)));
  });
}

// Tokens, outputs, inputs: one of each; tails of every tile; rows that are no multiple of 16 bytes;
// both sizes of tile; several stages.
INSTANTIATE_TEST_SUITE_P(Shapes, LinearCudaTest,
                         ::testing::Combine(::testing::Values(DType::kF32, DType::kBF16),
                                            ::testing::ValuesIn(std::vector<std::array<int64_t, 3>>{
                                                {0, 8, 8},
                                                {1, 1, 1},
                                                {5, 72, 136},
                                                {16, 64, 32},
                                                {70, 33, 41},
                                                {65, 136, 72}})));

TEST(LinearCudaTest, Fp32HasTheBitsOfTheCpu) {
  const Problem p(DType::kF32, 70, 66, 37);
  ExecContext cpu(1);
  PackedWeight packed;
  pack_weight(cpu, p.w, DType::kF32, true, packed);
  Tensor y = cpu.empty(p.dy.shape(), DType::kF32), dx = cpu.empty(p.x.shape(), DType::kF32);
  Tensor dweight = random_tensor(p.w.shape(), DType::kF32, 4);
  const Tensor before = dweight.clone();
  linear_forward(cpu, p.x, packed, y);
  linear_dgrad(cpu, p.dy, packed, dx);
  linear_wgrad(cpu, p.dy, p.x, dweight);
  for_each_order([&] {
    EXPECT_TRUE(same_bits(multiply(p.x, p.w, false, p.dy), y));
    EXPECT_TRUE(same_bits(multiply(p.dy, p.w, true, p.x), dx));
    EXPECT_TRUE(same_bits(wgrad(p.dy, p.x, before), dweight));
  });
}

// One row is served by tiles of 16 rows, ninety by tiles of 64.
TEST(LinearCudaTest, ARowHasTheSameBitsAloneAndInABatch) {
  for_each_order([&] {
    for (DType dtype : {DType::kF32, DType::kBF16})
      for (bool transposed : {false, true}) {
        const Problem p(dtype, 90, transposed ? 104 : 72, transposed ? 72 : 104);
        const Tensor& x = transposed ? p.dy : p.x;
        const Tensor y = multiply(x, p.w, transposed, random_tensor({90, 72}, dtype, 4));
        for (int64_t row : {int64_t{0}, int64_t{63}, int64_t{64}, int64_t{89}}) {
          const Tensor alone = multiply(x.rows(row, row + 1).clone(), p.w, transposed,
                                        random_tensor({1, 72}, dtype, 5));
          EXPECT_TRUE(same_bits(alone, y.rows(row, row + 1))) << row;
        }
      }
  });
}

TEST(LinearCudaTest, WgradOfTwoCallsEqualsOneCall) {
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const Problem p(dtype, 80, 24, 40);
    const Tensor before = random_tensor(p.w.shape(), DType::kF32, 4);
    const Tensor first = wgrad(p.dy.rows(0, 32).clone(), p.x.rows(0, 32).clone(), before);
    EXPECT_TRUE(same_bits(wgrad(p.dy.rows(32, 80).clone(), p.x.rows(32, 80).clone(), first),
                          wgrad(p.dy, p.x, before)));
  }
}

/// @param even  the device is told the size of a group in place of the offsets.
void expect_products_of_their_own(const std::vector<int64_t>& offsets, bool even) {
  const size_t count = offsets.size() - 1;
  for (DType dtype : {DType::kF32, DType::kBF16}) {
    const Problem p(dtype, 90, 40, 72);
    std::vector<Tensor> weights, dweights;
    std::vector<std::unique_ptr<OnDevice>> weights_, dweights_;
    std::vector<const void*> weight_pointers;
    std::vector<float*> dweight_pointers;
    for (size_t g = 0; g < count; ++g) {
      weights.push_back(random_tensor({40, 72}, dtype, 10 + g));
      dweights.push_back(random_tensor({40, 72}, DType::kF32, 20 + g));
      weight_pointers.push_back(
          weights_.emplace_back(std::make_unique<OnDevice>(weights[g]))->raw());
    }
    const ArrayOnDevice<int64_t> offsets_(offsets);
    const ArrayOnDevice<const void*> pointers_(weight_pointers);
    const LinearGroups groups{.count = static_cast<int64_t>(count),
                              .offsets = even ? nullptr : offsets_.data(),
                              .rows_each = offsets[1],
                              .weights = pointers_.data()};
    const OnDevice x_(p.x), dy_(p.dy), nothing(Tensor::zeros({1}, DType::kF32));
    for_each_order([&] {
      const OnDevice y_(p.dy.shape(), dtype), dx_(p.x.shape(), dtype);
      LinearCudaProduct forward = product(x_, p.x, nothing, y_, p.dy);
      LinearCudaProduct dgrad = product(dy_, p.dy, nothing, dx_, p.x);
      forward.weight = dgrad.weight = nullptr;
      forward.groups = dgrad.groups = groups;
      cuda_ops<LinearCuda>().forward(forward);
      cuda_ops<LinearCuda>().dgrad(dgrad);
      dweights_.clear();
      dweight_pointers.clear();
      for (const Tensor& dweight : dweights)
        dweight_pointers.push_back(
            dweights_.emplace_back(std::make_unique<OnDevice>(dweight))->data());
      const ArrayOnDevice<float*> dweight_pointers_(dweight_pointers);
      cuda_ops<LinearCuda>().wgrad(
          {dtype, 90, 40, 72, dy_.raw(), x_.raw(), nullptr, dweight_pointers_.data(), groups});
      const Tensor y = y_.to_host(), dx = dx_.to_host();
      for (size_t g = 0; g < count; ++g) {
        const Tensor x = p.x.rows(offsets[g], offsets[g + 1]).clone();
        const Tensor dy = p.dy.rows(offsets[g], offsets[g + 1]).clone();
        EXPECT_TRUE(
            same_bits(y.rows(offsets[g], offsets[g + 1]), multiply(x, weights[g], false, dy)));
        EXPECT_TRUE(
            same_bits(dx.rows(offsets[g], offsets[g + 1]), multiply(dy, weights[g], true, x)));
        EXPECT_TRUE(same_bits(dweights_[g]->to_host(), wgrad(dy, x, dweights[g])));
      }
    });
  }
}

// Groups of no row, of one, of more than one tile.
TEST(LinearCudaTest, GroupsEqualProductsOfTheirOwn) {
  for_each_order([&] { expect_products_of_their_own({0, 0, 1, 71, 90, 90}, false); });
}
TEST(LinearCudaTest, EvenGroupsEqualProductsOfTheirOwn) {
  for_each_order([&] {
    expect_products_of_their_own({0, 18, 36, 54, 72, 90}, true);
    expect_products_of_their_own({0, 90}, true);
  });
}

}  // namespace
}  // namespace moerl::kernels
