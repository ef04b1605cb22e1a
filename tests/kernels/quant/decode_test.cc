#include "kernels/quant/decode.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "common/rng.h"
#include "kernels/quant/decode_ref.h"
#include "tests/testing/isas.h"

namespace moerl::kernels {
namespace {

class DecodeTest : public ::testing::TestWithParam<Isa> {
 protected:
  /// Decodes from an odd address.
  template <typename Stored>
  std::vector<float> decode(StoredFloat format, const std::vector<Stored>& stored,
                            float scale = 1) const {
    std::vector<std::byte> bytes(stored.size() * sizeof(Stored) + 1);
    std::memcpy(bytes.data() + 1, stored.data(), stored.size() * sizeof(Stored));
    std::vector<float> out(stored.size(), -1);
    decode_floats(GetParam(), format, bytes.data() + 1, static_cast<int64_t>(stored.size()), scale,
                  DType::kF32, out.data());
    expect_rounded(format, bytes, scale, out);
    return out;
  }

 private:
  /// bf16 is fp32 rounded once, at any count.
  static void expect_rounded(StoredFloat format, const std::vector<std::byte>& bytes, float scale,
                             const std::vector<float>& wide) {
    for (size_t count = wide.size() - std::min<size_t>(wide.size(), 33); count <= wide.size();
         ++count) {
      std::vector<bf16> narrow(count + 1, bf16{0xABCD});
      decode_floats(GetParam(), format, bytes.data() + 1, static_cast<int64_t>(count), scale,
                    DType::kBF16, narrow.data());
      for (size_t i = 0; i < count; ++i)
        ASSERT_EQ(narrow[i].bits, to_bf16(wide[i]).bits) << i << " of " << count;
      ASSERT_EQ(narrow.back().bits, 0xABCD) << "an element behind the last was written";
    }
  }
};

void expect_value(float got, double expected, size_t code) {
  if (std::isnan(expected)) {
    EXPECT_TRUE(std::isnan(got)) << code;
  } else {
    EXPECT_EQ(std::bit_cast<uint32_t>(got), std::bit_cast<uint32_t>(static_cast<float>(expected)))
        << code;
  }
}

TEST_P(DecodeTest, EveryE4m3CodeIsItsDefinition) {
  std::vector<uint8_t> codes(256);
  for (size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<uint8_t>(i);
  for (const float scale : {1.0f, 0.37f, -3e-5f}) {
    const std::vector<float> got = decode(StoredFloat::kE4M3, codes, scale);
    for (size_t i = 0; i < codes.size(); ++i)
      expect_value(got[i], static_cast<double>(scale) * ref::small_float(codes[i], 4, 3, false), i);
  }
}

// The rounding to bf16, checked by decode(), has a way of its own for scales of the usual size.
TEST_P(DecodeTest, E4m3MeetsScalesOfEverySize) {
  std::vector<uint8_t> codes;
  for (int round = 0; round < 2; ++round)
    for (int i = 0; i < 256; ++i)
      if ((i & 0x7F) != 0x7F || (round == 1 && i == 0xFF)) codes.push_back(static_cast<uint8_t>(i));
  Rng rng(5);
  for (int exponent = -126; exponent <= 127; ++exponent)
    for (const double sign : {1.0, -1.0}) {
      const auto scale = static_cast<float>(std::ldexp(sign * (1 + rng.uniform()), exponent));
      const std::vector<float> got = decode(StoredFloat::kE4M3, codes, scale);
      for (size_t i = 0; i < codes.size(); ++i)
        expect_value(got[i], static_cast<double>(scale) * ref::small_float(codes[i], 4, 3, false),
                     codes[i]);
    }
  for (const float scale : {0.0f, -0.0f, std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()})
    decode(StoredFloat::kE4M3, codes, scale);
}

TEST_P(DecodeTest, EveryF16IsItsDefinition) {
  std::vector<uint16_t> bits(65536);
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint16_t>(i);
  const std::vector<float> got = decode(StoredFloat::kF16, bits);
  for (size_t i = 0; i < bits.size(); ++i)
    expect_value(got[i], ref::small_float(bits[i], 5, 10, true), i);
}

TEST_P(DecodeTest, Bf16AndF32KeepTheirBits) {
  std::vector<uint16_t> bits(65536);
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint16_t>(i);
  const std::vector<float> got = decode(StoredFloat::kBF16, bits);
  for (size_t i = 0; i < bits.size(); ++i)
    ASSERT_EQ(std::bit_cast<uint32_t>(got[i]), static_cast<uint32_t>(i) << 16);
  const std::vector<uint32_t> words = {0, 1, 0x80000000, 0x7F800001, 0x3F800000, 0xFFFFFFFF};
  const std::vector<float> same = decode(StoredFloat::kF32, words);
  for (size_t i = 0; i < words.size(); ++i) EXPECT_EQ(std::bit_cast<uint32_t>(same[i]), words[i]);
}

TEST_P(DecodeTest, EveryLevelHasTheSameNans) {
  std::vector<uint16_t> bits(65536);
  for (size_t i = 0; i < bits.size(); ++i) bits[i] = static_cast<uint16_t>(i);
  const std::vector<float> f16 = decode(StoredFloat::kF16, bits);
  EXPECT_EQ(std::bit_cast<uint32_t>(f16[0x7C01]), 0x7FC02000u);
  EXPECT_EQ(std::bit_cast<uint32_t>(f16[0xFFFF]), 0xFFFFE000u);
  const std::vector<float> e4m3 = decode(StoredFloat::kE4M3, std::vector<uint8_t>{0x7F, 0xFF});
  EXPECT_EQ(std::bit_cast<uint32_t>(e4m3[0]), 0x7FF00000u);
  EXPECT_EQ(std::bit_cast<uint32_t>(e4m3[1]), 0xFFF00000u);
}

TEST_P(DecodeTest, NothingIsReadOrWrittenForNoNumbers) {
  for (StoredFloat format :
       {StoredFloat::kF32, StoredFloat::kBF16, StoredFloat::kF16, StoredFloat::kE4M3})
    for (DType dtype : {DType::kF32, DType::kBF16})
      decode_floats(GetParam(), format, nullptr, 0, 1, dtype, nullptr);
}

INSTANTIATE_TEST_SUITE_P(Isas, DecodeTest, ::testing::ValuesIn(testing::available_isas()),
                         testing::IsaName());

}  // namespace
}  // namespace moerl::kernels
