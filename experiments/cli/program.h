#pragma once

namespace moerl::cli {

/// The moerl program. @return its exit status.
int run_program(int argc, char** argv);

}  // namespace moerl::cli
