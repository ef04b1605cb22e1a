#pragma once
#include <string>
#include <string_view>

namespace moerl::policy {

/// The code points that Unicode 15 to 16 added to a general category (Lu, L, …) or a script (Han,
/// …), as ranges inside a character class of PCRE2; empty if there are none. PCRE2's own tables may
/// be of Unicode 14, while those of the reference (Oniguruma in `tokenizers`) are of 16.
std::string newer_code_points(std::string_view property);

}  // namespace moerl::policy
