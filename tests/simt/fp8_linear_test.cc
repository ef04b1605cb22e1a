#include "kernels/gemm/fp8_linear.h"

#include <cmath>

#include "kernels/gemm/fp8_linear_impl.h"
#include "tests/kernels/gemm/fp8_problem.h"
#include "tests/simt/on_device.h"

namespace moerl::kernels {
namespace {

using testing::for_each_order;
using testing::OnDevice;
using testing::random_tensor;

Fp8Matrix quantize_on_device(const Tensor& x, bool is_weight) {
  const int64_t tile_rows = is_weight ? num_fp8_blocks(x.dim(0)) : x.dim(0);
  const OnDevice x_(x), codes({x.dim(0), x.dim(1) / 4}, DType::kI32),
      scales({tile_rows, num_fp8_blocks(x.dim(1))}, DType::kF32);
  cuda_ops<Fp8LinearCuda>().quantize({x.dtype() == DType::kBF16, is_weight, x.dim(0), x.dim(1),
                                      x_.raw(), codes.raw(), scales.data()});
  return {x.dim(0), x.dim(1), codes.to_host(), scales.to_host()};
}

Tensor multiply(const Fp8Matrix& x, const Fp8Matrix& w, DType dtype) {
  const OnDevice x_(x.codes), w_(w.codes), x_scales(x.scales), w_scales(w.scales),
      y({x.rows, w.rows}, dtype);
  cuda_ops<Fp8LinearCuda>().forward({x.rows, w.rows, x.columns, x_.raw(), w_.raw(), x_scales.data(),
                                     w_scales.data(), dtype == DType::kBF16, y.raw()});
  return y.to_host();
}

TEST(Fp8LinearCudaTest, QuantisingHasTheBitsOfTheCpu) {
  ExecContext cpu(1);
  for (DType dtype : {DType::kF32, DType::kBF16})
    for (const Shape& shape : {Shape{1, 16}, Shape{3, 144}, Shape{131, 272}}) {
      Tensor x = random_tensor(shape, dtype, 1);
      x.rows(0, 1).fill_zero();
      for (bool is_weight : {false, true}) {
        const Fp8Matrix expected =
            is_weight ? quantize_fp8_weight(cpu, x) : quantize_fp8_activation(cpu, x);
        for_each_order([&] {
          const Fp8Matrix got = quantize_on_device(x, is_weight);
          EXPECT_TRUE(testing::same_bits(got.codes, expected.codes)) << shape;
          EXPECT_TRUE(testing::same_bits(got.scales, expected.scales)) << shape;
        });
      }
    }
}

TEST(Fp8LinearCudaTest, ATileWithANanBecomesOneWithNans) {
  Tensor x = random_tensor({2, 256}, DType::kF32, 1);
  x.data<float>()[300] = NAN;
  for (bool is_weight : {false, true}) {
    const Fp8Matrix q = quantize_on_device(x, is_weight);
    EXPECT_TRUE(std::isnan(from_e4m3(testing::codes_of(q.codes)[300])));
    EXPECT_TRUE(std::isnan(testing::to_floats(q.scales)[is_weight ? 0 : 2]));
    EXPECT_FALSE(std::isnan(testing::to_floats(q.scales)[1]));
  }
}

struct Case {
  int64_t tokens, out, in;
};
class Fp8ProductCudaTest : public ::testing::TestWithParam<Case> {
 protected:
  ExecContext cpu_{1};
  const Tensor input_ = random_tensor({GetParam().tokens, GetParam().in}, DType::kBF16, 1);
  const Fp8Matrix x_ = quantize_fp8_activation(cpu_, input_);
  const Fp8Matrix w_ =
      quantize_fp8_weight(cpu_, random_tensor({GetParam().out, GetParam().in}, DType::kF32, 2));
};
// Both tiles, with tails of rows, columns and depth.
INSTANTIATE_TEST_SUITE_P(Shapes, Fp8ProductCudaTest,
                         ::testing::Values(Case{1, 1, 16}, Case{16, 64, 128}, Case{5, 130, 400},
                                           Case{70, 72, 272}));

TEST_P(Fp8ProductCudaTest, EqualsTheReference) {
  for_each_order([&] {
    for (DType dtype : {DType::kF32, DType::kBF16})
      testing::expect_near_product(multiply(x_, w_, dtype), testing::fp8_codes(x_, 1),
                                   testing::fp8_codes(w_, 128));
  });
}

TEST_P(Fp8ProductCudaTest, ARowAloneHasTheBitsItHasInABatch) {
  const Tensor batch = multiply(x_, w_, DType::kF32);
  for (int64_t t = 0; t < x_.rows; t += 9) {
    const Fp8Matrix row = quantize_fp8_activation(cpu_, input_.rows(t, t + 1).clone());
    EXPECT_TRUE(testing::same_bits(multiply(row, w_, DType::kF32), batch.rows(t, t + 1)))
        << "row " << t;
  }
}

}  // namespace
}  // namespace moerl::kernels
