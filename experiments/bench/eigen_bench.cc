// Eigen's product of the same fp32 operands, to compare linear_forward with. Built for the building
// machine, since Eigen chooses its instructions when it is compiled.
#include <Eigen/Core>

#include "experiments/bench/gemm_rates.h"

namespace moerl {
namespace {

void eigen_forward(benchmark::State& state) {
  using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  const Eigen::Index n = state.range(0), k = state.range(1), t = state.range(2);
  const Matrix x = Matrix::Random(t, k), w = Matrix::Random(n, k);
  Matrix y(t, n);
  bench::run(state, 2.0 * static_cast<double>(t * n * k), 4.0 * static_cast<double>(n * k),
             [&] { y.noalias() = x * w.transpose(); });
}

BENCHMARK(eigen_forward)->Apply(bench::inference_and_training);

}  // namespace
}  // namespace moerl
