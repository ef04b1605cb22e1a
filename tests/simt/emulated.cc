#include <gtest/gtest.h>

#include "kernels/cuda/emulator/options.h"
#include "tests/simt/orders.h"

namespace moerl::testing {

std::vector<std::string> run_orders() { return {"forward", "reverse", "random"}; }

void set_run_order(const std::string& order) {
  simt::options().order = order == "forward"   ? simt::ThreadOrder::kForward
                          : order == "reverse" ? simt::ThreadOrder::kReverse
                                               : simt::ThreadOrder::kRandom;
}

}  // namespace moerl::testing

// Fibers that ended with an error leave what they held. Containers of the uninstrumented tests
// carry no marks.
extern "C" const char* __asan_default_options() {
  return "detect_leaks=0:detect_container_overflow=0";
}
extern "C" const char* __tsan_default_options() { return "halt_on_error=1:exitcode=66"; }

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}
