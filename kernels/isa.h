#pragma once
#include <string_view>

namespace moerl {

/// CPU instruction levels, lowest first. All give the same bits.
enum class Isa { kPortable, kAvx2, kAvx512, kAmx };

constexpr const char* isa_name(Isa isa) {
  constexpr const char* kNames[] = {"portable", "avx2", "avx512", "amx"};
  return kNames[static_cast<int>(isa)];
}

/// The highest level of this machine, by feature bits (never by model number); asks the kernel for
/// the permission that AMX needs.
Isa detect_isa();

/// The level by its name. @throws std::invalid_argument if the name is unknown or the machine lacks
/// the level.
Isa parse_isa(std::string_view name);

}  // namespace moerl
