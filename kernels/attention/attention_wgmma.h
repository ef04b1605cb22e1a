#pragma once
#include "kernels/attention/attention_impl.h"
#include "kernels/exec_context.h"

namespace moerl::kernels {

/// Whether AttentionWgmmaCuda has the bits of AttentionCuda, on random operands.
/// @throws what the kernels throw, and std::runtime_error out of memory.
bool attention_agrees_on_wgmma(ExecContext& ctx);

/// Computes what AttentionWgmmaCuda takes, once it has proved that it has the bits of AttentionCuda
/// (WgmmaProof). @return whether it is computed; if not, AttentionCuda has to.
/// @throws what the kernels throw, and std::runtime_error out of memory in the proof.
bool run_attention_on_wgmma(ExecContext& ctx, const AttentionForwardCuda& args);

}  // namespace moerl::kernels
