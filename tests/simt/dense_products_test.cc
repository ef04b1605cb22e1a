#include "kernels/gemm/dense_products.h"

#include <cmath>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>

#include "common/shared_library.h"
#include "kernels/cuda/graph.h"
#include "kernels/gemm/cublaslt_loader.h"
#include "kernels/gemm/linear.h"
#include "tests/simt/on_device.h"

namespace moerl::kernels {
namespace {

using testing::random_tensor;
using testing::same_bits;

// ---- What stands in for a library's algorithms ----

using Compute = std::function<void(const LinearCudaProduct& args, bool transposed)>;

void run_kernels(const LinearCudaProduct& args, bool transposed) {
  const LinearCuda& ops = cuda_ops<LinearCuda>();
  (transposed ? ops.dgrad : ops.forward)(args);
}

template <typename T>
std::vector<T> from_device(const void* data, int64_t count) {
  std::vector<T> values(static_cast<size_t>(count));
  device_memory().copy_to_host(values.data(), data, values.size() * sizeof(T));
  return values;
}
template <typename T>
void to_device(void* data, const std::vector<T>& values) {
  device_memory().copy_to_device(data, values.data(), values.size() * sizeof(T));
}

/// y becomes what `change` makes of it, element by element.
template <typename Change>
void change_y(const LinearCudaProduct& args, const Change& change) {
  const auto each = [&]<typename T>(T) {
    std::vector<T> y = from_device<T>(args.y, args.rows * args.columns);
    for (size_t i = 0; i < y.size(); ++i) {
      const float changed = change(static_cast<int64_t>(i), to_float(y[i]));
      if constexpr (std::is_same_v<T, float>)
        y[i] = changed;
      else
        y[i] = to_bf16(changed);
    }
    to_device(args.y, y);
  };
  args.y_dtype == DType::kF32 ? each(0.0f) : each(bf16{});
}

/// The sum of an element's products, given in the order of its depth.
using Order = std::function<float(const std::vector<double>& products)>;

float flush(float y) {
  return std::fabs(y) < std::numeric_limits<float>::min() ? std::copysign(0.0f, y) : y;
}
float keep(float y) { return y; }

/// The rounding of the emulator's tensor cores, after every `size` products.
float sum_in_steps(const std::vector<double>& products, size_t size,
                   float (*denormal)(float) = flush) {
  float sum = 0;
  for (size_t begin = 0; begin < products.size(); begin += size) {
    double exact = sum;
    for (size_t i = begin; i < std::min(begin + size, products.size()); ++i) exact += products[i];
    sum = denormal(static_cast<float>(exact));
  }
  return sum;
}
Order steps(size_t size, float (*denormal)(float) = flush) {
  return
      [=](const std::vector<double>& products) { return sum_in_steps(products, size, denormal); };
}
/// As many sums as parts, each of those products whose index `part_of` maps to it.
Order parts(size_t count, const std::function<size_t(size_t index, size_t depth)>& part_of) {
  return [=](const std::vector<double>& products) {
    float sum = 0;
    for (size_t part = 0; part < count; ++part) {
      std::vector<double> mine;
      for (size_t i = 0; i < products.size(); ++i)
        if (part_of(i, products.size()) == part) mine.push_back(products[i]);
      sum += sum_in_steps(mine, 16);
    }
    return sum;
  };
}

/// A product whose sums are of an order of their own.
Compute ordered(const Order& order) {
  return [=](const LinearCudaProduct& args, bool transposed) {
    const auto x = from_device<bf16>(args.x, args.rows * args.depth);
    const auto weight = from_device<bf16>(args.weight, args.columns * args.depth);
    // Padded with zeros as the kernels' tiles are, which shows in the sign of a zero.
    std::vector<double> products(static_cast<size_t>(round_up(args.depth, 32)));
    change_y(args, [&](int64_t i, float before) {
      const int64_t row = i / args.columns, column = i % args.columns;
      for (int64_t k = 0; k < args.depth; ++k) {
        const int64_t at = transposed ? k * args.columns + column : column * args.depth + k;
        products[static_cast<size_t>(k)] =
            double{to_float(x[static_cast<size_t>(row * args.depth + k)])} *
            to_float(weight[static_cast<size_t>(at)]);
      }
      return args.accumulate ? flush(before + order(products)) : order(products);
    });
  };
}

/// The kernels' product, of which `change` changes what it wants to.
Compute changed(
    const std::function<float(const LinearCudaProduct& args, int64_t i, float y)>& change) {
  return [=](const LinearCudaProduct& args, bool transposed) {
    run_kernels(args, transposed);
    change_y(args, [&](int64_t i, float y) { return change(args, i, y); });
  };
}
float next(float y) { return to_float(bf16{static_cast<uint16_t>(to_bf16(y).bits ^ 1)}); }
/// Wrong in the last row where `where` says so.
Compute wrong_last_row(const std::function<bool(int64_t rows)>& where) {
  return changed([=](const LinearCudaProduct& args, int64_t i, float y) {
    return where(args.rows) && i / args.columns == args.rows - 1 ? next(y) : y;
  });
}

struct Calls {
  int opened = 0, asked = 0;
  std::vector<int> runs;
};

class FakeAlgorithm final : public DenseAlgorithm {
 public:
  FakeAlgorithm(const DenseShape& shape, Compute run, int& runs)
      : shape_(shape), run_(std::move(run)), runs_(runs) {}
  void run(int64_t rows, const void* x, const void* weight, void* y) const override {
    ++runs_;
    run_({.dtype = DType::kBF16,
          .y_dtype = shape_.y_dtype,
          .accumulate = shape_.accumulate,
          .rows = rows,
          .depth = shape_.depth,
          .columns = shape_.columns,
          .x = x,
          .y = y,
          .weight = weight,
          .groups = {}},
         shape_.transposed);
  }

 private:
  DenseShape shape_;
  Compute run_;
  int& runs_;
};

class FakeLibrary final : public DenseLibrary {
 public:
  FakeLibrary(std::vector<Compute> runs, Calls& calls) : runs_(std::move(runs)), calls_(calls) {
    ++calls.opened;
    calls.runs.resize(runs_.size());
  }
  std::vector<std::unique_ptr<DenseAlgorithm>> algorithms(const DenseShape& shape) override {
    ++calls_.asked;
    std::vector<std::unique_ptr<DenseAlgorithm>> algorithms;
    for (size_t i = 0; i < runs_.size(); ++i)
      algorithms.push_back(std::make_unique<FakeAlgorithm>(shape, runs_[i], calls_.runs[i]));
    return algorithms;
  }

 private:
  std::vector<Compute> runs_;
  Calls& calls_;
};

// ---- The tests ----

constexpr int64_t kRows = 300;
constexpr DenseShape kForward{false, DType::kBF16, false, 24, 64};
const DenseShape kShapes[] = {kForward,
                              {false, DType::kF32, false, 24, 64},
                              {false, DType::kF32, true, 24, 64},
                              {true, DType::kBF16, false, 40, 48},
                              {true, DType::kBF16, true, 40, 48},
                              {true, DType::kF32, false, 40, 48}};

std::string text(const DenseShape& shape) { return concat(shape); }

/// Operands on the device.
struct Operands {
  Operands(const DenseShape& shape, int64_t rows, DType dtype = DType::kBF16)
      : x(random_tensor({rows, shape.depth}, dtype, 1)),
        weight(random_tensor({shape.columns, shape.depth}, dtype, 2)),
        y(random_tensor({rows, shape.columns}, shape.y_dtype, 3)),
        args{.dtype = dtype,
             .y_dtype = shape.y_dtype,
             .accumulate = shape.accumulate,
             .rows = rows,
             .depth = shape.depth,
             .columns = shape.columns,
             .x = x.raw(),
             .y = y.raw(),
             .weight = weight.raw(),
             .groups = {}} {}
  testing::OnDevice x, weight, y;
  LinearCudaProduct args;
};

class DenseProductsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (IsSkipped()) return;  // no GPU
    testing::set_run_order(testing::run_orders().front());
    device_.emplace(1, detect_isa(), Device::kCuda);
  }
  void TearDown() override { dense_products().use(nullptr); }

  void offer(std::vector<Compute> runs, DenseProducts& products) {
    calls_ = {};
    products.use(
        [this, runs = std::move(runs)] { return std::make_unique<FakeLibrary>(runs, calls_); });
  }
  void offer(std::vector<Compute> runs) { offer(std::move(runs), products_); }

  /// Whether the library computes it; then it has the kernels' bits.
  bool is_given_away(const DenseShape& shape, int64_t rows = kRows) {
    const Operands library(shape, rows), kernels(shape, rows);
    if (!products_.run(*device_, library.args, shape.transposed)) {
      EXPECT_TRUE(same_bits(library.y.to_host(), kernels.y.to_host())) << "y is touched";
      return false;
    }
    run_kernels(kernels.args, shape.transposed);
    EXPECT_TRUE(same_bits(library.y.to_host(), kernels.y.to_host())) << shape;
    return true;
  }

  std::optional<ExecContext> device_;
  Calls calls_;
  DenseProducts products_;
};

TEST_F(DenseProductsTest, TheFirstAlgorithmWithTheKernelsBitsIsPinned) {
  const Compute descending = ordered([](std::vector<double> products) {
    return sum_in_steps({products.rbegin(), products.rend()}, 16);
  });
  for (const DenseShape& shape : kShapes) {
    SCOPED_TRACE(text(shape));
    offer({descending, run_kernels, run_kernels});
    EXPECT_EQ(products_.verdict(shape), "kernels, no library was asked");
    EXPECT_TRUE(is_given_away(shape));
    EXPECT_TRUE(products_.verdict(shape).starts_with("algorithm 2 of 3"));
    const std::vector<int> once = calls_.runs;
    for (int64_t rows : {int64_t{256}, int64_t{901}}) EXPECT_TRUE(is_given_away(shape, rows));
    EXPECT_EQ(calls_.runs, (std::vector<int>{once[0], once[1] + 2, once[2]}));
    EXPECT_EQ(calls_.asked, 1);
    EXPECT_EQ(calls_.opened, 1);
  }
}

// What exactness costs is measured so.
TEST_F(DenseProductsTest, TheFirstAlgorithmIsTakenUnprovenWhereThatIsAskedFor) {
  products_.use(
      [this] {
        return std::make_unique<FakeLibrary>(std::vector<Compute>{ordered(steps(8)), run_kernels},
                                             calls_);
      },
      Accept::kFirst);
  const Operands operands(kForward, kRows);
  EXPECT_TRUE(products_.run(*device_, operands.args, false));
  EXPECT_EQ(calls_.runs, (std::vector<int>{1, 0}));
  EXPECT_EQ(products_.verdict(kForward), "algorithm 1, unproven");
  offer({ordered(steps(8))});
  EXPECT_FALSE(is_given_away(kForward));
}

// On the host, from the specification of the emulator's tensor cores.
TEST_F(DenseProductsTest, TheSameOrderIsChosen) {
  if (!device_memory().is_emulated) GTEST_SKIP() << "a GPU rounds in its own way";
  for (const DenseShape& shape : kShapes) {
    offer({ordered(steps(16))});
    EXPECT_TRUE(is_given_away(shape)) << shape;
  }
}

TEST_F(DenseProductsTest, AnotherOrderIsRefused) {
  const std::map<std::string, Order> orders = {
      {"one by one", steps(1)},
      {"steps of eight", steps(8)},
      {"steps of 32", steps(32)},
      {"one rounding", steps(1 << 20)},
      {"descending",
       [](std::vector<double> products) {
         return sum_in_steps({products.rbegin(), products.rend()}, 16);
       }},
      {"halves", parts(2, [](size_t i, size_t depth) { return i / (depth / 2); })},
      {"in turn", parts(2, [](size_t i, size_t) { return i / 16 % 2; })},
      {"even and odd", parts(2, [](size_t i, size_t) { return i % 2; })}};
  for (const DenseShape& shape : kShapes)
    for (const auto& [name, order] : orders) {
      offer({ordered(order)});
      EXPECT_FALSE(is_given_away(shape)) << name << ": " << shape;
      EXPECT_TRUE(products_.verdict(shape).starts_with("none of 1"));
    }
}

TEST_F(DenseProductsTest, WhatIsWrongSomewhereIsRefused) {
  const std::map<std::string, Compute> runs = {
      {"tails of 64", wrong_last_row([](int64_t rows) { return rows % 64 != 0; })},
      {"no tail", wrong_last_row([](int64_t rows) { return rows % 64 == 0; })},
      {"one number of rows", wrong_last_row([](int64_t rows) { return rows == 391; })},
      {"many rows", wrong_last_row([](int64_t rows) { return rows > 1000; })},
      {"first element",
       changed([](const LinearCudaProduct&, int64_t i, float y) { return i == 0 ? next(y) : y; })},
      {"denormals", device_memory().is_emulated ? ordered(steps(16, keep))
                                                : changed([](const LinearCudaProduct&, int64_t,
                                                             float y) { return flush(y); })},
      {"adds",
       [](LinearCudaProduct args, bool transposed) {
         args.accumulate = true;
         run_kernels(args, transposed);
       }},
      {"does nothing", [](const LinearCudaProduct&, bool) {}},
      {"throws", [](const LinearCudaProduct&, bool) { throw std::runtime_error("in vain"); }},
      {"throws late", [](const LinearCudaProduct& args, bool transposed) {
         if (args.rows > 1000) throw std::runtime_error("in vain");
         run_kernels(args, transposed);
       }}};
  for (const auto& [name, run] : runs) {
    offer({run});
    EXPECT_FALSE(is_given_away(kForward)) << name;
    offer({run, run_kernels});
    EXPECT_TRUE(is_given_away(kForward)) << name;
  }
}

TEST_F(DenseProductsTest, ASumIsRoundedOnceWhereItIsAdded) {
  const DenseShape shape{true, DType::kBF16, true, 40, 48};
  offer({[](LinearCudaProduct args, bool transposed) {
    const std::vector<bf16> before = from_device<bf16>(args.y, args.rows * args.columns);
    args.accumulate = false;
    run_kernels(args, transposed);
    change_y(args,
             [&](int64_t i, float y) { return to_float(before[static_cast<size_t>(i)]) + y; });
  }});
  EXPECT_FALSE(is_given_away(shape));
}

TEST_F(DenseProductsTest, EachShapeIsProvedByItself) {
  for (const DenseShape& bad : kShapes) {
    SCOPED_TRACE(text(bad));
    offer({[&](const LinearCudaProduct& args, bool transposed) {
      const DenseShape shape{transposed, args.y_dtype, args.accumulate, args.columns, args.depth};
      if (shape != bad) run_kernels(args, transposed);
    }});
    for (const DenseShape& shape : {kShapes[0], kShapes[2], kShapes[4]})
      EXPECT_EQ(is_given_away(shape), shape != bad) << shape;
    EXPECT_EQ(calls_.opened, 1);
    EXPECT_EQ(calls_.asked, 3);
  }
}

TEST_F(DenseProductsTest, WhatIsNotOffered) {
  offer({run_kernels});
  EXPECT_FALSE(is_given_away(kForward, DenseProducts::kLeastRows - 1));
  EXPECT_FALSE(is_given_away({false, DType::kBF16, false, 28, 64}));
  EXPECT_FALSE(is_given_away({false, DType::kBF16, false, 24, 60}));
  const DenseShape wide{false, DType::kF32, false, 24, 64};
  const Operands fp32(wide, kRows, DType::kF32);
  EXPECT_FALSE(products_.run(*device_, fp32.args, false));
  Operands grouped(kForward, kRows);
  grouped.args.groups.count = 2;
  EXPECT_FALSE(products_.run(*device_, grouped.args, false));
  const Operands captured(kForward, kRows);
  const CudaGraph graph(std::make_shared<MemoryPool>(),
                        [&] { EXPECT_FALSE(products_.run(*device_, captured.args, false)); });
  EXPECT_EQ(calls_.opened, 0);
  EXPECT_TRUE(is_given_away(kForward, DenseProducts::kLeastRows));
}

TEST_F(DenseProductsTest, WithoutALibraryAllIsLeftToTheKernels) {
  EXPECT_FALSE(is_given_away(kForward));
  int opened = 0;
  products_.use([&] {
    ++opened;
    return nullptr;
  });
  EXPECT_FALSE(is_given_away(kForward));
  EXPECT_FALSE(is_given_away(kForward));
  EXPECT_EQ(opened, 1);
  offer({});
  EXPECT_FALSE(is_given_away(kForward));
  EXPECT_EQ(products_.verdict(kForward), "the library has no algorithm");
}

TEST_F(DenseProductsTest, AnErrorOfThePinnedAlgorithmIsPassedOn) {
  offer({[](const LinearCudaProduct& args, bool transposed) {
    if (args.rows == kRows) throw std::runtime_error("no such luck");
    run_kernels(args, transposed);
  }});
  EXPECT_TRUE(is_given_away(kForward, kRows + 1));
  const Operands operands(kForward, kRows);
  EXPECT_THROW(products_.run(*device_, operands.args, false), std::runtime_error);
}

/// linear.h's ops on one problem.
std::vector<Tensor> run_all(ExecContext& ctx) {
  const auto on_device = [](Shape shape, DType dtype, uint64_t seed) {
    return random_tensor(std::move(shape), dtype, seed).to(Device::kCuda);
  };
  const Tensor x = on_device({kRows, 64}, DType::kBF16, 1);
  const Tensor dy = on_device({kRows, 24}, DType::kBF16, 2);
  PackedWeight weight;
  pack_weight(ctx, on_device({24, 64}, DType::kF32, 3), DType::kBF16, true, weight);
  Tensor y = ctx.empty(dy.shape(), DType::kBF16), sum = on_device(dy.shape(), DType::kF32, 4);
  Tensor dx = ctx.empty(x.shape(), DType::kBF16), dx_sum = on_device(x.shape(), DType::kBF16, 5);
  linear_forward(ctx, x, weight, y);
  linear_forward(ctx, x, weight, sum, Write::kAccumulate);
  linear_dgrad(ctx, dy, weight, dx);
  linear_dgrad(ctx, dy, weight, dx_sum, Write::kAccumulate);
  return {y.to(Device::kCpu), sum.to(Device::kCpu), dx.to(Device::kCpu), dx_sum.to(Device::kCpu)};
}

TEST_F(DenseProductsTest, TheOpsOfLinearAreGivenAwayAndKeepTheirBits) {
  const std::vector<Tensor> expected = run_all(*device_);
  offer({run_kernels}, dense_products());
  const std::vector<Tensor> first = run_all(*device_), second = run_all(*device_);
  EXPECT_EQ(calls_.asked, 4);
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_TRUE(same_bits(first[i], expected[i])) << i;
    EXPECT_TRUE(same_bits(second[i], expected[i])) << i;
  }
}

TEST_F(DenseProductsTest, GradientsOfWeightsAndGroupsAreNot) {
  offer({run_kernels}, dense_products());
  const auto on_device = [](Shape shape, DType dtype) {
    return random_tensor(std::move(shape), dtype, 1).to(Device::kCuda);
  };
  const Tensor x = on_device({2 * kRows, 64}, DType::kBF16);
  Tensor y = on_device({2 * kRows, 24}, DType::kBF16);
  Tensor dweight = on_device({24, 64}, DType::kF32);
  linear_wgrad(*device_, y, x, dweight);
  PackedWeight weight;
  pack_weight(*device_, dweight, DType::kBF16, true, weight);
  grouped_linear_forward(*device_, x, GroupOffsets::even(2, kRows), WeightList({&weight, &weight}),
                         y);
  EXPECT_EQ(calls_.opened, 0);
}

// cuBLASLt itself, at numbers of rows that no probe has.
TEST_F(DenseProductsTest, CublasLtHasTheKernelsBitsForAnyNumberOfRows) {
  if (open_cublaslt(program_directory()) == nullptr)
    GTEST_SKIP() << describe_cublaslt(program_directory());
  products_.use([] { return open_cublaslt(program_directory()); });
  for (DenseShape shape : kShapes) {
    shape.columns *= 64;
    shape.depth *= 32;
    for (int64_t rows : {256, 300, 777, 1024, 2049, 4096, 8191}) is_given_away(shape, rows);
    std::printf("%s: %s\n", text(shape).c_str(), products_.verdict(shape).c_str());
  }
}

}  // namespace
}  // namespace moerl::kernels
