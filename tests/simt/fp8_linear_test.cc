#include "kernels/gemm/fp8_linear.h"

#include <cmath>
#include <optional>

#include "tests/kernels/gemm/fp8_problem.h"
#include "tests/simt/on_device.h"

namespace moerl::kernels {
namespace {

using testing::expect_near_product;
using testing::for_each_order;
using testing::fp8_codes;
using testing::packed_fp8;
using testing::random_tensor;
using testing::uneven_tensor;

/// Compares a tensor of the device with one of the host.
bool same_bits(const Tensor& a, const Tensor& b) {
  return testing::same_bits(a.to(Device::kCpu), b.to(Device::kCpu));
}

class Fp8CudaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (IsSkipped()) return;  // no GPU
    device_.emplace(1, detect_isa(), Device::kCuda);
  }
  ExecContext& ctx() { return *device_; }

  ExecContext cpu_{1};
  std::optional<ExecContext> device_;

  Tensor random(const Shape& shape, DType dtype, uint64_t seed) const {
    return random_tensor(shape, dtype, seed).to(Device::kCuda);
  }
};

TEST_F(Fp8CudaTest, QuantisingHasTheBitsOfTheCpu) {
  for (const Shape& shape : {Shape{1, 16}, Shape{3, 145}, Shape{131, 272}, Shape{142, 1}}) {
    for (DType dtype : {DType::kF32, DType::kBF16}) {
      Tensor x = uneven_tensor(shape, dtype, 1);
      x.rows(0, 1).fill_zero();
      const Fp8Activation expected = quantize_fp8_activation(cpu_, x);
      for_each_order([&] {
        const Fp8Activation got = quantize_fp8_activation(ctx(), x.to(Device::kCuda));
        EXPECT_TRUE(same_bits(got.codes, expected.codes)) << shape;
        EXPECT_TRUE(same_bits(got.scales, expected.scales)) << shape;
      });
    }
    const Tensor master = uneven_tensor(shape, DType::kF32, 2);
    const PackedWeight expected = packed_fp8(cpu_, master);
    for_each_order([&] {
      const PackedWeight got = packed_fp8(ctx(), master);
      for (Product product : {Product::kForward, Product::kDgrad}) {
        EXPECT_TRUE(same_bits(got.image(product), expected.image(product))) << shape;
        EXPECT_TRUE(same_bits(got.scales(product), expected.scales(product))) << shape;
      }
    });
  }
}

TEST_F(Fp8CudaTest, ATileWithANanBecomesOneWithNans) {
  for_each_order([&] {
    Tensor x = random_tensor({2, 256}, DType::kF32, 1);
    x.data<float>()[300] = NAN;
    const ref::Fp8Codes row = fp8_codes(quantize_fp8_activation(ctx(), x.to(Device::kCuda)));
    EXPECT_TRUE(std::isnan(row.code(1, 44)));
    EXPECT_TRUE(std::isnan(row.scale(1, 0)));
    EXPECT_FALSE(std::isnan(row.scale(0, 0)));
    EXPECT_FALSE(std::isnan(row.scale(1, 1)));
    const ref::Fp8Codes block = fp8_codes(packed_fp8(ctx(), x), Product::kForward);
    EXPECT_TRUE(std::isnan(block.code(1, 44)));
    EXPECT_TRUE(std::isnan(block.scale(0, 0)));
    EXPECT_FALSE(std::isnan(block.scale(0, 1)));
  });
}

struct Case {
  int64_t tokens, out, in;
};
class Fp8ProductCudaTest : public Fp8CudaTest, public ::testing::WithParamInterface<Case> {
 protected:
  void SetUp() override {
    Fp8CudaTest::SetUp();
    if (IsSkipped()) return;
    x_ = random({GetParam().tokens, GetParam().in}, DType::kBF16, 1);
    dy_ = random({GetParam().tokens, GetParam().out}, DType::kBF16, 3);
  }
  Tensor x_, dy_;

  PackedWeight weight(uint64_t seed) {
    return packed_fp8(ctx(), random_tensor({GetParam().out, GetParam().in}, DType::kF32, seed));
  }
  Tensor forward(const Tensor& x, const PackedWeight& w, DType dtype) {
    Tensor y = ctx().empty({x.dim(0), GetParam().out}, dtype);
    linear_forward(ctx(), x, w, y);
    return y;
  }
  Tensor dgrad(const Tensor& dy, const PackedWeight& w, DType dtype) {
    Tensor dx = ctx().empty({dy.dim(0), GetParam().in}, dtype);
    linear_dgrad(ctx(), dy, w, dx);
    return dx;
  }
};
// Both tiles, with tails of rows, columns and depth.
INSTANTIATE_TEST_SUITE_P(Shapes, Fp8ProductCudaTest,
                         ::testing::Values(Case{1, 1, 16}, Case{16, 64, 128}, Case{5, 130, 401},
                                           Case{70, 72, 273}));

TEST_P(Fp8ProductCudaTest, ForwardAndDgradEqualTheReference) {
  const PackedWeight w = weight(2);
  const ref::Fp8Codes x = fp8_codes(quantize_fp8_activation(ctx(), x_));
  const ref::Fp8Codes dy = fp8_codes(quantize_fp8_activation(ctx(), dy_));
  const ref::Fp8Codes w_forward = fp8_codes(w, Product::kForward),
                      w_dgrad = fp8_codes(w, Product::kDgrad);
  for_each_order([&] {
    for (DType dtype : {DType::kF32, DType::kBF16}) {
      expect_near_product(forward(x_, w, dtype), x, w_forward);
      expect_near_product(dgrad(dy_, w, dtype), dy, w_dgrad);
      Tensor sum = random({GetParam().tokens, GetParam().in}, dtype, 4);
      const std::vector<double> before = testing::to_doubles(sum.to(Device::kCpu));
      linear_dgrad(ctx(), dy_, w, sum, Write::kAccumulate);
      expect_near_product(sum, dy, w_dgrad, before);
    }
  });
}

TEST_P(Fp8ProductCudaTest, ARowAloneHasTheBitsItHasInABatch) {
  for_each_order([&] {
    const PackedWeight w = weight(2);
    const Tensor batch = forward(x_, w, DType::kF32);
    for (int64_t t = 0; t < GetParam().tokens; t += 9)
      EXPECT_TRUE(same_bits(forward(x_.rows(t, t + 1), w, DType::kF32), batch.rows(t, t + 1)))
          << "row " << t;
  });
}

TEST_P(Fp8ProductCudaTest, RowsOfAGroupMeetItsWeight) {
  const int64_t tokens = GetParam().tokens;
  const std::vector<PackedWeight> weights = {weight(5), weight(6), weight(7)};
  const WeightList list({&weights[0], &weights[1], &weights[2]});
  list.upload(ctx());
  const std::vector<int64_t> offsets = {0, tokens / 3, tokens / 3, tokens};
  for_each_order([&] {
    Tensor y = ctx().empty({tokens, GetParam().out}, DType::kBF16);
    grouped_linear_forward(ctx(), x_, offsets, list, y);
    Tensor dx = ctx().empty({tokens, GetParam().in}, DType::kBF16);
    grouped_linear_dgrad(ctx(), dy_, offsets, list, dx);
    for (size_t g = 0; g < weights.size(); ++g) {
      const int64_t begin = offsets[g], end = offsets[g + 1];
      EXPECT_TRUE(
          same_bits(forward(x_.rows(begin, end), weights[g], DType::kBF16), y.rows(begin, end)))
          << "group " << g;
      EXPECT_TRUE(
          same_bits(dgrad(dy_.rows(begin, end), weights[g], DType::kBF16), dx.rows(begin, end)))
          << "group " << g;
    }
  });
}

TEST_F(Fp8CudaTest, AListFollowsImagesThatHaveMoved) {
  std::vector<PackedWeight> weights = {packed_fp8(ctx(), random_tensor({20, 24}, DType::kF32, 1)),
                                       packed_fp8(ctx(), random_tensor({20, 24}, DType::kF32, 2))};
  const WeightList list({&weights[0], &weights[1]});
  list.upload(ctx());
  const PackedWeight before = weights[1];  // keeps the old image where it is
  weights[1] = packed_fp8(ctx(), random_tensor({20, 24}, DType::kF32, 3));
  list.upload(ctx());
  const Tensor dy = random({2, 20}, DType::kBF16, 4);
  Tensor dx = ctx().empty({2, 24}, DType::kF32), alone = ctx().empty({1, 24}, DType::kF32);
  grouped_linear_dgrad(ctx(), dy, std::vector<int64_t>{0, 1, 2}, list, dx);
  linear_dgrad(ctx(), dy.rows(1, 2), weights[1], alone);
  EXPECT_TRUE(same_bits(dx.rows(1, 2), alone));
}

}  // namespace
}  // namespace moerl::kernels
