#pragma once
#include "kernels/isa.h"

namespace moerl::kernels {

/// Instruction levels that a *_cpu.cc file is compiled for; AMX machines run the AVX-512 one, and
/// what AMX does better stands in *_amx.cc.
///
/// A kernel declares, in its x_impl.h, `template <Isa isa> struct XCpu { static void forward(…);
/// };`, its x_cpu.cc defines `template <> void XCpu<kIsa>::forward(…)`, and x.cc calls
/// `dispatch_isa(ctx.isa(), [&]<Isa isa>() { XCpu<isa>::forward(…); });`.
template <typename F>
void dispatch_isa(Isa isa, const F& f) {
  switch (isa) {
    case Isa::kPortable:
      return f.template operator()<Isa::kPortable>();
    case Isa::kAvx2:
      return f.template operator()<Isa::kAvx2>();
    case Isa::kAvx512:
    case Isa::kAmx:
      return f.template operator()<Isa::kAvx512>();
  }
}

/// The level that the including *_cpu.cc is being compiled for.
#if defined(__AVX512F__)
inline constexpr Isa kIsa = Isa::kAvx512;
#elif defined(__AVX2__)
inline constexpr Isa kIsa = Isa::kAvx2;
#else
inline constexpr Isa kIsa = Isa::kPortable;
#endif

}  // namespace moerl::kernels
