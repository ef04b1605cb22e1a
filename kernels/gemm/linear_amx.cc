// The bf16 products on the AMX tiles of the machine. The permission to use them is a matter of the
// process and was asked for by detect_isa(); the tile configuration is a matter of the thread.
#include "kernels/gemm/linear_amx_kernel.h"

namespace moerl::kernels {
namespace {

/// The tile instructions. The compiler knows nothing of the memory they touch; the clobbers tell.
struct HardwareTiles {
  static MOERL_INLINE void configure(const TileConfig& config) {
    __asm__ volatile("ldtilecfg %0" ::"m"(config) : "memory");
  }
  static MOERL_INLINE void release() { __asm__ volatile("tilerelease" ::: "memory"); }
  template <int C>
  static MOERL_INLINE void zero() {
    __asm__ volatile("tilezero %%tmm%c0" ::"i"(C));
  }
  template <int T>
  static MOERL_INLINE void load(const void* from, int64_t row_bytes) {
    __asm__ volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(row_bytes), "i"(T)
                     : "memory");
  }
  template <int T>
  static MOERL_INLINE void load_once(const void* from, int64_t row_bytes) {
    __asm__ volatile("tileloaddt1 (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(row_bytes), "i"(T)
                     : "memory");
  }
  template <int C>
  static MOERL_INLINE void store(void* to, int64_t row_bytes) {
    __asm__ volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(row_bytes), "i"(C) : "memory");
  }
  /// Tile C += tile A (rows of pairs) times tile B (pairs of rows).
  template <int C, int A, int B>
  static MOERL_INLINE void multiply() {
    __asm__ volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(C), "i"(A), "i"(B));
  }
};

}  // namespace

void LinearAmx::pack_transposed(const PackSource& source, int64_t begin, int64_t end, void* out) {
  amx_pack_transposed(source, begin, end, out);
}

void LinearAmx::product(const ProductTask& task, float* scratch) {
  amx_product<HardwareTiles>(task, scratch);
}

void LinearAmx::wgrad(const WgradTask& task, float* scratch) {
  amx_wgrad<HardwareTiles>(task, scratch);
}

}  // namespace moerl::kernels
