#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace moerl::kernels::ref {

/// One sequence: q [T, H, Dk], k [T, Hk, Dk], v [T, Hk, Dv]. Head h reads key head h / (H / Hk).
struct AttentionInput {
  int64_t num_tokens, num_heads, num_kv_heads, k_dim, v_dim;
  double scale;
  std::vector<double> q, k, v;

  size_t row(int64_t t, int64_t head) const { return static_cast<size_t>(t * num_heads + head); }
  size_t key(int64_t t, int64_t head) const {
    return static_cast<size_t>(t * num_kv_heads + head / (num_heads / num_kv_heads));
  }
};
struct AttentionOutput {
  std::vector<double> o, lse;  // [T, H, Dv], [T, H]
};
struct AttentionGrad {
  std::vector<double> dq, dk, dv;
};

inline double dot(const double* a, const double* b, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

/// Scores of one row to keys 0..t (Vaswani et al. 2017, section 3.2.1, with a causal mask).
inline std::vector<double> attention_scores(const AttentionInput& in, int64_t t, int64_t head) {
  const auto dim = static_cast<size_t>(in.k_dim);
  std::vector<double> scores;
  for (int64_t s = 0; s <= t; ++s)
    scores.push_back(in.scale *
                     dot(&in.q[in.row(t, head) * dim], &in.k[in.key(s, head) * dim], in.k_dim));
  return scores;
}
inline double log_sum_exp(const std::vector<double>& x) {
  const double largest = *std::max_element(x.begin(), x.end());
  double sum = 0;
  for (double v : x) sum += std::exp(v - largest);
  return largest + std::log(sum);
}

/// Adds a row's output to o[0..Dv); returns its lse.
inline double attention_row(const AttentionInput& in, int64_t t, int64_t head, double* o) {
  const auto dim = static_cast<size_t>(in.v_dim);
  const std::vector<double> scores = attention_scores(in, t, head);
  const double lse = log_sum_exp(scores);
  for (int64_t s = 0; s <= t; ++s)
    for (size_t i = 0; i < dim; ++i)
      o[i] += std::exp(scores[static_cast<size_t>(s)] - lse) * in.v[in.key(s, head) * dim + i];
  return lse;
}

inline AttentionOutput attention_forward(const AttentionInput& in) {
  const auto dim = static_cast<size_t>(in.v_dim);
  const auto rows = static_cast<size_t>(in.num_tokens * in.num_heads);
  AttentionOutput out{std::vector<double>(rows * dim), std::vector<double>(rows)};
  for (int64_t t = 0; t < in.num_tokens; ++t)
    for (int64_t h = 0; h < in.num_heads; ++h)
      out.lse[in.row(t, h)] = attention_row(in, t, h, &out.o[in.row(t, h) * dim]);
  return out;
}

/// From the softmax's Jacobian: with P the probabilities and dP = do V^T,
/// dscore_j = P_j (dP_j - sum_i P_i dP_i).
inline AttentionGrad attention_backward(const AttentionInput& in, const std::vector<double>& dout) {
  const auto k_dim = static_cast<size_t>(in.k_dim), v_dim = static_cast<size_t>(in.v_dim);
  AttentionGrad grad{std::vector<double>(in.q.size()), std::vector<double>(in.k.size()),
                     std::vector<double>(in.v.size())};
  for (int64_t t = 0; t < in.num_tokens; ++t)
    for (int64_t h = 0; h < in.num_heads; ++h) {
      std::vector<double> p = attention_scores(in, t, h);
      const double lse = log_sum_exp(p);
      std::vector<double> dp(p.size());
      double mean = 0;
      for (size_t s = 0; s < p.size(); ++s) {
        p[s] = std::exp(p[s] - lse);
        dp[s] = dot(&dout[in.row(t, h) * v_dim], &in.v[in.key(static_cast<int64_t>(s), h) * v_dim],
                    in.v_dim);
        mean += p[s] * dp[s];
      }
      for (size_t s = 0; s < p.size(); ++s) {
        const size_t key = in.key(static_cast<int64_t>(s), h), row = in.row(t, h);
        const double ds = in.scale * p[s] * (dp[s] - mean);
        for (size_t i = 0; i < k_dim; ++i) {
          grad.dq[row * k_dim + i] += ds * in.k[key * k_dim + i];
          grad.dk[key * k_dim + i] += ds * in.q[row * k_dim + i];
        }
        for (size_t i = 0; i < v_dim; ++i) grad.dv[key * v_dim + i] += p[s] * dout[row * v_dim + i];
      }
    }
  return grad;
}

}  // namespace moerl::kernels::ref
