#pragma once
// The host's twin of kernels/cuda/tensor_core.h.

#include <bit>
#include <cstdint>

#include "kernels/cuda/emulator/async_copy.h"
#include "kernels/quant/e4m3.h"

namespace moerl::kernels::cuda {

using simt::Where;

/// Of shared memory, which begins at 0.
inline uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(static_cast<const unsigned char*>(p) - simt::shared_memory());
}

inline void cp_async_16(void* to, const void* from, uint32_t valid,
                        Where where = Where::current()) {
  simt::async_copy_16(to, from, valid, where);
}
inline void cp_async_commit() { simt::async_commit(); }
template <int kGroups>
void cp_async_wait() {
  simt::async_wait(kGroups);
}

struct MatrixLane {
  uint4 row;
  uint32_t* out;
};

template <bool kTransposed>
void ldmatrix_x4(uint32_t (&out)[4], const void* row, Where where = Where::current()) {
  // Each lane reads its row itself, so that the sanitizers see the access.
  MatrixLane lane{*static_cast<const uint4*>(row), out};
  simt::collective(
      ~0u, kTransposed ? "ldmatrix.x4.trans" : "ldmatrix.x4", &lane,
      [](void* const* lanes, uint32_t) MOERL_SIMT_NO_TSAN {
        for (int l = 0; l < 32; ++l)
          for (int m = 0; m < 4; ++m) {
            uint32_t pair = 0;
            for (int half = 0; half < 2; ++half) {
              int i = l / 4, j = 2 * (l % 4) + half;
              if (kTransposed) {
                const int other = i;
                i = j;
                j = other;
              }
              const uint4& from = static_cast<MatrixLane*>(lanes[8 * m + i])->row;
              const uint32_t words[4] = {from.x, from.y, from.z, from.w};
              pair |= (words[j / 2] >> 16 * (j % 2) & 0xFFFF) << 16 * half;
            }
            static_cast<MatrixLane*>(lanes[l])->out[m] = pair;
          }
      },
      false, where);
}

struct MmaLane {
  float* d;
  const uint32_t *a, *b;
};

/// d += left right: the products and d are added up in double, and rounded once.
template <int kDepth>
MOERL_SIMT_NO_TSAN void add_product(void* const* lanes, const double (&left)[16][kDepth],
                                    const double (&right)[kDepth][8]) {
  for (int l = 0; l < 32; ++l)
    for (int i = 0; i < 4; ++i) {
      const int row = l / 4 + i / 2 * 8, column = l % 4 * 2 + i % 2;
      float& to = static_cast<MmaLane*>(lanes[l])->d[i];
      double sum = static_cast<double>(to);
      for (int k = 0; k < kDepth; ++k) sum += left[row][k] * right[k][column];
      to = static_cast<float>(sum);
    }
}

inline void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                     Where where = Where::current()) {
  MmaLane lane{d, a, b};
  simt::collective(
      ~0u, "mma.m16n8k16", &lane,
      [](void* const* lanes, uint32_t) MOERL_SIMT_NO_TSAN {
        double left[16][16], right[16][8];
        for (int l = 0; l < 32; ++l) {
          const auto& from = *static_cast<MmaLane*>(lanes[l]);
          const int row = l / 4, k = 2 * (l % 4);
          for (int half = 0; half < 2; ++half) {
            auto value = [half](uint32_t pair) {
              return static_cast<double>(
                  std::bit_cast<float>(half == 0 ? pair << 16 : pair & 0xFFFF0000u));
            };
            left[row][k + half] = value(from.a[0]);
            left[row + 8][k + half] = value(from.a[1]);
            left[row][k + 8 + half] = value(from.a[2]);
            left[row + 8][k + 8 + half] = value(from.a[3]);
            right[k + half][row] = value(from.b[0]);
            right[k + 8 + half][row] = value(from.b[1]);
          }
        }
        add_product(lanes, left, right);
      },
      false, where);
}

inline void mma_e4m3(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2],
                     Where where = Where::current()) {
  MmaLane lane{d, a, b};
  simt::collective(
      ~0u, "mma.m16n8k32", &lane,
      [](void* const* lanes, uint32_t) MOERL_SIMT_NO_TSAN {
        double left[16][32], right[32][8];
        for (int l = 0; l < 32; ++l) {
          const auto& from = *static_cast<MmaLane*>(lanes[l]);
          const int row = l / 4;
          for (int byte = 0; byte < 4; ++byte) {
            const int k = 4 * (l % 4) + byte;
            auto value = [byte](uint32_t word) {
              return static_cast<double>(from_e4m3(static_cast<uint8_t>(word >> 8 * byte)));
            };
            left[row][k] = value(from.a[0]);
            left[row + 8][k] = value(from.a[1]);
            left[row][k + 16] = value(from.a[2]);
            left[row + 8][k + 16] = value(from.a[3]);
            right[k][row] = value(from.b[0]);
            right[k + 16][row] = value(from.b[1]);
          }
        }
        add_product(lanes, left, right);
      },
      false, where);
}

}  // namespace moerl::kernels::cuda
