#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "kernels/cuda/backend.h"
#include "tests/simt/orders.h"

namespace moerl::testing {

std::vector<std::string> run_orders() { return {"gpu"}; }
void set_run_order(const std::string&) {}

namespace {

/// Skips every test where there is no GPU; fails it where one is demanded by MOERL_REQUIRE_GPU=1.
class NeedsGpu : public ::testing::EmptyTestEventListener {
  void OnTestStart(const ::testing::TestInfo&) override {
    if (kernels::cuda_is_available()) return;
    const char* required = std::getenv("MOERL_REQUIRE_GPU");
    if (required != nullptr && std::string(required) == "1")
      FAIL() << "MOERL_REQUIRE_GPU is 1, and no device is there";
    GTEST_SKIP() << "no CUDA device";
  }
};

}  // namespace
}  // namespace moerl::testing

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  ::testing::UnitTest::GetInstance()->listeners().Append(new moerl::testing::NeedsGpu);
  return RUN_ALL_TESTS();
}
