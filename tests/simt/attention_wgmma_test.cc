// The forward pass of attention by Hopper's wgmma.
#include "kernels/attention/attention_wgmma.h"

#include "kernels/cuda/wgmma_proof.h"
#include "tests/simt/attention_on_device.h"
#include "tests/testing/tolerance.h"

namespace moerl::kernels {
namespace {

using testing::AttentionProblem;
using testing::AttentionResult;
using testing::AttentionShape;
using testing::DeviceRunner;
using testing::expect_same_last;
using testing::for_each_order;
using testing::Kernels;
using testing::same_bits;

/// Skips where the device has no wgmma. Groups of heads that fill a tile of rows and that do not.
class AttentionWgmmaTest : public ::testing::TestWithParam<AttentionShape> {
 protected:
  void SetUp() override {
    if (IsSkipped()) return;
    if (!device_has_wgmma()) GTEST_SKIP() << "no wgmma on " << device_memory().architecture();
  }
  static DeviceRunner wgmma(const AttentionProblem& p) {
    return DeviceRunner(p, KvValues::kStored, Kernels::kWgmma);
  }
};
INSTANTIATE_TEST_SUITE_P(Shapes, AttentionWgmmaTest,
                         ::testing::Values(AttentionShape{3, 1, 192, 128, DType::kBF16},
                                           AttentionShape{2, 2, 128, 128, DType::kBF16}),
                         [](const auto& info) { return info.param.name(); });

// Lengths: less than a block of keys; tails of a pair of blocks in its first and in its second;
// more rows than a tile.
TEST_P(AttentionWgmmaTest, EqualsTheReferenceInEveryOrder) {
  const AttentionProblem problem(GetParam(), {1, 33, 60, 140});
  for_each_order([&] {
    const AttentionResult got = wgmma(problem).run(200);
    for (size_t i = 0; i < problem.lengths.size(); ++i) {
      const ref::AttentionOutput expected = ref::attention_forward(problem.only(i).ref_input());
      const int64_t begin = problem.first_row(i), end = begin + problem.lengths[i];
      EXPECT_TRUE(testing::all_near(got.o.rows(begin, end), expected.o, {4e-3, 8e-3}));
      EXPECT_TRUE(testing::all_near(got.lse.rows(begin, end), expected.lse, {1e-5, 1e-5}));
    }
  });
}

TEST_P(AttentionWgmmaTest, ARowHasTheSameBitsInChunksOfAnySizeAndAlone) {
  for_each_order([&] {
    const AttentionProblem problem(GetParam(), {40, 140});
    const AttentionResult whole = wgmma(problem).run(200);
    const AttentionResult chunks = wgmma(problem).run(50);
    EXPECT_TRUE(same_bits(chunks.o, whole.o));
    EXPECT_TRUE(same_bits(chunks.lse, whole.lse));
    const AttentionProblem alone = problem.only(1);
    EXPECT_TRUE(same_bits(wgmma(alone).run(200).o, whole.o.rows(40, 180)));
  });
}

// Whether the hardware rounds alike is for run_attention_on_wgmma to find out.
TEST_P(AttentionWgmmaTest, HasTheBitsOfMmaSync) {
  if (!device_memory().is_emulated) GTEST_SKIP() << "asked where it is used";
  for_each_order([&] {
    const AttentionProblem problem(GetParam(), {1, 33, 60, 140});
    const AttentionResult got = wgmma(problem).run(200), expected = DeviceRunner(problem).run(200);
    EXPECT_TRUE(same_bits(got.o, expected.o));
    EXPECT_TRUE(same_bits(got.lse, expected.lse));
    // Two splits and three; the last rows lie on both sides of a border.
    for (int64_t length : {kKvSplit + 20, 2 * kKvSplit + 1}) {
      const AttentionProblem splits(GetParam(), {length, 5});
      expect_same_last(splits, 30, wgmma(splits).run_last(30, false),
                       DeviceRunner(splits).run_last(30, false));
    }
  });
}

TEST(AttentionWgmmaProofTest, HoldsForTheEmulatorAndIsAskedForWhatFits) {
  ExecContext ctx(1, detect_isa(), Device::kCuda);
  AttentionForwardCuda args{.dims = {1, 1, 192, 128},
                            .is_bf16 = true,
                            .scale = 1.0f,
                            .rows = 0,
                            .values = &ctx,  // never read: there is no segment
                            .most_rows = 128,
                            .most_keys = 128};
  if (device_memory().is_emulated) {
    EXPECT_TRUE(run_attention_on_wgmma(ctx, args));
  }
  args.most_rows = 127;
  EXPECT_FALSE(run_attention_on_wgmma(ctx, args));
  args.most_rows = 128;
  args.dims.k_dim = 160;
  EXPECT_FALSE(run_attention_on_wgmma(ctx, args));
  args.dims.k_dim = 192;
  enable_wgmma(false);
  EXPECT_FALSE(run_attention_on_wgmma(ctx, args));
  enable_wgmma(true);
}

// Two halves that disagree, and one that cannot be asked.
/// mma.sync's kernel with another bit in one element of one result.
template <bool kInLse>
void forward_otherwise(const AttentionForwardCuda& args) {
  cuda_ops<AttentionCuda>().forward(args);
  void* place = kInLse ? static_cast<void*>(args.lse) : args.o;
  uint16_t bits = 0;
  device_memory().copy_to_host(&bits, place, sizeof(bits));
  bits ^= 1;
  device_memory().copy_to_device(place, &bits, sizeof(bits));
}

TEST(AttentionWgmmaProofTest, OneOtherBitIsSeen) {
  ExecContext ctx(1, detect_isa(), Device::kCuda);
  const AttentionWgmmaCuda* real = registered_cuda_ops<AttentionWgmmaCuda>;
  for (auto* forward : {forward_otherwise<false>, forward_otherwise<true>}) {
    const AttentionWgmmaCuda other{forward};
    registered_cuda_ops<AttentionWgmmaCuda> = &other;
    EXPECT_FALSE(attention_agrees_on_wgmma(ctx));
  }
  const AttentionWgmmaCuda same{cuda_ops<AttentionCuda>().forward};
  registered_cuda_ops<AttentionWgmmaCuda> = &same;
  EXPECT_TRUE(attention_agrees_on_wgmma(ctx));
  registered_cuda_ops<AttentionWgmmaCuda> = real;
}

TEST(WgmmaProofTest, RemembersWhatItFoundAndNotWhatFailed) {
  ExecContext ctx(1, detect_isa(), Device::kCuda);
  if (!device_memory().is_emulated) GTEST_SKIP() << "needs a device with wgmma";
  int asked = 0;
  WgmmaProof differs([&](ExecContext&) { return ++asked > 1; });
  EXPECT_FALSE(differs.result().has_value());
  EXPECT_FALSE(differs.holds(ctx));
  EXPECT_FALSE(differs.holds(ctx));
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(differs.result(), false);
  WgmmaProof fails_first([&](ExecContext&) {
    if (++asked == 2) throw std::runtime_error("out of memory");
    return true;
  });
  EXPECT_THROW(fails_first.holds(ctx), std::runtime_error);
  EXPECT_FALSE(fails_first.result().has_value());
  EXPECT_TRUE(fails_first.holds(ctx));
}

}  // namespace
}  // namespace moerl::kernels
