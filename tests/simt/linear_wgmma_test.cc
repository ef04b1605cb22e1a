// The products by Hopper's wgmma, and when they stand in for those of mma.sync.
#include <memory>
#include <stdexcept>

#include "kernels/cuda/graph.h"
#include "kernels/cuda/wgmma_proof.h"
#include "kernels/gemm/linear.h"
#include "kernels/gemm/wgmma_products.h"
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

constexpr int kTileWidths[] = {128, 256};

/// Skips where the device has no wgmma.
class LinearWgmmaTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (IsSkipped()) return;
    if (!device_has_wgmma()) GTEST_SKIP() << "no wgmma on " << device_memory().architecture();
  }
};

/// y = x W^T, or x W, by wgmma with tiles of that width; 0: by mma.sync.
Tensor multiply(const Tensor& x, const Tensor& w, bool transposed, const Tensor& before,
                int tile_columns, Write write = Write::kOverwrite) {
  const OnDevice x_(x), w_(w), y_(before);
  LinearCudaProduct args = product(x_, x, w_, y_, before);
  args.accumulate = write == Write::kAccumulate;
  const LinearWgmmaCuda& wgmma = cuda_ops<LinearWgmmaCuda>();
  const LinearCuda& mma = cuda_ops<LinearCuda>();
  if (tile_columns == 0)
    (transposed ? mma.dgrad : mma.forward)(args);
  else
    (transposed ? wgmma.dgrad : wgmma.forward)(args, tile_columns);
  return y_.to_host();
}

Tensor wgrad(const Tensor& dy, const Tensor& x, const Tensor& before, int tile_columns) {
  const OnDevice dy_(dy), x_(x), dweight_(before);
  const LinearCudaWgrad args{.dtype = x.dtype(),
                             .tokens = x.dim(0),
                             .rows = dy.dim(1),
                             .columns = x.dim(1),
                             .dy = dy_.raw(),
                             .x = x_.raw(),
                             .dweight = dweight_.data(),
                             .dweights = nullptr,
                             .groups = {}};
  if (tile_columns == 0)
    cuda_ops<LinearCuda>().wgrad(args);
  else
    cuda_ops<LinearWgmmaCuda>().wgrad(args, tile_columns);
  return dweight_.to_host();
}

// Tokens, outputs, inputs: a corner of one tile; tails of rows, columns and depth, the latter of up
// to 32 and of more; for each op more depth than all stages hold twice over.
constexpr std::array<int64_t, 3> kShapes[] = {
    {1, 8, 8}, {5, 72, 616}, {130, 616, 96}, {616, 136, 40}};

TEST_F(LinearWgmmaTest, ForwardEqualsTheReference) {
  for (const auto& [tokens, out, in] : kShapes) {
    const Problem p(DType::kBF16, tokens, out, in);
    const auto want = ref::linear_forward(matrix(p.x), matrix(p.w));
    const auto magnitude = ref::linear_forward(absolute(matrix(p.x)), absolute(matrix(p.w)));
    for_each_order([&, tokens = tokens, out = out, in = in] {
      for (int width : kTileWidths)
        for (DType y_dtype : {DType::kF32, DType::kBF16})
          expect_near(multiply(p.x, p.w, false, random_tensor({tokens, out}, y_dtype, 4), width),
                      want, magnitude, static_cast<size_t>(in));
    });
  }
}

TEST_F(LinearWgmmaTest, DgradEqualsTheReferenceAndAccumulates) {
  for (const auto& [tokens, out, in] : kShapes) {
    const Problem p(DType::kBF16, tokens, out, in);
    const auto depth = static_cast<size_t>(out);
    for (DType dtype : {DType::kF32, DType::kBF16}) {
      const Tensor before = random_tensor({tokens, in}, dtype, 4);
      auto want = ref::linear_dgrad(matrix(p.dy), matrix(p.w));
      const auto magnitude = ref::linear_dgrad(absolute(matrix(p.dy)), absolute(matrix(p.w)));
      for_each_order([&] {
        for (int width : kTileWidths)
          expect_near(multiply(p.dy, p.w, true, before, width), want, magnitude, depth);
      });
      const std::vector<double> added = to_doubles(before);
      for (size_t i = 0; i < added.size(); ++i) want.values[i] += added[i];
      for (int width : kTileWidths)
        expect_near(multiply(p.dy, p.w, true, before, width, Write::kAccumulate), want, magnitude,
                    depth);
    }
  }
}

TEST_F(LinearWgmmaTest, WgradAddsTheReference) {
  for (const auto& [tokens, out, in] : kShapes) {
    const Problem p(DType::kBF16, tokens, out, in);
    const Tensor before = random_tensor({out, in}, DType::kF32, 4);
    auto want = ref::linear_wgrad(matrix(p.dy), matrix(p.x));
    auto magnitude = ref::linear_wgrad(absolute(matrix(p.dy)), absolute(matrix(p.x)));
    const std::vector<double> added = to_doubles(before);
    for (size_t i = 0; i < added.size(); ++i) {
      want.values[i] += added[i];
      magnitude.values[i] += std::fabs(added[i]);
    }
    for_each_order([&, tokens = tokens] {
      for (int width : kTileWidths)
        expect_near(wgrad(p.dy, p.x, before, width), want, magnitude, static_cast<size_t>(tokens));
    });
  }
}

// Groups of no row, of one, of more than one tile; the grid has more tiles than rows need.
TEST_F(LinearWgmmaTest, GroupsEqualProductsOfTheirOwn) {
  for_each_order([&] {
    const std::vector<int64_t> offsets = {0, 0, 1, 131, 150, 150};
    const size_t count = offsets.size() - 1;
    const Problem p(DType::kBF16, 150, 40, 72);
    std::vector<Tensor> weights, dweights;
    std::vector<std::unique_ptr<OnDevice>> weights_, dweights_;
    std::vector<const void*> weight_pointers;
    std::vector<float*> dweight_pointers;
    for (size_t g = 0; g < count; ++g) {
      weights.push_back(random_tensor({40, 72}, DType::kBF16, 10 + g));
      dweights.push_back(random_tensor({40, 72}, DType::kF32, 20 + g));
      weight_pointers.push_back(
          weights_.emplace_back(std::make_unique<OnDevice>(weights[g]))->raw());
      dweight_pointers.push_back(
          dweights_.emplace_back(std::make_unique<OnDevice>(dweights[g]))->data());
    }
    const ArrayOnDevice<int64_t> offsets_(offsets);
    const ArrayOnDevice<const void*> pointers_(weight_pointers);
    const ArrayOnDevice<float*> dweight_pointers_(dweight_pointers);
    const LinearGroups groups{.count = static_cast<int64_t>(count),
                              .offsets = offsets_.data(),
                              .rows_each = 0,
                              .weights = pointers_.data()};
    const OnDevice x_(p.x), dy_(p.dy), nothing(Tensor::zeros({1}, DType::kF32));
    const OnDevice y_(p.dy.shape(), DType::kBF16), dx_(p.x.shape(), DType::kBF16);
    LinearCudaProduct forward = product(x_, p.x, nothing, y_, p.dy);
    LinearCudaProduct dgrad = product(dy_, p.dy, nothing, dx_, p.x);
    forward.weight = dgrad.weight = nullptr;
    forward.groups = dgrad.groups = groups;
    const LinearWgmmaCuda& ops = cuda_ops<LinearWgmmaCuda>();
    for (int width : kTileWidths) {
      ops.forward(forward, width);
      ops.dgrad(dgrad, width);
      const Tensor y = y_.to_host(), dx = dx_.to_host();
      for (size_t g = 0; g < count; ++g) {
        const Tensor x = p.x.rows(offsets[g], offsets[g + 1]).clone();
        const Tensor dy = p.dy.rows(offsets[g], offsets[g + 1]).clone();
        if (offsets[g] == offsets[g + 1]) continue;
        EXPECT_TRUE(same_bits(y.rows(offsets[g], offsets[g + 1]),
                              multiply(x, weights[g], false, dy, width)));
        EXPECT_TRUE(same_bits(dx.rows(offsets[g], offsets[g + 1]),
                              multiply(dy, weights[g], true, x, width)));
      }
    }
    ops.wgrad(
        {DType::kBF16, 150, 40, 72, dy_.raw(), x_.raw(), nullptr, dweight_pointers_.data(), groups},
        256);
    for (size_t g = 0; g < count; ++g) {
      const Tensor x = p.x.rows(offsets[g], offsets[g + 1]).clone();
      const Tensor dy = p.dy.rows(offsets[g], offsets[g + 1]).clone();
      const bool has_rows = offsets[g] < offsets[g + 1];
      EXPECT_TRUE(same_bits(dweights_[g]->to_host(),
                            has_rows ? wgrad(dy, x, dweights[g], 256) : dweights[g]));
    }
  });
}

/// Whether products of this process are given to wgmma.
bool is_used() {
  ExecContext ctx(1, detect_isa(), Device::kCuda);
  WgmmaProducts products;
  const OnDevice x({128, 64}, DType::kBF16), w({128, 64}, DType::kBF16);
  const OnDevice y({128, 128}, DType::kF32);
  return products.run(
      ctx, {DType::kBF16, DType::kF32, false, 128, 64, 128, x.raw(), y.raw(), w.raw(), {}}, false);
}

// Whether the hardware rounds alike is for WgmmaProducts to find out.
TEST_F(LinearWgmmaTest, TheSumsHaveTheOrderOfMmaSync) {
  if (!device_memory().is_emulated && !is_used())
    GTEST_SKIP() << "wgmma rounds otherwise than mma.sync";
  for_each_order([&] {
    for (const auto& [tokens, out, in] : kShapes) {
      const Problem p(DType::kBF16, tokens, out, in);
      const Tensor dweight = random_tensor({out, in}, DType::kF32, 4);
      for (int width : kTileWidths) {
        EXPECT_TRUE(
            same_bits(multiply(p.x, p.w, false, p.dy, width), multiply(p.x, p.w, false, p.dy, 0)));
        EXPECT_TRUE(
            same_bits(multiply(p.dy, p.w, true, p.x, width), multiply(p.dy, p.w, true, p.x, 0)));
        EXPECT_TRUE(same_bits(wgrad(p.dy, p.x, dweight, width), wgrad(p.dy, p.x, dweight, 0)));
      }
    }
  });
}

// ---- When they stand in ----

enum class Op { kNone, kForward, kDgrad, kWgrad };
int calls = 0;
Op rounds_otherwise = Op::kNone;

/// The last bit of the first number of `y` becomes another if the op is to round otherwise.
void nudge(Op op, void* y) {
  ++calls;
  if (op != rounds_otherwise) return;
  uint32_t bits = 0;
  device_memory().copy_to_host(&bits, y, sizeof(bits));
  bits ^= 1;
  device_memory().copy_to_device(y, &bits, sizeof(bits));
}
void fake_forward(const LinearCudaProduct& args, int) {
  cuda_ops<LinearCuda>().forward(args);
  nudge(Op::kForward, args.y);
}
void fake_dgrad(const LinearCudaProduct& args, int) {
  cuda_ops<LinearCuda>().dgrad(args);
  nudge(Op::kDgrad, args.y);
}
void fake_wgrad(const LinearCudaWgrad& args, int) {
  cuda_ops<LinearCuda>().wgrad(args);
  nudge(Op::kWgrad, args.dweight);
}

/// mma.sync's kernels stand in for wgmma's, so that every device will do.
class WgmmaProductsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (IsSkipped()) return;
    calls = 0;
    rounds_otherwise = Op::kNone;
    real_ = registered_cuda_ops<LinearWgmmaCuda>;
    registered_cuda_ops<LinearWgmmaCuda> = &fake_;
    if (!device_has_wgmma()) GTEST_SKIP() << "not asked on " << device_memory().architecture();
    ctx_ = std::make_unique<ExecContext>(1, detect_isa(), Device::kCuda);
  }
  void TearDown() override {
    if (real_ != nullptr) registered_cuda_ops<LinearWgmmaCuda> = real_;
  }

  /// Calls of the stand-in for one product of these extents; -1: it was not computed by it.
  int calls_of(WgmmaProducts& products, int64_t rows, int64_t columns, int64_t depth,
               DType dtype = DType::kBF16, int64_t groups = 0) {
    const OnDevice x({rows, depth}, dtype), y({rows, columns}, dtype), w({columns, depth}, dtype);
    const int before = calls;
    LinearCudaProduct args{dtype,   dtype,   false,   rows,    depth,
                           columns, x.raw(), y.raw(), w.raw(), {.count = groups}};
    return products.run(*ctx_, args, false) ? calls - before : -1;
  }

  LinearWgmmaCuda fake_{fake_forward, fake_dgrad, fake_wgrad};
  const LinearWgmmaCuda* real_ = nullptr;
  std::unique_ptr<ExecContext> ctx_;
};

TEST_F(WgmmaProductsTest, ComputeWhatIsLargeOnceTheyHaveProvedTheirBits) {
  WgmmaProducts products;
  EXPECT_EQ(products.verdict(), "wgmma not asked");
  EXPECT_EQ(calls_of(products, 127, 128, 64), -1);
  EXPECT_EQ(calls_of(products, 128, 120, 64), -1);
  EXPECT_EQ(calls_of(products, 128, 128, 56), -1);
  EXPECT_EQ(calls_of(products, 128, 132, 64), -1);
  EXPECT_EQ(calls_of(products, 128, 128, 68), -1);
  EXPECT_EQ(calls_of(products, 128, 128, 64, DType::kF32), -1);
  EXPECT_EQ(calls_of(products, 255, 128, 64, DType::kBF16, 2), -1);
  EXPECT_EQ(calls, 0);
  EXPECT_GT(calls_of(products, 128, 128, 64), 1);  // with the proof
  EXPECT_EQ(calls_of(products, 200, 136, 72), 1);
  EXPECT_EQ(products.verdict(), "wgmma has the bits of mma.sync");
  enable_wgmma(false);
  EXPECT_EQ(calls_of(products, 128, 128, 64), -1);
  enable_wgmma(true);
  EXPECT_EQ(calls_of(products, 128, 128, 64), 1);
}

TEST_F(WgmmaProductsTest, ComputeNothingIfABitDiffers) {
  for (Op op : {Op::kForward, Op::kDgrad, Op::kWgrad}) {
    rounds_otherwise = op;
    WgmmaProducts products;
    EXPECT_EQ(calls_of(products, 128, 128, 64), -1);
    EXPECT_EQ(products.verdict(), "mma.sync, wgmma has other bits");
    const int proof = calls;
    EXPECT_EQ(calls_of(products, 256, 256, 64), -1);
    EXPECT_EQ(calls, proof);
  }
}

TEST_F(WgmmaProductsTest, TheKernelsProveThemselves) {
  registered_cuda_ops<LinearWgmmaCuda> = real_;
  if (!device_memory().is_emulated) GTEST_SKIP() << "is it so? " << is_used();
  EXPECT_TRUE(is_used());
}

TEST_F(WgmmaProductsTest, AreNotProvedInACapture) {
  WgmmaProducts products;
  const OnDevice x({128, 64}, DType::kBF16), y({128, 128}, DType::kBF16);
  const OnDevice w({128, 64}, DType::kBF16);
  const LinearCudaProduct args{DType::kBF16, DType::kBF16, false,   128,     64,
                               128,          x.raw(),      y.raw(), w.raw(), {}};
  bool computed = true;
  const auto capture = [&] {
    const CudaGraph graph(std::make_shared<MemoryPool>(), [&] {
      computed = products.run(*ctx_, args, false);
      if (!computed) cuda_ops<LinearCuda>().forward(args);
    });
  };
  capture();
  EXPECT_FALSE(computed);
  EXPECT_EQ(products.verdict(), "wgmma not asked");
  ASSERT_TRUE(products.run(*ctx_, args, false));
  capture();
  EXPECT_TRUE(computed);
}

}  // namespace
}  // namespace moerl::kernels
