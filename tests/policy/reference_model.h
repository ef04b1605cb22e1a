#pragma once
// The model once more, in double precision and plain loops, one sequence at a time; written from
// the DeepSeek-V2/V3 reports (arXiv:2405.04434, arXiv:2412.19437), expanded attention only, and for
// grouped attention from arXiv:2305.13245 and the Qwen3 report (arXiv:2505.09388).
#include <algorithm>
#include <cmath>
#include <map>
#include <numbers>
#include <string>
#include <vector>

#include "policy/transformer.h"

namespace moerl::testing {

using Row = std::vector<double>;
using Rows = std::vector<Row>;

class ReferenceModel {
 public:
  explicit ReferenceModel(const Transformer& model) : c_(model.config()) {
    for (const Parameter* p : model.parameters()) {
      const float* values = p->value.data<float>();
      weights[p->name] = Row(values, values + p->value.numel());
    }
  }

  std::map<std::string, Row> weights;  ///< by name, row-major; free to be varied
  double balance_loss = 0;             ///< of all expert layers run so far, for alpha = 1

  /// States after the final norm.
  Rows hidden(const std::vector<int32_t>& tokens) {
    Rows x = embed(tokens);
    for (int64_t layer = 0; layer < c_.num_hidden_layers; ++layer) x = block(layer, x);
    return norm(x, "model.norm.weight");
  }
  /// States of the MTP module after its own norm.
  Rows mtp_hidden(const Rows& hidden, const std::vector<int32_t>& next_tokens) {
    const std::string prefix = layer_name(c_.num_hidden_layers);
    const Rows e = norm(embed(next_tokens), prefix + "enorm.weight");
    const Rows h = norm(hidden, prefix + "hnorm.weight");
    Rows both(e.size());
    for (size_t t = 0; t < e.size(); ++t) {
      both[t] = e[t];
      both[t].insert(both[t].end(), h[t].begin(), h[t].end());
    }
    const Rows x = block(c_.num_hidden_layers, linear(both, prefix + "eh_proj.weight"));
    return norm(x, prefix + "shared_head.norm.weight");
  }
  Rows logits(const Rows& hidden) {
    return linear(hidden, c_.tie_word_embeddings ? "model.embed_tokens.weight" : "lm_head.weight");
  }
  static double log_prob(const Row& logits, int32_t target) {
    const double top = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (double z : logits) sum += std::exp(z - top);
    return logits[static_cast<size_t>(target)] - top - std::log(sum);
  }

 private:
  static std::string layer_name(int64_t layer) {
    return "model.layers." + std::to_string(layer) + ".";
  }
  const Row& weight(const std::string& name) const { return weights.at(name); }

  Rows embed(const std::vector<int32_t>& tokens) const {
    const Row& table = weight("model.embed_tokens.weight");
    Rows x;
    for (int32_t token : tokens)
      x.emplace_back(table.begin() + token * c_.hidden_size,
                     table.begin() + (token + 1) * c_.hidden_size);
    return x;
  }
  Rows linear(const Rows& x, const std::string& name) const {
    const Row& w = weight(name);
    Rows y;
    for (const Row& row : x) {
      Row out(w.size() / row.size());
      for (size_t n = 0; n < out.size(); ++n)
        for (size_t k = 0; k < row.size(); ++k) out[n] += w[n * row.size() + k] * row[k];
      y.push_back(out);
    }
    return y;
  }
  /// linear with the weight `name`.weight and, if there is one, `name`.bias.
  Rows affine(const Rows& x, const std::string& name) const {
    Rows y = linear(x, name + ".weight");
    if (const auto bias = weights.find(name + ".bias"); bias != weights.end())
      for (Row& row : y)
        for (size_t n = 0; n < row.size(); ++n) row[n] += bias->second[n];
    return y;
  }
  Rows norm(const Rows& x, const std::string& name) const {
    const Row& w = weight(name);
    Rows y = x;
    for (Row& row : y) {
      double squares = 0;
      for (double v : row) squares += v * v;
      const double scale =
          1 / std::sqrt(squares / static_cast<double>(row.size()) + c_.rms_norm_eps);
      for (size_t i = 0; i < row.size(); ++i) row[i] *= scale * w[i];
    }
    return y;
  }
  Rows block(int64_t layer, const Rows& input) {
    const std::string prefix = layer_name(layer);
    Rows x = input;
    const Rows normed = norm(x, prefix + "input_layernorm.weight");
    add(x, c_.attention == AttentionKind::kGrouped
               ? grouped_attention(prefix + "self_attn.", normed)
               : attention(prefix + "self_attn.", normed));
    const Rows h = norm(x, prefix + "post_attention_layernorm.weight");
    const bool moe = weights.contains(prefix + "mlp.gate.weight");
    add(x, moe ? experts(prefix + "mlp.", h) : mlp(prefix + "mlp.", h));
    return x;
  }
  static void add(Rows& x, const Rows& y) {
    for (size_t t = 0; t < x.size(); ++t)
      for (size_t i = 0; i < x[t].size(); ++i) x[t][i] += y[t][i];
  }

  Rows mlp(const std::string& prefix, const Rows& x) const {
    const Rows gate = linear(x, prefix + "gate_proj.weight");
    Rows up = linear(x, prefix + "up_proj.weight");
    for (size_t t = 0; t < up.size(); ++t)
      for (size_t i = 0; i < up[t].size(); ++i)
        up[t][i] *= gate[t][i] / (1 + std::exp(-gate[t][i]));
    return linear(up, prefix + "down_proj.weight");
  }

  /// The chosen experts of one token, from its unbiased scores. @param bias  of the layer's gate.
  std::vector<size_t> choose(const Row& scores, const std::string& bias) const {
    const bool ungrouped = c_.topk_method == "greedy";
    const int64_t num_groups = ungrouped ? 1 : c_.n_group, num_kept = ungrouped ? 1 : c_.topk_group;
    const auto e = scores.size(), per_group = e / static_cast<size_t>(num_groups);
    Row biased = scores;
    if (weights.contains(bias))
      for (size_t i = 0; i < e; ++i) biased[i] += weight(bias)[i];
    const bool pairs = c_.topk_method == "noaux_tc" && per_group > 1;
    std::vector<std::pair<double, size_t>> groups;  // (-worth, index)
    for (size_t g = 0; g < static_cast<size_t>(num_groups); ++g) {
      Row in(biased.begin() + static_cast<int64_t>(g * per_group),
             biased.begin() + static_cast<int64_t>((g + 1) * per_group));
      std::sort(in.rbegin(), in.rend());
      groups.emplace_back(-(in[0] + (pairs ? in[1] : 0)), g);
    }
    std::sort(groups.begin(), groups.end());
    std::vector<std::pair<double, size_t>> kept;
    for (int64_t g = 0; g < num_kept; ++g)
      for (size_t i = 0; i < per_group; ++i) {
        const size_t expert = groups[static_cast<size_t>(g)].second * per_group + i;
        kept.emplace_back(-biased[expert], expert);
      }
    std::sort(kept.begin(), kept.end());
    std::vector<size_t> chosen;
    for (int64_t k = 0; k < c_.num_experts_per_tok; ++k)
      chosen.push_back(kept[static_cast<size_t>(k)].second);
    return chosen;
  }

  Rows experts(const std::string& prefix, const Rows& x) {
    Rows scores = linear(x, prefix + "gate.weight");
    for (Row& row : scores) {
      double all = 0;
      for (double s : row) all += std::exp(s);
      for (double& s : row)
        s = c_.scoring_func == "softmax" ? std::exp(s) / all : 1 / (1 + std::exp(-s));
    }
    const auto e = static_cast<size_t>(c_.n_routed_experts);
    Row counts(e), share(e);
    Rows y = c_.n_shared_experts > 0 ? mlp(prefix + "shared_experts.", x)
                                     : Rows(x.size(), Row(x[0].size()));
    for (size_t t = 0; t < x.size(); ++t) {
      const std::vector<size_t> chosen = choose(scores[t], prefix + "gate.e_score_correction_bias");
      double sum = 0, all = 0;
      for (size_t i : chosen) sum += scores[t][i];
      for (double s : scores[t]) all += s;
      for (size_t i = 0; i < e; ++i) share[i] += scores[t][i] / all;
      for (size_t i : chosen) {
        counts[i] += 1;
        const double w =
            scores[t][i] / (c_.norm_topk_prob ? sum + 1e-20 : 1) * c_.routed_scaling_factor;
        const Rows out = mlp(prefix + "experts." + std::to_string(i) + ".", {x[t]});
        for (size_t d = 0; d < y[t].size(); ++d) y[t][d] += w * out[0][d];
      }
    }
    const auto n = static_cast<double>(x.size());
    for (size_t i = 0; i < e; ++i)
      balance_loss += static_cast<double>(e) * counts[i] /
                      (static_cast<double>(c_.num_experts_per_tok) * n) * share[i] / n;
    return y;
  }

  /// Frequency of pair j of `dim` rotated dimensions.
  double frequency(int64_t j, double dim) const {
    const RopeScaling& s = c_.rope_scaling;
    const double f = std::pow(c_.rope_theta, -2.0 * static_cast<double>(j) / dim);
    const auto length = static_cast<double>(
        s.original_max_position_embeddings.value_or(c_.max_position_embeddings));
    if (s.type == "llama3") {  // as Llama 3.1's released code
      const double wave = 2 * std::numbers::pi / f;
      if (wave < length / s.high_freq_factor) return f;
      if (wave > length / s.low_freq_factor) return f / s.factor;
      const double smooth =
          (length / wave - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
      return (1 - smooth) * f / s.factor + smooth * f;
    }
    if (s.type != "yarn") return f;
    auto correction = [&](double rotations) {
      return dim * std::log(length / (2 * std::numbers::pi * rotations)) /
             (2 * std::log(c_.rope_theta));
    };
    const double low = std::max(0.0, std::floor(correction(s.beta_fast)));
    double high = std::min(dim - 1, std::ceil(correction(s.beta_slow)));
    if (low == high) high += 0.001;
    const double ramp = std::clamp((static_cast<double>(j) - low) / (high - low), 0.0, 1.0);
    return f / s.factor * ramp + f * (1 - ramp);
  }
  double amplitude() const {
    const RopeScaling& s = c_.rope_scaling;
    if (s.type != "yarn") return 1;
    return mscale(s.mscale.value_or(1)) / mscale(s.mscale_all_dim.value_or(0));
  }

  /// Rotates row[first, first + dim): the pairs (2j, 2j + 1), or (j, j + dim / 2).
  void rotate(Row& row, size_t first, int64_t dim, double position) const {
    for (int64_t j = 0; j < dim / 2; ++j) {
      const double angle = position * frequency(j, static_cast<double>(dim));
      const double cosine = amplitude() * std::cos(angle), sine = amplitude() * std::sin(angle);
      double& a = row[first + static_cast<size_t>(c_.rope_interleave ? 2 * j : j)];
      double& b = row[first + static_cast<size_t>(c_.rope_interleave ? 2 * j + 1 : j + dim / 2)];
      const double rotated = a * cosine - b * sine;
      b = a * sine + b * cosine;
      a = rotated;
    }
  }
  double mscale(double m) const { return 0.1 * m * std::log(c_.rope_scaling.factor) + 1; }

  Rows attention(const std::string& prefix, const Rows& x) const {
    const auto heads = static_cast<size_t>(c_.num_attention_heads),
               dn = static_cast<size_t>(c_.qk_nope_head_dim),
               dr = static_cast<size_t>(c_.qk_rope_head_dim),
               dv = static_cast<size_t>(c_.v_head_dim), dc = static_cast<size_t>(c_.kv_lora_rank);
    Rows q =
        c_.q_lora_rank
            ? linear(norm(linear(x, prefix + "q_a_proj.weight"), prefix + "q_a_layernorm.weight"),
                     prefix + "q_b_proj.weight")
            : linear(x, prefix + "q_proj.weight");
    Rows latent = linear(x, prefix + "kv_a_proj_with_mqa.weight"), k_pe;
    for (Row& row : latent) {
      k_pe.emplace_back(row.begin() + static_cast<int64_t>(dc), row.end());
      row.resize(dc);
    }
    const Rows up =
        linear(norm(latent, prefix + "kv_a_layernorm.weight"), prefix + "kv_b_proj.weight");
    for (size_t t = 0; t < x.size(); ++t) {
      rotate(k_pe[t], 0, c_.qk_rope_head_dim, static_cast<double>(t));
      for (size_t h = 0; h < heads; ++h)
        rotate(q[t], h * (dn + dr) + dn, c_.qk_rope_head_dim, static_cast<double>(t));
    }
    double scale = 1 / std::sqrt(static_cast<double>(dn + dr));
    if (c_.rope_scaling.type == "yarn")
      scale *= std::pow(mscale(c_.rope_scaling.mscale_all_dim.value_or(0)), 2);

    Rows concat(x.size(), Row(heads * dv));
    for (size_t t = 0; t < x.size(); ++t) {
      for (size_t h = 0; h < heads; ++h) {
        const double* query = &q[t][h * (dn + dr)];
        Row p(t + 1);
        for (size_t s = 0; s <= t; ++s) {
          for (size_t i = 0; i < dn; ++i) p[s] += query[i] * up[s][h * (dn + dv) + i];
          for (size_t i = 0; i < dr; ++i) p[s] += query[dn + i] * k_pe[s][i];
          p[s] *= scale;
        }
        const double top = *std::max_element(p.begin(), p.end());
        double sum = 0;
        for (double& v : p) sum += v = std::exp(v - top);
        for (size_t s = 0; s <= t; ++s)
          for (size_t i = 0; i < dv; ++i)
            concat[t][h * dv + i] += p[s] / sum * up[s][h * (dn + dv) + dn + i];
      }
    }
    return linear(concat, prefix + "o_proj.weight");
  }

  /// Each head of width dh by itself, normalised if there is a weight, then rotated.
  void prepare_heads(Rows& x, const std::string& norm_name) const {
    const auto dh = static_cast<size_t>(c_.head_dim);
    for (size_t t = 0; t < x.size(); ++t)
      for (size_t first = 0; first < x[t].size(); first += dh) {
        const auto begin = x[t].begin() + static_cast<int64_t>(first);
        if (weights.contains(norm_name)) {
          const Rows normed = norm({Row(begin, begin + c_.head_dim)}, norm_name);
          std::copy(normed[0].begin(), normed[0].end(), begin);
        }
        rotate(x[t], first, c_.head_dim, static_cast<double>(t));
      }
  }
  Rows grouped_attention(const std::string& prefix, const Rows& x) const {
    Rows q = affine(x, prefix + "q_proj"), k = affine(x, prefix + "k_proj");
    const Rows v = affine(x, prefix + "v_proj");
    prepare_heads(q, prefix + "q_norm.weight");
    prepare_heads(k, prefix + "k_norm.weight");
    const auto dh = static_cast<size_t>(c_.head_dim);
    const auto sharing = static_cast<size_t>(c_.num_attention_heads / c_.num_key_value_heads);
    Rows concat(x.size(), Row(q[0].size()));
    for (size_t t = 0; t < x.size(); ++t)
      for (size_t h = 0; h * dh < q[t].size(); ++h) {
        const size_t from = h / sharing * dh;
        Row p(t + 1);
        double sum = 0;
        for (size_t s = 0; s <= t; ++s) {
          for (size_t i = 0; i < dh; ++i) p[s] += q[t][h * dh + i] * k[s][from + i];
          sum += p[s] = std::exp(p[s] / std::sqrt(static_cast<double>(dh)));
        }
        for (size_t s = 0; s <= t; ++s)
          for (size_t i = 0; i < dh; ++i) concat[t][h * dh + i] += p[s] / sum * v[s][from + i];
      }
    return affine(concat, prefix + "o_proj");
  }

  const ModelConfig c_;
};

}  // namespace moerl::testing
