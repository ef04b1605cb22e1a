#pragma once
#include <string>
#include <vector>

namespace moerl::testing {

// What differs between the test programs: emulated.cc for the emulator, on_gpu.cc for a GPU.

/// Ways to run a kernel: the emulator's thread orders; on a GPU just one.
std::vector<std::string> run_orders();
void set_run_order(const std::string& order);

}  // namespace moerl::testing
