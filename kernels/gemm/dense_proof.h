#pragma once
#include <memory>
#include <string>

#include "kernels/exec_context.h"
#include "kernels/gemm/dense_library.h"

namespace moerl::kernels {

/// What a library may compute in place of the kernels.
struct DenseProof {
  std::unique_ptr<DenseAlgorithm> algorithm;  ///< null: nothing
  std::string verdict;  ///< which that is of how many, and what refused others
};

/// Compares a library's algorithms, bit for bit, with the kernels of linear.h on probes: random
/// values of widely different magnitude that cancel, so that another order of summation, a split
/// depth or another accumulator shows; a few numbers of rows, so that another treatment of tails
/// does.
/// @return the first that differs in no probe and throws in none.
/// @throws what the library throws when it is asked for algorithms, and std::runtime_error out of
/// memory.
DenseProof prove(ExecContext& ctx, DenseLibrary& library, const DenseShape& shape);

/// What a proof takes of the device's memory, at most.
int64_t dense_proof_bytes(int64_t columns, int64_t depth);

}  // namespace moerl::kernels
