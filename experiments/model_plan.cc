#include "experiments/model_plan.h"

#include <algorithm>
#include <cstdio>

#include "common/check.h"
#include "experiments/memory_budget.h"
#include "policy/kv_cache.h"

namespace moerl {
namespace {

/// Tokens that the memory of a micro-batch and of a cache are shown for.
constexpr int64_t kShownTokens = 4096;

int64_t kv_bytes(ModelConfig model, const char* form) {
  model.mla_form = form;
  return KvCache::block_bytes(model, DType::kBF16) / kernels::kKvBlock;
}

/// 1234567 as 1,234,567.
std::string grouped(int64_t number) {
  std::string text = std::to_string(number);
  for (int64_t i = static_cast<int64_t>(text.size()) - 3; i > 0; i -= 3)
    text.insert(static_cast<size_t>(i), ",");
  return text;
}

std::string gib(int64_t bytes) {
  char text[40];
  std::snprintf(text, sizeof text, "%.1f GiB", static_cast<double>(bytes) / (1 << 30));
  return text;
}

std::string line(const std::string& name, const std::string& value) {
  return "  " + name + std::string(name.size() < 42 ? 42 - name.size() : 1, ' ') + value + "\n";
}

std::string fits(const std::string& what, int64_t bytes, int64_t machine_bytes) {
  return what + (bytes <= machine_bytes
                     ? " fits"
                     : concat(" does not fit (", gib(bytes), ", ",
                              (bytes + machine_bytes - 1) / std::max<int64_t>(1, machine_bytes),
                              " such machines)"));
}

}  // namespace

ModelPlan plan_model(const ModelConfig& model) {
  ModelPlan plan;
  ModelConfig without_mtp = model;
  without_mtp.num_nextn_predict_layers = 0;
  plan.main_parameters = without_mtp.num_parameters();
  plan.mtp_parameters = model.num_parameters() - plan.main_parameters;
  plan.active_parameters = model.num_active_parameters();
  plan.kv_bytes_expanded = kv_bytes(model, "expanded");
  plan.kv_bytes_absorbed = kv_bytes(model, "absorbed");
  const int64_t n = model.num_parameters();
  plan.checkpoint_bf16 = plan.forward_image = plan.backward_image = 2 * n;
  plan.masters = plan.gradients = 4 * n;
  plan.optimizer = 8 * n;
  plan.activations_per_token = activation_bytes_per_token(model, DType::kBF16, false);
  plan.recomputed_per_token = activation_bytes_per_token(model, DType::kBF16, true);
  return plan;
}

std::string describe_plan(const ModelConfig& model, int64_t machine_bytes) {
  const ModelPlan plan = plan_model(model);
  const int64_t cache = plan.kv_bytes_absorbed * kShownTokens;
  const int64_t activations = plan.activations_per_token * kShownTokens;
  const int64_t recomputed = plan.recomputed_per_token * kShownTokens;
  std::string text = "model\n";
  text += line("parameters", grouped(plan.main_parameters));
  if (plan.mtp_parameters > 0)
    text += line("parameters of the MTP module", grouped(plan.mtp_parameters));
  text += line("active for one token", grouped(plan.active_parameters));
  text += line("layers",
               concat(model.num_hidden_layers, ", ", model.num_moe_layers(), " with experts"));
  const bool latent = model.attention == AttentionKind::kLatent;
  if (latent) {
    text += line("kv cache of one token, bf16", grouped(plan.kv_bytes_absorbed) + " bytes");
    text += line("  with mla_form: expanded", grouped(plan.kv_bytes_expanded) + " bytes");
  } else {
    text += line("kv cache of one token, bf16", grouped(plan.kv_bytes_expanded) + " bytes");
  }
  text += line("checkpoint, bf16", gib(plan.checkpoint_bf16));
  text += "memory (working type bf16)\n";
  text += line("weights: image for the forward pass", gib(plan.forward_image));
  text += line("weights: image for the backward pass", gib(plan.backward_image));
  text += line("weights: fp32 masters, for training", gib(plan.masters));
  text += line("gradients", gib(plan.gradients));
  text += line("optimizer", gib(plan.optimizer));
  text +=
      line(concat("kv cache of ", kShownTokens, " tokens", latent ? ", absorbed" : ""), gib(cache));
  text += line(concat("activations of ", kShownTokens, " tokens (estimate)"), gib(activations));
  text += line("  the same with recompute: true", gib(recomputed));
  text += line("sampling, all together", gib(plan.sampling(cache)));
  text += line("training, all together", gib(plan.training() + activations));
  text += line("available", gib(machine_bytes));
  text += concat("verdict: ", fits("sampling", plan.sampling(cache), machine_bytes), "; ",
                 fits("training", plan.training() + activations, machine_bytes));
  if (plan.training() + activations > machine_bytes &&
      plan.training() + recomputed <= machine_bytes)
    text += ", with recompute: true it does";
  return text + "\n";
}

}  // namespace moerl
