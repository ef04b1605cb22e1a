#pragma once
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/attention/attention.h"
#include "kernels/moe/permute.h"
#include "kernels/moe/topk_gate.h"
#include "policy/layers/swiglu_mlp.h"
#include "policy/model_config.h"
#include "policy/parallel/expert_parallel.h"

namespace moerl {

/// What the routing of a pass is asked for beyond the output, and what it gave.
struct RoutingStats {
  double balance_alpha = 0;                  ///< weight of each sequence's balance loss; 0 for none
  double balance_loss = 0;                   ///< added up over layers and sequences, weighted
  std::vector<std::vector<int64_t>> counts;  ///< tokens of each expert; every layer appends its row
  /// If not null, every layer appends the experts of each token, [T, K] int32.
  std::vector<Tensor>* chosen_experts = nullptr;
};

/// Mixture of experts: y = sum_k w_k expert_k(x) + shared(x), with the experts and weights of
/// topk_gate. The router runs in fp32: x is widened, its weight is never rounded.
/// Under expert parallel a rank has the experts of its own; forward and backward are called by all
/// ranks together, each with its own tokens or none.
class Moe {
 public:
  struct Saved {
    Tensor x;                               // [T, D]
    Tensor scores, topk_idx, topk_weights;  // [T, E], [T, K], [T, K]
    kernels::ExpertRows rows;
    ExpertRoutes routes;
    Tensor gate_up;     // [rows that came here, 2 I]
    Tensor expert_out;  // [T K, D], sorted by expert
    SwiGluMlp::Saved shared;
  };

  /// @param prefix  of the parameters' names, with its dot.
  /// @throws ConfigError if the ranks of a group cannot have as many experts each.
  Moe(const std::string& prefix, const ModelConfig& config, Device device,
      const ExpertParallel& parallel);

  void collect(std::vector<Parameter*>& parameters);
  void enable_gradients();
  void pack(ExecContext& ctx, const PackOptions& options);

  /// @param x [T, D].
  /// @param sequences  the rows of each sequence; read for the balance loss alone, on the host.
  /// @param saved  null in inference.
  /// @param stats  null in inference, and when a forward is run again for its backward.
  Tensor forward(ExecContext& ctx, const Tensor& x, const kernels::SegmentList& sequences,
                 Saved* saved, RoutingStats* stats) const;
  /// Returns dx [T, D]; adds to the parameters' gradients. The chosen experts are constants.
  /// @param balance_alpha  that of forward's stats.
  Tensor backward(ExecContext& ctx, const Tensor& dy, const kernels::SegmentList& sequences,
                  double balance_alpha, const Saved& saved);

  /// bias_e += rate * sign(mean(counts) - counts_e); nothing in a layer without router bias.
  void update_bias(std::span<const int64_t> counts, double rate);

 private:
  struct Routing {
    Tensor scores, topk_idx, topk_weights;
    kernels::ExpertRows rows;
  };
  Routing route(ExecContext& ctx, const Tensor& x) const;
  /// Each token's row for each of its experts, [T K, D], sorted by expert.
  Tensor expand(ExecContext& ctx, const Tensor& x, const kernels::ExpertRows& rows) const;
  void record(ExecContext& ctx, const Routing& routing, const kernels::SegmentList& sequences,
              RoutingStats& stats) const;
  void route_backward(ExecContext& ctx, const Tensor& dtopk_weights,
                      const kernels::SegmentList& sequences, double balance_alpha,
                      const Saved& saved, Tensor& dx);

  kernels::GateConfig gate_config_;
  Linear gate_;                          // [E, D], working type fp32
  std::optional<Parameter> score_bias_;  // [E]; where the model has_router_bias
  ExpertParallel parallel_;
  std::vector<SwiGluMlp> experts_;  // all; those of other ranks are names and shapes
  std::span<SwiGluMlp> own_;        // of experts_
  std::optional<SwiGluMlp> shared_;
  // By row group: the own experts for each rank of the group.
  kernels::WeightList gate_up_images_, down_images_;
  std::vector<Tensor*> gate_up_grads_, down_grads_;
};

}  // namespace moerl
