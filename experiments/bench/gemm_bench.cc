// Rates of the linear kernels on one thread.
#include <random>
#include <vector>

#include "experiments/bench/gemm_rates.h"
#include "kernels/gemm/linear.h"

namespace moerl {
namespace {

using bench::inference_and_training;
using bench::run;
using bench::with_rows;
using kernels::PackedWeight;

Tensor random_values(Shape shape, DType dtype) {
  std::minstd_rand generator(1);
  std::uniform_real_distribution<float> uniform(-1.0f, 1.0f);
  Tensor tensor = Tensor::empty(std::move(shape), dtype);
  for (int64_t i = 0; i < tensor.numel(); ++i) {
    const float value = uniform(generator);
    if (dtype == DType::kF32) {
      tensor.data<float>()[i] = value;
    } else {
      tensor.data<bf16>()[i] = to_bf16(value);
    }
  }
  return tensor;
}

/// One layer's operands on one thread: the calibration is of one core.
struct Layer {
  Layer(const benchmark::State& state, DType dtype)
      : n(state.range(0)),
        k(state.range(1)),
        t(state.range(2)),
        x(random_values({t, k}, dtype)),
        dy(random_values({t, n}, dtype)),
        dweight(Tensor::zeros({n, k}, DType::kF32)) {
    pack_weight(ctx, random_values({n, k}, DType::kF32), dtype, true, weight);
  }
  ExecContext ctx{1};
  int64_t n, k, t;
  PackedWeight weight;
  Tensor x, dy, dweight;
};

double flops_of(const Layer& layer) {
  return 2.0 * static_cast<double>(layer.t) * static_cast<double>(layer.n * layer.k);
}
double bytes_of(const Layer& layer, DType dtype) {
  return static_cast<double>(layer.n * layer.k * dtype_size(dtype));
}

void linear_forward(benchmark::State& state, DType dtype) {
  Layer layer(state, dtype);
  run(state, flops_of(layer), bytes_of(layer, dtype),
      [&] { kernels::linear_forward(layer.ctx, layer.x, layer.weight, layer.dy); });
}
void linear_dgrad(benchmark::State& state, DType dtype) {
  Layer layer(state, dtype);
  run(state, flops_of(layer), bytes_of(layer, dtype),
      [&] { kernels::linear_dgrad(layer.ctx, layer.dy, layer.weight, layer.x); });
}
void linear_wgrad(benchmark::State& state, DType dtype) {
  Layer layer(state, dtype);
  run(state, flops_of(layer), 0.0,
      [&] { kernels::linear_wgrad(layer.ctx, layer.dy, layer.x, layer.dweight); });
}

/// Rows of 32 experts with uneven loads: expert e gets about twice the mean down to nearly none.
void grouped_linear_forward(benchmark::State& state, DType dtype) {
  constexpr size_t kExperts = 32;
  const int64_t n = state.range(0), k = state.range(1), t = state.range(2);
  ExecContext ctx(1);
  std::vector<PackedWeight> weights(kExperts);
  std::vector<const PackedWeight*> pointers;
  for (PackedWeight& weight : weights) {
    pack_weight(ctx, random_values({n, k}, DType::kF32), dtype, false, weight);
    pointers.push_back(&weight);
  }
  std::vector<int64_t> offsets = {0};
  for (size_t e = 0; e < kExperts; ++e)
    offsets.push_back(t * static_cast<int64_t>((e + 1) * (2 * kExperts - e - 1)) /
                      static_cast<int64_t>(kExperts * kExperts));
  double used = 0;  // experts whose weights are read
  for (size_t e = 0; e < kExperts; ++e) used += offsets[e] < offsets[e + 1];
  const Tensor x = random_values({t, k}, dtype);
  Tensor y = Tensor::empty({t, n}, dtype);
  run(state, 2.0 * static_cast<double>(t * n * k),
      static_cast<double>(n * k * dtype_size(dtype)) * used,
      [&] { kernels::grouped_linear_forward(ctx, x, offsets, pointers, y); });
}

void pack_weight_images(benchmark::State& state, DType dtype) {
  const int64_t n = state.range(0), k = state.range(1);
  ExecContext ctx(1);
  const Tensor master = random_values({n, k}, DType::kF32);
  PackedWeight weight;
  run(state, 0.0, static_cast<double>(n * k * (4 + 2 * dtype_size(dtype))),
      [&] { kernels::pack_weight(ctx, master, dtype, true, weight); });
}

void training(benchmark::internal::Benchmark* bench) { with_rows(bench, {64, 1024}); }
void experts(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"N", "K", "T"});
  for (int64_t t : {4, 64, 256, 4096}) bench->Args({256, 512, t});
}
void packing(benchmark::internal::Benchmark* bench) { with_rows(bench, {0}); }

BENCHMARK_CAPTURE(linear_forward, f32, DType::kF32)->Apply(inference_and_training);
BENCHMARK_CAPTURE(linear_forward, bf16, DType::kBF16)->Apply(inference_and_training);
BENCHMARK_CAPTURE(linear_dgrad, f32, DType::kF32)->Apply(training);
BENCHMARK_CAPTURE(linear_dgrad, bf16, DType::kBF16)->Apply(training);
BENCHMARK_CAPTURE(linear_wgrad, f32, DType::kF32)->Apply(training);
BENCHMARK_CAPTURE(linear_wgrad, bf16, DType::kBF16)->Apply(training);
BENCHMARK_CAPTURE(grouped_linear_forward, f32, DType::kF32)->Apply(experts);
BENCHMARK_CAPTURE(grouped_linear_forward, bf16, DType::kBF16)->Apply(experts);
BENCHMARK_CAPTURE(pack_weight_images, f32, DType::kF32)->Apply(packing);
BENCHMARK_CAPTURE(pack_weight_images, bf16, DType::kBF16)->Apply(packing);

}  // namespace
}  // namespace moerl
