#include "kernels/cuda/backend.h"
#include "kernels/cuda/device.h"
#include "kernels/loss/policy_loss_impl.h"

namespace moerl::kernels::cuda {
namespace {

void run(const PolicyLossCudaArgs& args) {
  launch_each("policy_loss", args.tokens, [=] __device__(int64_t t) {
    PolicyLossTerms terms{};
    if (args.weights[t] != 0)
      terms = policy_loss_terms(
          args.config,
          {args.log_probs[t], args.old_log_probs[t],
           args.config.kl == KlType::kNone ? 0.0f : args.ref_log_probs[t],
           args.entropy == nullptr ? 0.0f : args.entropy[t], args.advantages[t], args.weights[t]});
    args.terms[t] = terms.sums;
    args.dlog_probs[t] = terms.dlog_prob;
    if (args.dentropy != nullptr) args.dentropy[t] = terms.dentropy;
  });
  // In token order, a thread for each of the sums.
  constexpr int64_t kSums = sizeof(PolicyLossSums) / sizeof(double);
  launch_each("policy_loss", kSums, [=] __device__(int64_t i) {
    const double* terms = reinterpret_cast<const double*>(args.terms) + i;
    double sum = 0;
    for (int64_t t = 0; t < args.tokens; ++t) sum += terms[t * kSums];
    reinterpret_cast<double*>(args.sums)[i] = sum;
  });
}

const RegisterCudaOps<PolicyLossCuda> registered({run});

}  // namespace
}  // namespace moerl::kernels::cuda
