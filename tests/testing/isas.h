#pragma once
#include <string>
#include <vector>

#include "kernels/isa.h"

namespace moerl::testing {

/// The instruction levels that this machine can run, kPortable first.
inline std::vector<Isa> available_isas() {
  std::vector<Isa> isas;
  for (Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512, Isa::kAmx})
    if (isa <= detect_isa()) isas.push_back(isa);
  return isas;
}

/// Name of a test parameter: INSTANTIATE_TEST_SUITE_P(..., ValuesIn(available_isas()), IsaName()).
struct IsaName {
  template <typename Info>
  std::string operator()(const Info& info) const {
    return isa_name(info.param);
  }
};

}  // namespace moerl::testing
