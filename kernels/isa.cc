#include "kernels/isa.h"

#include <sys/syscall.h>
#include <unistd.h>

#include "common/check.h"

namespace moerl {
namespace {

bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

bool has_amx() {
  constexpr int kArchReqXcompPerm = 0x1023, kXfeatureTileData = 18;
  unsigned eax = 7, ebx = 0, ecx = 0, edx = 0;
  __asm__("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  const bool has_bits = (edx >> 24 & 1) != 0 && (edx >> 22 & 1) != 0;  // AMX-TILE, AMX-BF16
  return has_avx512() && has_bits &&
         ::syscall(SYS_arch_prctl, kArchReqXcompPerm, kXfeatureTileData) == 0;
}

}  // namespace

Isa detect_isa() {
  static const Isa isa = has_amx()      ? Isa::kAmx
                         : has_avx512() ? Isa::kAvx512
                         : has_avx2()   ? Isa::kAvx2
                                        : Isa::kPortable;
  return isa;
}

Isa parse_isa(std::string_view name) {
  for (Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512, Isa::kAmx}) {
    if (name != isa_name(isa)) continue;
    check(isa <= detect_isa(), "MOERL_ISA: this machine lacks '", name, "'; its highest level is '",
          isa_name(detect_isa()), "'");
    return isa;
  }
  throw std::invalid_argument(concat("MOERL_ISA: unknown instruction level '", name,
                                     "', expected portable, avx2, avx512 or amx"));
}

}  // namespace moerl
