#include "common/rng.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace moerl {
namespace {

// Known answers of the reference implementation (Random123, kat_vectors, philox4x32 with 10
// rounds).
TEST(PhiloxTest, EqualsTheReferenceVectors) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({~0u, ~0u, ~0u, ~0u}, {~0u, ~0u}),
            (std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (std::array<uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(RngTest, StreamsRepeatAndDiffer) {
  Rng a(1, 2), b(1, 2), c(1, 3), d(2, 2);
  for (int i = 0; i < 100; ++i) {
    const uint64_t x = a.next_u64();
    EXPECT_EQ(x, b.next_u64());
    EXPECT_NE(x, c.next_u64());
    EXPECT_NE(x, d.next_u64());
  }
}

TEST(RngTest, BelowIsUniform) {
  Rng rng(5);
  constexpr uint32_t kBins = 7;
  constexpr int kDraws = 70000;
  int counts[kBins] = {};
  for (int i = 0; i < kDraws; ++i) {
    const uint32_t x = rng.below(kBins);
    ASSERT_LT(x, kBins);
    ++counts[x];
  }
  double chi2 = 0;
  for (int count : counts) chi2 += (count - 10000.0) * (count - 10000.0) / 10000.0;
  EXPECT_LT(chi2, 22.5);  // 99.9 % of chi-squared with 6 degrees of freedom
}

TEST(RngTest, NormalHasMeanZeroAndVarianceOne) {
  Rng rng(9);
  double sum = 0, squares = 0;
  constexpr int kDraws = 100000;
  for (int i = 0; i < kDraws; ++i) {
    const double x = rng.normal();
    ASSERT_TRUE(std::isfinite(x));
    sum += x;
    squares += x * x;
  }
  EXPECT_NEAR(sum / kDraws, 0, 0.015);
  EXPECT_NEAR(squares / kDraws, 1, 0.02);
}

TEST(SamplingUniformTest, DependsOnEachPartOfItsKey) {
  std::set<float> values;
  for (uint64_t seed : {1, 2})
    for (uint64_t prompt : {uint64_t{1}, uint64_t{1} << 40})
      for (uint32_t sample : {0u, 1u})
        for (uint32_t position : {0u, 7u})
          values.insert(sampling_uniform(seed, prompt, sample, position));
  EXPECT_EQ(values.size(), 16u);
  EXPECT_GE(*values.begin(), 0.0f);
  EXPECT_LT(*values.rbegin(), 1.0f);
}

TEST(Hash64Test, IsFnv1a) { EXPECT_EQ(hash64("foobar"), 0x85944171f73967e8u); }

}  // namespace
}  // namespace moerl
