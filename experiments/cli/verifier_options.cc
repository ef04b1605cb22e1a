#include "experiments/cli/verifier_options.h"

#include "common/check.h"

namespace moerl::cli {

reward::Options parse_verifier_options(const std::vector<std::string>& pairs) {
  reward::Options options;
  for (const std::string& pair : pairs) {
    const size_t equals = pair.find('=');
    check(equals != std::string::npos && equals > 0, "option '", pair,
          "' is not of the form key=value");
    options[pair.substr(0, equals)] = pair.substr(equals + 1);
  }
  return options;
}

}  // namespace moerl::cli
