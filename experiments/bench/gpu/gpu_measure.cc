#include "experiments/bench/gpu/gpu_measure.h"

#include <algorithm>
#include <optional>

#include "common/rng.h"
#include "common/shared_library.h"
#include "kernels/cuda/wgmma_proof.h"
#include "kernels/gemm/cublaslt_loader.h"
#include "kernels/gemm/dense_products.h"
#include "kernels/gemm/wgmma_products.h"
#include "kernels/norm/elementwise.h"

namespace moerl::bench {

using namespace kernels;  // NOLINT: the operators are what this is about

namespace {

constexpr double kDataSheetFlops = 989e12;

/// Bytes a second of copying 1 GiB within the device, read and written.
double copy_rate() {
  static const double rate = [] {
    Tensor from = device().zeros({int64_t{1} << 28}, DType::kF32), to = from.clone();
    return 2.0 * static_cast<double>(from.bytes()) / time_of(5, [&] { to.copy_from(from); });
  }();
  return rate;
}

}  // namespace

ExecContext& device() {
  static ExecContext ctx(1, detect_isa(), Device::kCuda);
  return ctx;
}

void use(Products products) {
  static std::optional<Products> in_use;
  if (products == in_use) return;
  in_use = products;
  enable_wgmma(products != Products::kMmaSync);
  if (products == Products::kKernels || products == Products::kMmaSync)
    return dense_products().use(nullptr);
  dense_products().use([] { return open_cublaslt(program_directory()); },
                       products == Products::kAll ? Accept::kProven : Accept::kFirst);
}

std::string name_of(const std::string& name, Products products) {
  constexpr const char* kSuffixes[] = {"", ", own kernels", ", mma.sync", ", cuBLASLt unproven"};
  return name + kSuffixes[static_cast<int>(products)];
}

Tensor filled(Shape shape, DType dtype) {
  constexpr int64_t kBlock = 1 << 20;
  const int64_t count = shape.numel();
  std::vector<float> block(static_cast<size_t>(std::min(kBlock, count)));
  Rng rng(1, static_cast<uint64_t>(count));
  for (float& value : block) value = static_cast<float>(rng.next_u32()) * 0x1p-32f - 0.5f;
  const Tensor wide = device().empty(std::move(shape), DType::kF32), flat = wide.view({count});
  int64_t done = std::min(kBlock, count);
  Tensor first = flat.rows(0, done);
  first.copy_from_host(block.data());
  for (int64_t more = 0; done < count; done += more) {
    more = std::min(done, count - done);
    flat.rows(done, done + more).copy_from(flat.rows(0, more));
  }
  if (dtype == DType::kF32) return wide;
  Tensor narrow = device().empty(wide.shape(), dtype);
  cast(device(), wide, narrow);
  return narrow;
}

std::vector<int32_t> random_tokens(int64_t count, uint64_t stream) {
  Rng rng(7, stream);
  std::vector<int32_t> tokens;
  for (int64_t i = 0; i < count; ++i)
    tokens.push_back(static_cast<int32_t>(rng.below(static_cast<uint32_t>(kVocab))));
  return tokens;
}

PackedWeight weight_of(int64_t out, int64_t in, Precision precision) {
  PackedWeight packed;
  pack_weight(device(), filled({out, in}, DType::kF32), precision, true, packed);
  return packed;
}

void measure(benchmark::State& state, double flop, double bytes, const std::function<void()>& f) {
  f();
  double seconds = 0;
  for (auto _ : state) {
    const double once = time_of(1, f);
    state.SetIterationTime(once);
    seconds += once;
  }
  seconds /= static_cast<double>(state.iterations());
  const double floor = std::max(flop / kDataSheetFlops, bytes / copy_rate());
  state.counters["floor_us"] = floor * 1e6;
  state.counters["share"] = floor / seconds;
  if (flop > 0) state.counters["tflops"] = flop / seconds * 1e-12;
  if (bytes > 0) state.counters["gbs"] = bytes / seconds * 1e-9;
}

void add(const std::string& name, const std::function<void(benchmark::State&)>& body,
         Products products) {
  benchmark::RegisterBenchmark(name_of(name, products).c_str(),
                               [=](benchmark::State& state) {
                                 use(products);
                                 body(state);
                               })
      ->UseManualTime()
      ->MinTime(0.1)
      ->Unit(benchmark::kMicrosecond);
}

void label(benchmark::State& state, bool transposed, int64_t columns, int64_t depth) {
  state.SetLabel(
      dense_products().verdict({transposed, DType::kBF16, /*accumulate=*/false, columns, depth}) +
      "; " + wgmma_products().verdict());
}

}  // namespace moerl::bench
