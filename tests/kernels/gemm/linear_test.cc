#include "kernels/gemm/linear.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <tuple>

#include "kernels/gemm/linear_ref.h"
#include "tests/testing/copy_elements.h"
#include "tests/testing/isas.h"
#include "tests/testing/random_tensors.h"
#include "tests/testing/tolerance.h"

namespace moerl::kernels {
namespace {

using ::testing::HasSubstr;
using testing::random_tensor;
using testing::same_bits;
using ::testing::Values;
using ::testing::ValuesIn;

/// The three extents of a product: tokens T, out_features N, in_features K.
struct Extents {
  int64_t t, n, k;
  friend std::ostream& operator<<(std::ostream& out, const Extents& e) {
    return out << "T" << e.t << "_N" << e.n << "_K" << e.k;
  }
};

const Extents kExtents[] = {{1, 1, 1},     {3, 5, 17},    {7, 17, 5},    {2, 33, 100},
                            {13, 100, 33}, {40, 31, 576}, {33, 192, 64}, {100, 65, 32},
                            {130, 48, 97}, {1, 576, 300}, {29, 96, 520}};

ref::Matrix<double> as_double(const Tensor& tensor) {
  return {static_cast<size_t>(tensor.dim(0)), static_cast<size_t>(tensor.dim(1)),
          testing::to_doubles(tensor)};
}
ref::Matrix<float> as_float(const Tensor& tensor) {
  return {static_cast<size_t>(tensor.dim(0)), static_cast<size_t>(tensor.dim(1)),
          testing::to_floats(tensor)};
}

/// The master as the kernels see it, rounded to the working type.
Tensor rounded(const Tensor& master, DType dtype) {
  return testing::tensor_of(master.shape(), dtype, testing::to_floats(master));
}

PackedWeight packed(ExecContext& ctx, const Tensor& master, DType dtype, bool with_dgrad = true) {
  PackedWeight weight;
  pack_weight(ctx, master, dtype, with_dgrad, weight);
  return weight;
}

/// x, W and dy of one layer, with values that are exact in neither type.
struct Layer {
  Layer(Extents e, DType dtype, uint64_t seed = 1)
      : x(random_tensor({e.t, e.k}, dtype, seed)),
        master(random_tensor({e.n, e.k}, DType::kF32, seed + 1)),
        dy(random_tensor({e.t, e.n}, dtype, seed + 2)) {}
  Tensor x, master, dy;
};

class LinearTest : public ::testing::TestWithParam<std::tuple<Isa, DType>> {
 protected:
  Isa isa() const { return std::get<0>(GetParam()); }
  DType dtype() const { return std::get<1>(GetParam()); }

  Tensor forward(ExecContext& ctx, const Tensor& x, const PackedWeight& weight, DType output) {
    Tensor y = Tensor::empty({x.dim(0), weight.out_features}, output);
    linear_forward(ctx, x, weight, y);
    return y;
  }
  Tensor dgrad(ExecContext& ctx, const Tensor& dy, const PackedWeight& weight, DType output) {
    Tensor dx = Tensor::empty({dy.dim(0), weight.in_features}, output);
    linear_dgrad(ctx, dy, weight, dx);
    return dx;
  }
  Tensor wgrad(ExecContext& ctx, const Tensor& dy, const Tensor& x) {
    Tensor dweight = Tensor::zeros({dy.dim(1), x.dim(1)}, DType::kF32);
    linear_wgrad(ctx, dy, x, dweight);
    return dweight;
  }
};

std::string param_name(const ::testing::TestParamInfo<std::tuple<Isa, DType>>& info) {
  return std::string(isa_name(std::get<0>(info.param))) + "_" + dtype_name(std::get<1>(info.param));
}

INSTANTIATE_TEST_SUITE_P(All, LinearTest,
                         ::testing::Combine(ValuesIn(testing::available_isas()),
                                            Values(DType::kF32, DType::kBF16)),
                         param_name);

TEST_P(LinearTest, ForwardEqualsReference) {
  ExecContext ctx(2, isa());
  for (const Extents& e : kExtents) {
    SCOPED_TRACE(e);
    const Layer layer(e, dtype());
    const PackedWeight weight = packed(ctx, layer.master, dtype());
    const auto expected =
        ref::linear_forward(as_double(layer.x), as_double(rounded(layer.master, dtype())));
    for (DType output : {DType::kF32, dtype()})
      EXPECT_TRUE(testing::all_near(forward(ctx, layer.x, weight, output), expected.values,
                                    testing::sum_tolerance(output, e.k)));
  }
}

TEST_P(LinearTest, DgradEqualsReference) {
  ExecContext ctx(2, isa());
  for (const Extents& e : kExtents) {
    SCOPED_TRACE(e);
    const Layer layer(e, dtype());
    const PackedWeight weight = packed(ctx, layer.master, dtype());
    const auto expected =
        ref::linear_dgrad(as_double(layer.dy), as_double(rounded(layer.master, dtype())));
    for (DType output : {DType::kF32, dtype()})
      EXPECT_TRUE(testing::all_near(dgrad(ctx, layer.dy, weight, output), expected.values,
                                    testing::sum_tolerance(output, e.n)));
  }
}

TEST_P(LinearTest, WgradEqualsReference) {
  ExecContext ctx(2, isa());
  for (const Extents& e : kExtents) {
    SCOPED_TRACE(e);
    const Layer layer(e, dtype());
    const auto expected = ref::linear_wgrad(as_double(layer.dy), as_double(layer.x));
    EXPECT_TRUE(testing::all_near(wgrad(ctx, layer.dy, layer.x), expected.values,
                                  testing::sum_tolerance(DType::kF32, e.t)));
  }
}

// The gradients of L = sum(dy * y) by central differences of L in x and W. L is bilinear, so that
// the differences are exact but for rounding.
TEST(LinearReferenceTest, GradientsEqualFiniteDifferences) {
  const Layer layer({3, 4, 5}, DType::kF32);
  const ref::Matrix<double> dy = as_double(layer.dy);
  const auto loss = [&](const ref::Matrix<double>& x, const ref::Matrix<double>& w) {
    const ref::Matrix<double> y = ref::linear_forward(x, w);
    double sum = 0;
    for (size_t i = 0; i < y.values.size(); ++i) sum += y.values[i] * dy.values[i];
    return sum;
  };
  ref::Matrix<double> x = as_double(layer.x), w = as_double(layer.master);
  const auto slope = [&](double& value) {
    const double saved = value, step = 0.125;
    value = saved + step;
    const double above = loss(x, w);
    value = saved - step;
    const double below = loss(x, w);
    value = saved;
    return (above - below) / (2 * step);
  };
  const ref::Matrix<double> dx = ref::linear_dgrad(dy, w), dw = ref::linear_wgrad(dy, x);
  for (size_t i = 0; i < dx.values.size(); ++i)
    EXPECT_NEAR(dx.values[i], slope(x.values[i]), 1e-12) << i;
  for (size_t i = 0; i < dw.values.size(); ++i)
    EXPECT_NEAR(dw.values[i], slope(w.values[i]), 1e-12) << i;
}

TEST_P(LinearTest, ForwardHasTheSpecifiedBits) {
  ExecContext ctx(2, isa());
  for (const Extents& e : kExtents) {
    SCOPED_TRACE(e);
    const Layer layer(e, dtype());
    Tensor expected = Tensor::zeros({e.t, e.n}, DType::kF32);
    ref::Matrix<float> sums = as_float(expected);
    ref::ordered_product(dtype(), as_float(layer.x),
                         ref::transpose(as_float(rounded(layer.master, dtype()))), sums);
    const PackedWeight weight = packed(ctx, layer.master, dtype());
    for (DType output : {DType::kF32, dtype()})
      EXPECT_TRUE(same_bits(forward(ctx, layer.x, weight, output),
                            testing::tensor_of({e.t, e.n}, output, sums.values)));
  }
}

TEST_P(LinearTest, DgradHasTheSpecifiedBits) {
  ExecContext ctx(2, isa());
  for (const Extents& e : kExtents) {
    SCOPED_TRACE(e);
    const Layer layer(e, dtype());
    ref::Matrix<float> sums = as_float(Tensor::zeros({e.t, e.k}, DType::kF32));
    ref::ordered_product(dtype(), as_float(layer.dy), as_float(rounded(layer.master, dtype())),
                         sums);
    const PackedWeight weight = packed(ctx, layer.master, dtype());
    for (DType output : {DType::kF32, dtype()})
      EXPECT_TRUE(same_bits(dgrad(ctx, layer.dy, weight, output),
                            testing::tensor_of({e.t, e.k}, output, sums.values)));
  }
}

TEST_P(LinearTest, WgradContinuesTheChainsOfDweight) {
  ExecContext ctx(2, isa());
  for (const Extents& e : kExtents) {
    SCOPED_TRACE(e);
    const Layer layer(e, dtype());
    Tensor dweight = random_tensor({e.n, e.k}, DType::kF32, 9);
    ref::Matrix<float> sums = as_float(dweight);
    ref::ordered_product(dtype(), ref::transpose(as_float(layer.dy)), as_float(layer.x), sums);
    linear_wgrad(ctx, layer.dy, layer.x, dweight);
    EXPECT_TRUE(same_bits(dweight, Tensor::from<float>({e.n, e.k}, sums.values)));
  }
}

// Products and sums below 2^-126 are zeros at every level, also where only the result is so small.
TEST_P(LinearTest, FlushesDenormals) {
  ExecContext ctx(1, isa());
  const Tensor x = random_tensor({9, 70}, dtype(), 3, -0x1p-60f, 0x1p-60f);
  const Tensor master = random_tensor({20, 70}, DType::kF32, 4, -0x1p-66f, 0x1p-66f);
  ref::Matrix<float> sums = as_float(Tensor::zeros({9, 20}, DType::kF32));
  ref::ordered_product(dtype(), as_float(x), ref::transpose(as_float(rounded(master, dtype()))),
                       sums);
  EXPECT_TRUE(same_bits(forward(ctx, x, packed(ctx, master, dtype()), DType::kF32),
                        Tensor::from<float>({9, 20}, sums.values)));
}

TEST_P(LinearTest, RowBitsDoNotDependOnTheBatch) {
  ExecContext one(1, isa());
  const Layer layer({131, 100, 70}, dtype());
  const PackedWeight weight = packed(one, layer.master, dtype());
  const Tensor y = forward(one, layer.x, weight, DType::kF32);
  const Tensor dx = dgrad(one, layer.dy, weight, DType::kF32);
  for (int threads : {1, 2, 3}) {
    ExecContext ctx(threads, isa());
    for (int64_t rows : {1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 16, 17, 31, 32, 33, 95, 97})
      for (int64_t begin : {0, 1, 34}) {
        const int64_t end = begin + rows;
        EXPECT_TRUE(same_bits(forward(ctx, layer.x.rows(begin, end), weight, DType::kF32),
                              y.rows(begin, end)))
            << "rows " << begin << " to " << end << ", " << threads << " threads";
        EXPECT_TRUE(same_bits(dgrad(ctx, layer.dy.rows(begin, end), weight, DType::kF32),
                              dx.rows(begin, end)))
            << "rows " << begin << " to " << end << ", " << threads << " threads";
      }
  }
}

TEST_P(LinearTest, BitsDoNotDependOnTheThreads) {
  const Layer layer({260, 224, 310}, dtype());
  ExecContext one(1, isa());
  const PackedWeight weight = packed(one, layer.master, dtype());
  const Tensor y = forward(one, layer.x, weight, dtype());
  const Tensor dweight = wgrad(one, layer.dy, layer.x);
  for (int threads : {2, 3}) {
    ExecContext ctx(threads, isa());
    EXPECT_TRUE(same_bits(forward(ctx, layer.x, weight, dtype()), y)) << threads;
    EXPECT_TRUE(same_bits(wgrad(ctx, layer.dy, layer.x), dweight)) << threads;
    const PackedWeight again = packed(ctx, layer.master, dtype());
    EXPECT_TRUE(same_bits(again.forward, weight.forward)) << threads;
    EXPECT_TRUE(same_bits(again.dgrad, weight.dgrad)) << threads;
  }
}

// The widths of a model, whose depth takes several passes of every kernel; too slow for the oracle.
TEST_P(LinearTest, LevelsAgree) {
  const Layer layer({45, 544, 1100}, dtype());
  ExecContext portable(2, Isa::kPortable), ctx(2, isa());
  const PackedWeight expected = packed(portable, layer.master, dtype());
  const PackedWeight weight = packed(ctx, layer.master, dtype());
  EXPECT_TRUE(same_bits(weight.forward, expected.forward));
  EXPECT_TRUE(same_bits(weight.dgrad, expected.dgrad));
  for (DType output : {DType::kF32, dtype()}) {
    EXPECT_TRUE(same_bits(forward(ctx, layer.x, weight, output),
                          forward(portable, layer.x, weight, output)));
    EXPECT_TRUE(
        same_bits(dgrad(ctx, layer.dy, weight, output), dgrad(portable, layer.dy, weight, output)));
  }
  EXPECT_TRUE(same_bits(wgrad(ctx, layer.dy, layer.x), wgrad(portable, layer.dy, layer.x)));
}

TEST_P(LinearTest, ForwardAccumulatesTheFinishedSum) {
  ExecContext ctx(2, isa());
  for (const Extents& e : kExtents) {
    SCOPED_TRACE(e);
    const Layer layer(e, dtype());
    const PackedWeight weight = packed(ctx, layer.master, dtype());
    Tensor y = random_tensor({e.t, e.n}, DType::kF32, 5);
    std::vector<float> expected = testing::to_floats(y);
    const std::vector<float> sums = testing::to_floats(forward(ctx, layer.x, weight, DType::kF32));
    for (size_t i = 0; i < sums.size(); ++i) expected[i] += sums[i];
    linear_forward(ctx, layer.x, weight, y, Write::kAccumulate);
    EXPECT_TRUE(same_bits(y, Tensor::from<float>(y.shape(), expected)));
  }
}

TEST_P(LinearTest, DgradAccumulatesTheFinishedSumAndRoundsOnce) {
  ExecContext ctx(2, isa());
  for (const Extents& e : kExtents) {
    SCOPED_TRACE(e);
    const Layer layer(e, dtype());
    const PackedWeight weight = packed(ctx, layer.master, dtype());
    const std::vector<float> sums = testing::to_floats(dgrad(ctx, layer.dy, weight, DType::kF32));
    for (DType output : {DType::kF32, dtype()}) {
      Tensor dx = random_tensor({e.t, e.k}, output, 5);
      std::vector<float> expected = testing::to_floats(dx);
      for (size_t i = 0; i < sums.size(); ++i) expected[i] += sums[i];
      linear_dgrad(ctx, layer.dy, weight, dx, Write::kAccumulate);
      EXPECT_TRUE(same_bits(dx, testing::tensor_of(dx.shape(), output, expected)));
    }
  }
}

TEST_P(LinearTest, WgradOfTwoPartsEqualsWgradOfTheWhole) {
  ExecContext ctx(2, isa());
  const Layer layer({150, 50, 70}, dtype());
  const Tensor whole = wgrad(ctx, layer.dy, layer.x);
  Tensor parts = Tensor::zeros({50, 70}, DType::kF32);
  linear_wgrad(ctx, layer.dy.rows(0, 64), layer.x.rows(0, 64), parts);
  linear_wgrad(ctx, layer.dy.rows(64, 150), layer.x.rows(64, 150), parts);
  EXPECT_TRUE(same_bits(parts, whole));
}

TEST_P(LinearTest, NoTokensWriteNothing) {
  ExecContext ctx(2, isa());
  const Layer layer({0, 33, 17}, dtype());
  const PackedWeight weight = packed(ctx, layer.master, dtype());
  EXPECT_EQ(forward(ctx, layer.x, weight, dtype()).shape(), (Shape{0, 33}));
  EXPECT_EQ(dgrad(ctx, layer.dy, weight, dtype()).shape(), (Shape{0, 17}));
  Tensor dweight = random_tensor({33, 17}, DType::kF32, 6);
  const Tensor before = dweight.clone();
  linear_wgrad(ctx, layer.dy, layer.x, dweight);
  EXPECT_TRUE(same_bits(dweight, before));
}

TEST_P(LinearTest, WritesNothingBesideItsOutput) {
  ExecContext ctx(2, isa());
  const Layer layer({5, 37, 41}, dtype());
  const PackedWeight weight = packed(ctx, layer.master, dtype());
  Tensor y = random_tensor({7, 37}, dtype(), 5);
  const Tensor before = y.clone();
  Tensor middle = y.rows(1, 6);
  linear_forward(ctx, layer.x, weight, middle);
  EXPECT_TRUE(same_bits(y.rows(0, 1), before.rows(0, 1)));
  EXPECT_TRUE(same_bits(y.rows(6, 7), before.rows(6, 7)));
}

/// Seven experts, among them idle ones and one with more rows than the rest together.
struct Experts {
  Experts(ExecContext& ctx, DType dtype) : x(random_tensor({187, 70}, dtype, 1)) {
    for (uint64_t g = 0; g + 1 < offsets.size(); ++g)
      weights.push_back(packed(ctx, random_tensor({100, 70}, DType::kF32, 20 + g), dtype));
    for (const PackedWeight& weight : weights) pointers.push_back(&weight);
    dy = random_tensor({187, 100}, dtype, 2);
  }
  std::vector<int64_t> offsets = {0, 0, 1, 4, 40, 40, 140, 187};
  Tensor x, dy;
  std::vector<PackedWeight> weights;
  std::vector<const PackedWeight*> pointers;
};

TEST_P(LinearTest, GroupedEqualsLinearOfEachGroup) {
  for (int threads : {1, 2, 3}) {
    ExecContext ctx(threads, isa());
    const Experts experts(ctx, dtype());
    Tensor y = Tensor::empty({187, 100}, dtype()), dx = Tensor::empty({187, 70}, dtype());
    grouped_linear_forward(ctx, experts.x, experts.offsets, experts.pointers, y);
    grouped_linear_dgrad(ctx, experts.dy, experts.offsets, experts.pointers, dx);
    for (size_t g = 0; g < experts.weights.size(); ++g) {
      const int64_t begin = experts.offsets[g], end = experts.offsets[g + 1];
      EXPECT_TRUE(same_bits(y.rows(begin, end),
                            forward(ctx, experts.x.rows(begin, end), experts.weights[g], dtype())))
          << g;
      EXPECT_TRUE(same_bits(dx.rows(begin, end),
                            dgrad(ctx, experts.dy.rows(begin, end), experts.weights[g], dtype())))
          << g;
    }
  }
}

TEST_P(LinearTest, GroupedDgradAccumulates) {
  ExecContext ctx(2, isa());
  const Experts experts(ctx, dtype());
  Tensor once = Tensor::zeros({187, 70}, DType::kF32);
  grouped_linear_dgrad(ctx, experts.dy, experts.offsets, experts.pointers, once);
  Tensor twice = once.clone();
  grouped_linear_dgrad(ctx, experts.dy, experts.offsets, experts.pointers, twice,
                       Write::kAccumulate);
  std::vector<float> expected = testing::to_floats(once);
  for (float& value : expected) value += value;
  EXPECT_TRUE(same_bits(twice, Tensor::from<float>({187, 70}, expected)));
}

TEST_P(LinearTest, GroupedWgradEqualsWgradOfEachGroup) {
  for (int threads : {1, 2, 3}) {
    ExecContext ctx(threads, isa());
    const Experts experts(ctx, dtype());
    std::vector<Tensor> dweights;
    std::vector<Tensor*> pointers;
    for (uint64_t g = 0; g < experts.weights.size(); ++g)
      dweights.push_back(random_tensor({100, 70}, DType::kF32, 40 + g));
    std::vector<Tensor> expected;
    for (Tensor& dweight : dweights) {
      pointers.push_back(&dweight);
      expected.push_back(dweight.clone());
    }
    grouped_linear_wgrad(ctx, experts.dy, experts.x, experts.offsets, pointers);
    for (size_t g = 0; g < dweights.size(); ++g) {
      const int64_t begin = experts.offsets[g], end = experts.offsets[g + 1];
      linear_wgrad(ctx, experts.dy.rows(begin, end), experts.x.rows(begin, end), expected[g]);
      EXPECT_TRUE(same_bits(dweights[g], expected[g])) << g;
    }
  }
}

TEST_P(LinearTest, PackingReusesTheImage) {
  ExecContext ctx(1, isa());
  PackedWeight weight = packed(ctx, random_tensor({40, 50}, DType::kF32, 1), dtype());
  const void* forward_before = weight.forward.raw();
  const void* dgrad_before = weight.dgrad.raw();
  const Tensor other = random_tensor({40, 50}, DType::kF32, 2);
  pack_weight(ctx, other, dtype(), true, weight);
  EXPECT_EQ(weight.forward.raw(), forward_before);
  EXPECT_EQ(weight.dgrad.raw(), dgrad_before);
  EXPECT_TRUE(same_bits(weight.forward, packed(ctx, other, dtype()).forward));
}

TEST_P(LinearTest, PackingRowsIsPackingTheMaster) {
  for (const Extents& e : kExtents)
    for (const int threads : {1, 3}) {
      ExecContext ctx(threads, isa());
      const Tensor master = random_tensor({e.n, e.k}, DType::kF32, 3);
      std::vector<std::atomic<int>> times_read(static_cast<size_t>(e.n));
      PackedWeight weight;
      const ReadRows read = [&](int64_t begin, int64_t end, DType type, void* out) {
        for (int64_t r = begin; r < end; ++r) ++times_read[static_cast<size_t>(r)];
        testing::copy_elements(master.data<float>() + begin * e.k, (end - begin) * e.k, type, out);
      };
      pack_weight(ctx, master.shape(), read, dtype(), weight);
      EXPECT_TRUE(same_bits(weight.forward, packed(ctx, master, dtype()).forward)) << e.n << e.k;
      EXPECT_FALSE(weight.dgrad.defined());
      EXPECT_EQ(weight.out_features, e.n);
      EXPECT_EQ(weight.in_features, e.k);
      for (const std::atomic<int>& times : times_read) EXPECT_EQ(times, 1);
    }
}

template <typename F>
std::string message_of(const F& f) {
  try {
    f();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "nothing was thrown";
}

TEST_P(LinearTest, RefusesWrongArgumentsByName) {
  ExecContext ctx(1, isa());
  const Layer layer({4, 6, 8}, dtype());
  const PackedWeight weight = packed(ctx, layer.master, dtype());
  Tensor y = Tensor::empty({4, 6}, dtype()), dx = Tensor::empty({4, 8}, dtype());
  Tensor narrow = Tensor::empty({4, 5}, dtype()), integers = Tensor::empty({4, 6}, DType::kI32);
  Tensor dweight = Tensor::zeros({6, 8}, DType::kF32);
  Tensor bf16_dweight = Tensor::zeros({6, 8}, DType::kBF16);
  const PackedWeight inference = packed(ctx, layer.master, dtype(), false);
  const auto forward = [&](const Tensor& x, const PackedWeight& w, Tensor& out) {
    return message_of([&] { linear_forward(ctx, x, w, out); });
  };
  EXPECT_THAT(forward(narrow, weight, y), HasSubstr("linear_forward: x is [4, 5]"));
  EXPECT_THAT(forward(layer.x, weight, narrow), HasSubstr("y is [4, 5], expected [4, 6]"));
  EXPECT_THAT(forward(layer.x, weight, integers), HasSubstr("y is i32"));
  EXPECT_THAT(forward(layer.x, PackedWeight(), y), HasSubstr("weight is not packed"));
  EXPECT_THAT(forward(Tensor(), weight, y), HasSubstr("x is undefined"));
  EXPECT_THAT(message_of([&] { linear_dgrad(ctx, layer.dy, inference, dx); }),
              HasSubstr("without its dgrad image"));
  EXPECT_THAT(message_of([&] { linear_dgrad(ctx, layer.dy, weight, narrow); }),
              HasSubstr("dx is [4, 5]"));
  EXPECT_THAT(message_of([&] { linear_wgrad(ctx, narrow, layer.x, dweight); }),
              HasSubstr("dweight is [6, 8], expected [5, 8]"));
  EXPECT_THAT(message_of([&] { linear_wgrad(ctx, layer.dy, layer.x, bf16_dweight); }),
              HasSubstr("dweight is bf16, expected f32"));
  EXPECT_THAT(message_of([&] { linear_wgrad(ctx, layer.dy.rows(0, 3), layer.x, dweight); }),
              HasSubstr("dy is [3, 6], expected [4, 6]"));
}

TEST_P(LinearTest, RefusesWrongTypesByName) {
  ExecContext ctx(1, isa());
  const DType wrong = dtype() == DType::kF32 ? DType::kBF16 : DType::kF32;
  const Layer layer({4, 6, 8}, dtype());
  const PackedWeight weight = packed(ctx, layer.master, dtype());
  Tensor y = Tensor::empty({4, 6}, DType::kF32), low = Tensor::empty({4, 6}, DType::kBF16);
  Tensor dweight = Tensor::zeros({6, 8}, DType::kF32);
  const Tensor wrong_x = random_tensor({4, 8}, wrong, 1),
               wrong_dy = random_tensor({4, 6}, wrong, 1);
  EXPECT_THAT(message_of([&] { linear_forward(ctx, wrong_x, weight, y); }),
              HasSubstr(concat("x is ", dtype_name(wrong), ", expected ", dtype_name(dtype()))));
  EXPECT_THAT(message_of([&] { linear_forward(ctx, layer.x, weight, low, Write::kAccumulate); }),
              HasSubstr("y is bf16, expected f32"));
  EXPECT_THAT(message_of([&] { linear_wgrad(ctx, wrong_dy, layer.x, dweight); }),
              HasSubstr("dy is"));
  PackedWeight target;
  EXPECT_THAT(message_of([&] { pack_weight(ctx, layer.master, DType::kI32, true, target); }),
              HasSubstr("dtype is i32"));
  EXPECT_THAT(message_of([&] { pack_weight(ctx, low, dtype(), true, target); }),
              HasSubstr("master is bf16"));
}

TEST_P(LinearTest, RefusesWrongGroups) {
  ExecContext ctx(1, isa());
  const Experts experts(ctx, dtype());
  Tensor y = Tensor::empty({187, 100}, dtype());
  const auto message = [&](const std::vector<int64_t>& offsets) {
    return message_of(
        [&] { grouped_linear_forward(ctx, experts.x, offsets, experts.pointers, y); });
  };
  EXPECT_THAT(message({0, 187}), HasSubstr("offsets has 2 values"));
  EXPECT_THAT(message({0, 0, 1, 4, 40, 40, 140, 186}), HasSubstr("expected 0 to 187 rows"));
  EXPECT_THAT(message({0, 0, 4, 1, 40, 40, 140, 187}), HasSubstr("offsets must ascend"));
  std::vector<const PackedWeight*> mixed = experts.pointers;
  const PackedWeight other = packed(ctx, random_tensor({100, 71}, DType::kF32, 1), dtype());
  mixed[3] = &other;
  EXPECT_THAT(
      message_of([&] { grouped_linear_forward(ctx, experts.x, experts.offsets, mixed, y); }),
      HasSubstr("[100, 71], expected the shape of the first"));
}

}  // namespace
}  // namespace moerl::kernels
