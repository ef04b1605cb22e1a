#pragma once
#include <string_view>

namespace moerl::embedded {

/// A file of the source tree that is part of the program.
struct File {
  std::string_view name, content;
};

}  // namespace moerl::embedded
