// Loading a checkpoint, beside what read() of the same files does in the same run on the same
// threads: into fp32 masters (training), and into the bf16 images of a model without masters
// (inference). Counters, all of the median pass:
//   GB/s      bytes of the files a second
//   of_read   that, as a share of read() into buffers that stay in the cache: no memory is filled
//   of_fill   that, as a share of read() of all files into memory like that of the weights, as
//             large and as fresh: the limit of a load
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/clock.h"
#include "kernels/quant/fp8_block.h"
#include "policy/checkpoint_export.h"
#include "policy/checkpoint_reader.h"
#include "policy/safetensors_writer.h"
#include "policy/tensor_hash.h"
#include "policy/weights_io.h"

namespace moerl::bench {
namespace {

namespace fs = std::filesystem;
using policy::SafetensorsDtype;

constexpr int64_t kPiece = 1 << 20;
constexpr int kPasses = 5;

/// Seconds of the median of kPasses.
template <typename Prepare, typename Pass>
double median_seconds(const Prepare& prepare, const Pass& pass) {
  std::vector<double> seconds;
  for (int i = 0; i < kPasses; ++i) {
    prepare();
    const auto start = std::chrono::steady_clock::now();
    pass();
    seconds.push_back(seconds_since(start));
  }
  std::nth_element(seconds.begin(), seconds.begin() + kPasses / 2, seconds.end());
  return seconds[kPasses / 2];
}

/// Bytes of a checkpoint: MOERL_BENCH_CHECKPOINT_MB, by default 2 GiB.
int64_t checkpoint_bytes() {
  const char* text = std::getenv("MOERL_BENCH_CHECKPOINT_MB");
  return (text == nullptr ? 2048 : std::atoll(text)) << 20;
}

/// Tensors of one type in shards of 512 MiB, removed at the end.
class SyntheticCheckpoint {
 public:
  /// @param tensors  names and shapes. What FP8 checkpoints keep wider is BF16 in an FP8 one.
  SyntheticCheckpoint(SafetensorsDtype dtype,
                      const std::vector<std::pair<std::string, Shape>>& tensors)
      : directory_(fs::temp_directory_path() / concat("moerl_load_bench_", ::getpid())) {
    int64_t largest = 0;
    for (const auto& [name, shape] : tensors) largest = std::max(largest, shape.numel());
    const std::vector<std::byte> data(static_cast<size_t>(largest) * 4, std::byte{0x3C});
    const std::vector<float> scales(static_cast<size_t>(largest), 0.5f);
    policy::SafetensorsWriter writer;
    for (const auto& [name, shape] : tensors) {
      const bool is_fp8 = dtype == SafetensorsDtype::kF8E4M3 && is_fp8_weight(name, shape.rank());
      const bool is_wider = dtype == SafetensorsDtype::kF8E4M3 && !is_fp8;
      writer.add(name, is_wider ? SafetensorsDtype::kBF16 : dtype, shape, data.data());
      if (is_fp8)
        writer.add(name + "_scale_inv", SafetensorsDtype::kF32, kernels::fp8_scale_shape(shape),
                   scales.data());
    }
    writer.write_sharded(directory_, int64_t{512} << 20);
    for (const fs::directory_entry& entry : fs::directory_iterator(directory_)) {
      if (entry.path().extension() != ".safetensors") continue;
      const int fd = ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC);
      const auto size = static_cast<int64_t>(entry.file_size());
      for (int64_t at = 0; at + kPiece <= size; at += kPiece) pieces_.push_back({fd, at});
      files_.push_back(fd);
      bytes_ += size;
    }
  }
  ~SyntheticCheckpoint() {
    for (int fd : files_) ::close(fd);
    std::error_code ignored;
    fs::remove_all(directory_, ignored);
  }
  SyntheticCheckpoint(const SyntheticCheckpoint&) = delete;
  SyntheticCheckpoint& operator=(const SyntheticCheckpoint&) = delete;

  const fs::path& directory() const { return directory_; }
  int64_t bytes() const { return bytes_; }

  /// Reads all of it into a buffer for each thread.
  void read(ExecContext& ctx) const {
    ctx.pool().parallel_for(static_cast<int64_t>(pieces_.size()), [&](int64_t i) {
      thread_local std::vector<char> buffer(kPiece);
      read_piece(i, buffer.data());
    });
  }
  /// Reads all of it and fills all tensors: where they are larger, from its start again; where they
  /// are smaller, with as many of its pieces as there is memory for, spread evenly, and the others
  /// go to a buffer for each thread.
  void fill(ExecContext& ctx, std::vector<Tensor>& tensors) const {
    const int64_t in_tensor = tensors[0].bytes() / kPiece;
    const auto memory = static_cast<int64_t>(tensors.size()) * in_tensor;
    const auto pieces = static_cast<int64_t>(pieces_.size()), count = std::max(memory, pieces);
    ctx.pool().parallel_for(count, [&](int64_t i) {
      thread_local std::vector<char> buffer(kPiece);
      const int64_t at = i * memory / count;
      char* to = buffer.data();
      if ((i + 1) * memory / count > at)
        to = static_cast<char*>(tensors[static_cast<size_t>(at / in_tensor)].raw()) +
             at % in_tensor * kPiece;
      read_piece(i % pieces, to);
    });
  }

 private:
  struct Piece {
    int fd;
    int64_t offset;
  };
  void read_piece(int64_t i, char* to) const {
    const Piece& piece = pieces_[static_cast<size_t>(i)];
    check(::pread(piece.fd, to, kPiece, piece.offset) == kPiece, "a piece is cut short");
    benchmark::DoNotOptimize(to);
  }

  fs::path directory_;
  std::vector<int> files_;
  std::vector<Piece> pieces_;
  int64_t bytes_ = 0;
};

const Shape kMatrix{4096, 4096};

int num_threads() { return static_cast<int>(std::max(1u, std::thread::hardware_concurrency())); }

/// Memory like that of weights.
std::vector<Tensor> allocate_matrices(size_t count, DType dtype) {
  std::vector<Tensor> tensors;
  while (tensors.size() < count) tensors.push_back(Tensor::empty(kMatrix, dtype));
  return tensors;
}

void report(benchmark::State& state, const SyntheticCheckpoint& checkpoint, double took,
            double read, double fill) {
  state.counters["GB/s"] = static_cast<double>(checkpoint.bytes()) / took * 1e-9;
  state.counters["read_GB/s"] = static_cast<double>(checkpoint.bytes()) / read * 1e-9;
  state.counters["of_read"] = read / took;
  state.counters["of_fill"] = fill / took;
}

/// @param fresh  whether the masters are memory without pages, as in a starting process. The
///   machine has had as much in use before, so that no hypervisor has to find it first.
void load(benchmark::State& state, SafetensorsDtype dtype, bool fresh) {
  ExecContext ctx(num_threads());
  std::vector<std::pair<std::string, Shape>> names;
  const int64_t bytes = kMatrix.numel() * policy::dtype_bits(dtype) / 8;
  for (int64_t i = 0; i < std::max<int64_t>(1, checkpoint_bytes() / bytes); ++i)
    names.emplace_back(concat("w", i, ".up_proj.weight"), kMatrix);
  const SyntheticCheckpoint checkpoint(dtype, names);
  std::vector<Tensor> masters;
  const auto allocate = [&] {
    masters.clear();
    if (fresh) Tensor::release_cache();
    masters = allocate_matrices(names.size(), DType::kF32);
  };
  const auto load_once = [&] {
    const policy::CheckpointReader reader(checkpoint.directory());
    for (size_t i = 0; i < names.size(); ++i) reader.read(ctx, names[i].first, masters[i]);
  };
  allocate();
  load_once();
  double read = 0, fill = 0, took = 0;
  for (auto _ : state) {
    read = median_seconds([] {}, [&] { checkpoint.read(ctx); });
    fill = median_seconds(allocate, [&] { checkpoint.fill(ctx, masters); });
    took = median_seconds(allocate, load_once);
    state.SetIterationTime(took);
  }
  report(state, checkpoint, took, read, fill);
  masters.clear();
  Tensor::release_cache();
}

/// A Llama whose checkpoint of the type has about checkpoint_bytes().
ModelConfig llama_of(SafetensorsDtype dtype) {
  ModelConfig c = ModelConfig::of_family("llama");
  c.vocab_size = 4096;
  c.hidden_size = 2048;
  c.intermediate_size = 5632;
  c.num_attention_heads = 16;
  c.num_key_value_heads = 16;
  c.head_dim = 128;
  c.max_position_embeddings = 4096;
  c.num_hidden_layers = 1;
  const int64_t one_layer = c.num_parameters() * policy::dtype_bits(dtype) / 8;
  c.num_hidden_layers = std::max<int64_t>(1, checkpoint_bytes() / one_layer);
  return c;
}

/// A model for inference from nothing, in fresh memory.
void open(benchmark::State& state, SafetensorsDtype dtype) {
  ExecContext ctx(num_threads());
  const ModelConfig config = llama_of(dtype);
  std::unique_ptr<Transformer> model;
  const auto allocate = [&] {
    model.reset();
    Tensor::release_cache();
    model = std::make_unique<Transformer>(config, DType::kBF16, Masters::kDropped);
  };
  allocate();
  std::vector<std::pair<std::string, Shape>> tensors;
  for (const Parameter* parameter : std::as_const(*model).parameters())
    tensors.emplace_back(parameter->name, parameter->value.shape());
  const SyntheticCheckpoint checkpoint(dtype, tensors);
  const auto load_once = [&] { load_weights(ctx, *model, checkpoint.directory()); };
  load_once();
  std::vector<Tensor> like_images;
  const auto allocate_like = [&] {
    model.reset();
    like_images.clear();
    Tensor::release_cache();
    const int64_t count = config.num_parameters() / kMatrix.numel();
    like_images = allocate_matrices(static_cast<size_t>(std::max<int64_t>(1, count)), DType::kBF16);
  };
  double read = 0, fill = 0, took = 0;
  for (auto _ : state) {
    read = median_seconds([] {}, [&] { checkpoint.read(ctx); });
    fill = median_seconds(allocate_like, [&] { checkpoint.fill(ctx, like_images); });
    like_images.clear();
    took = median_seconds(allocate, load_once);
    state.SetIterationTime(took);
  }
  report(state, checkpoint, took, read, fill);
  model.reset();
  Tensor::release_cache();
}

/// The fingerprint that a transfer of weights is checked with.
void hash(benchmark::State& state) {
  const Tensor tensor = Tensor::zeros(kMatrix, DType::kF32);
  for (auto _ : state) benchmark::DoNotOptimize(tensor_hash("w", tensor));
  state.SetBytesProcessed(state.iterations() * tensor.bytes());
}

#define LOAD(type, fresh, name)                                            \
  BENCHMARK_CAPTURE(load, type##_##name, SafetensorsDtype::k##type, fresh) \
      ->Iterations(1)                                                      \
      ->UseManualTime()
LOAD(F32, true, fresh);
LOAD(BF16, true, fresh);
LOAD(F8E4M3, true, fresh);
LOAD(F32, false, touched);
LOAD(BF16, false, touched);
LOAD(F8E4M3, false, touched);
#define OPEN(type) \
  BENCHMARK_CAPTURE(open, type, SafetensorsDtype::k##type)->Iterations(1)->UseManualTime()
OPEN(F32);
OPEN(BF16);
OPEN(F8E4M3);
BENCHMARK(hash);

}  // namespace
}  // namespace moerl::bench
