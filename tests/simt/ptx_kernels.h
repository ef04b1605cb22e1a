#pragma once
#include <cstdint>

#include "kernels/dtype.h"

namespace moerl::testing {

// A kernel for each PTX instruction behind a function of kernels/cuda: what it reads and writes are
// plain arrays, row by row, in the memory of the device, so that its definition says what comes
// out.

/// cp.async of 16 bytes by each of 32 threads, of which `valid` are there: out[i] = in[i], then
/// zeros.
void run_cp_async(const uint32_t* in, uint32_t valid, uint32_t* out);

/// ldmatrix of four 8 x 8 matrices, in [4, 8, 8]: out [4, 8, 8], each matrix or its transpose.
void run_ldmatrix(bool transposed, const uint16_t* in, uint16_t* out);

/// d [16, 8] += a [16, depth] b [8, depth]^T by mma.sync: 16 of bf16, 32 of E4M3.
void run_mma_bf16(const bf16* a, const bf16* b, float* d);
void run_mma_e4m3(const uint8_t* a, const uint8_t* b, float* d);

/// How wgmma gets its operands: `step` is which sixteen of the 64 in a box they are.
struct WgmmaForm {
  int columns;
  bool transposed_a, transposed_b, a_in_registers;
  int step;
};
/// d [64, columns] += a [64, 16] b [columns, 16]^T by wgmma, 64, 128 or 256 columns; with a in
/// registers 128.
void run_wgmma(const WgmmaForm& form, const bf16* a, const bf16* b, float* d);

}  // namespace moerl::testing
