// Each PTX instruction, or its twin in the emulator, does what its definition says. The numbers are
// small integers: every sum is exact, in whatever order and width the hardware adds it up.
#include <string>
#include <vector>

#include "common/rng.h"
#include "kernels/cuda/wgmma_proof.h"
#include "kernels/quant/e4m3.h"
#include "tests/simt/on_device.h"
#include "tests/simt/ptx_kernels.h"

namespace moerl::testing {
namespace {

/// Of -8 to 8.
std::vector<int> integers(int64_t count, uint64_t stream) {
  Rng rng(17, stream);
  std::vector<int> values;
  for (int64_t i = 0; i < count; ++i) values.push_back(static_cast<int>(rng.below(17)) - 8);
  return values;
}
template <typename T, typename Convert>
ArrayOnDevice<T> on_device(const std::vector<int>& values, const Convert& convert) {
  std::vector<T> converted;
  for (int value : values) converted.push_back(convert(static_cast<float>(value)));
  return ArrayOnDevice<T>(converted);
}
/// sums + a b^T.
std::vector<float> product(const std::vector<int>& a, const std::vector<int>& b,
                           const std::vector<int>& sums, int columns, int depth) {
  std::vector<float> out;
  for (size_t i = 0; i < sums.size(); ++i) {
    const size_t row = i / static_cast<size_t>(columns), column = i % static_cast<size_t>(columns);
    int sum = sums[i];
    for (size_t k = 0, n = static_cast<size_t>(depth); k < n; ++k)
      sum += a[row * n + k] * b[column * n + k];
    out.push_back(static_cast<float>(sum));
  }
  return out;
}
float same(float value) { return value; }

TEST(PtxTest, CpAsyncCopiesWhatIsThereAndZerosBehind) {
  std::vector<uint32_t> in(128);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<uint32_t>(0x01020304 * (i + 1));
  const ArrayOnDevice<uint32_t> in_(in);
  for_each_order([&] {
    for (uint32_t valid : {0u, 4u, 8u, 16u}) {
      const ArrayOnDevice<uint32_t> out_(std::vector<uint32_t>(128, ~0u));
      run_cp_async(in_.data(), valid, out_.data());
      const std::vector<uint32_t> out = out_.to_host();
      for (size_t i = 0; i < in.size(); ++i)
        ASSERT_EQ(out[i], i % 4 * 4 < valid ? in[i] : 0) << "word " << i << ", valid " << valid;
    }
  });
}

TEST(PtxTest, LdmatrixLoadsMatricesAndTheirTransposes) {
  std::vector<uint16_t> in(256);
  for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<uint16_t>(i * 3 + 1);
  const ArrayOnDevice<uint16_t> in_(in);
  for_each_order([&] {
    for (bool transposed : {false, true}) {
      const ArrayOnDevice<uint16_t> out_(std::vector<uint16_t>(256, 0xFFFF));
      run_ldmatrix(transposed, in_.data(), out_.data());
      const std::vector<uint16_t> out = out_.to_host();
      for (size_t i = 0; i < in.size(); ++i) {
        const size_t matrix = i / 64 * 64, row = i / 8 % 8, column = i % 8;
        ASSERT_EQ(out[i], in[matrix + (transposed ? column * 8 + row : row * 8 + column)])
            << i << (transposed ? ", transposed" : "");
      }
    }
  });
}

TEST(PtxTest, MmaOfBf16MultipliesAndAdds) {
  const std::vector<int> a = integers(16 * 16, 1), b = integers(8 * 16, 2), d = integers(16 * 8, 3);
  const auto a_ = on_device<bf16>(a, to_bf16), b_ = on_device<bf16>(b, to_bf16);
  for_each_order([&] {
    const auto d_ = on_device<float>(d, same);
    run_mma_bf16(a_.data(), b_.data(), d_.data());
    EXPECT_EQ(d_.to_host(), product(a, b, d, 8, 16));
  });
}

TEST(PtxTest, MmaOfE4m3MultipliesAndAdds) {
  const std::vector<int> a = integers(16 * 32, 4), b = integers(8 * 32, 5), d = integers(16 * 8, 6);
  const auto a_ = on_device<uint8_t>(a, kernels::to_e4m3),
             b_ = on_device<uint8_t>(b, kernels::to_e4m3);
  for_each_order([&] {
    const auto d_ = on_device<float>(d, same);
    run_mma_e4m3(a_.data(), b_.data(), d_.data());
    EXPECT_EQ(d_.to_host(), product(a, b, d, 8, 32));
  });
}

std::vector<WgmmaForm> wgmma_forms() {
  std::vector<WgmmaForm> forms;
  for (int columns : {64, 128, 256})
    for (bool transposed_a : {false, true})
      for (bool transposed_b : {false, true})
        for (int step : {0, 1, 3})
          forms.push_back({columns, transposed_a, transposed_b, false, step});
  for (bool transposed_b : {false, true})
    for (int step : {0, 2}) forms.push_back({128, false, transposed_b, true, step});
  return forms;
}

class WgmmaPtxTest : public ::testing::TestWithParam<WgmmaForm> {};
INSTANTIATE_TEST_SUITE_P(Forms, WgmmaPtxTest, ::testing::ValuesIn(wgmma_forms()),
                         [](const auto& info) {
                           const WgmmaForm& form = info.param;
                           return std::string("n") + std::to_string(form.columns) +
                                  (form.a_in_registers ? "_registers"
                                   : form.transposed_a ? "_transposed"
                                                       : "_plain") +
                                  (form.transposed_b ? "_transposed" : "_plain") + "_step" +
                                  std::to_string(form.step);
                         });

TEST_P(WgmmaPtxTest, MultipliesAndAdds) {
  if (IsSkipped()) return;  // no GPU
  if (!kernels::device_has_wgmma()) GTEST_SKIP() << "no Hopper";
  const WgmmaForm& form = GetParam();
  const std::vector<int> a = integers(64 * 16, 7), b = integers(form.columns * 16, 8),
                         d = integers(64 * form.columns, 9);
  const auto a_ = on_device<bf16>(a, to_bf16), b_ = on_device<bf16>(b, to_bf16);
  for_each_order([&] {
    const auto d_ = on_device<float>(d, same);
    run_wgmma(form, a_.data(), b_.data(), d_.data());
    EXPECT_EQ(d_.to_host(), product(a, b, d, form.columns, 16));
  });
}

}  // namespace
}  // namespace moerl::testing
