// Reading a checkpoint into fp32 masters, beside what read() of the same files does in the same run
// on the same threads. Counters, all of the median pass:
//   GB/s      bytes of the files a second
//   of_read   that, as a share of read() into buffers that stay in the cache: no memory is filled
//   of_fill   bytes of masters a second, as a share of read() that fills memory like the masters:
//             as large, as fresh. A type narrower than fp32 fills 2 or 4 bytes for each that it
//             reads, so this is the limit of a load
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <thread>
#include <vector>

#include "common/check.h"
#include "kernels/quant/fp8_block.h"
#include "policy/checkpoint_reader.h"
#include "policy/safetensors_writer.h"
#include "policy/tensor_hash.h"

namespace moerl::bench {
namespace {

namespace fs = std::filesystem;
using policy::SafetensorsDtype;

constexpr int64_t kPiece = 1 << 20;
constexpr int kPasses = 5;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

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

/// A checkpoint of matrices [4096, 4096] in shards of 512 MiB, removed at the end.
/// MOERL_BENCH_CHECKPOINT_MB sets its size [2048].
class SyntheticCheckpoint {
 public:
  explicit SyntheticCheckpoint(SafetensorsDtype dtype)
      : directory_(fs::temp_directory_path() / concat("moerl_load_bench_", ::getpid())) {
    const char* text = std::getenv("MOERL_BENCH_CHECKPOINT_MB");
    const int64_t megabytes = text == nullptr ? 2048 : std::atoll(text);
    const int64_t bytes = kShape.numel() * policy::dtype_bits(dtype) / 8;
    const std::vector<std::byte> data(static_cast<size_t>(bytes), std::byte{0x3C});
    const Shape scale_shape = kernels::fp8_scale_shape(kShape);
    const std::vector<float> scales(static_cast<size_t>(scale_shape.numel()), 0.5f);
    policy::SafetensorsWriter writer;
    for (int64_t i = 0; i < std::max<int64_t>(1, (megabytes << 20) / bytes); ++i) {
      writer.add(concat("w", i), dtype, kShape, data.data());
      if (dtype == SafetensorsDtype::kF8E4M3)
        writer.add(concat("w", i, "_scale_inv"), SafetensorsDtype::kF32, scale_shape,
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
  /// Fills tensors with its bytes, from its start again where it ends.
  void fill(ExecContext& ctx, std::vector<Tensor>& tensors) const {
    const int64_t in_tensor = tensors[0].bytes() / kPiece;
    const auto count = static_cast<int64_t>(tensors.size()) * in_tensor;
    ctx.pool().parallel_for(count, [&](int64_t i) {
      char* to = static_cast<char*>(tensors[static_cast<size_t>(i / in_tensor)].raw());
      read_piece(i % static_cast<int64_t>(pieces_.size()), to + i % in_tensor * kPiece);
    });
  }

  static inline const Shape kShape{4096, 4096};

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

/// @param fresh  whether the masters are memory without pages, as in a starting process. The
///   machine has had as much in use before, so that no hypervisor has to find it first.
void load(benchmark::State& state, SafetensorsDtype dtype, bool fresh) {
  ExecContext ctx(static_cast<int>(std::max(1u, std::thread::hardware_concurrency())));
  const SyntheticCheckpoint checkpoint(dtype);
  const policy::CheckpointReader names_of(checkpoint.directory());
  std::vector<std::string> names = names_of.names();
  names_of.sort_by_place(names);
  std::vector<Tensor> masters;
  const auto allocate = [&] {
    masters.clear();
    if (fresh) Tensor::release_cache();
    for (size_t i = 0; i < names.size(); ++i)
      masters.push_back(Tensor::empty(SyntheticCheckpoint::kShape, DType::kF32));
  };
  const auto load_once = [&] {
    const policy::CheckpointReader reader(checkpoint.directory());
    for (size_t i = 0; i < names.size(); ++i) reader.read(ctx, names[i], masters[i]);
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
  state.counters["GB/s"] = static_cast<double>(checkpoint.bytes()) / took * 1e-9;
  state.counters["read_GB/s"] = static_cast<double>(checkpoint.bytes()) / read * 1e-9;
  state.counters["of_read"] = read / took;
  state.counters["of_fill"] = fill / took;
  masters.clear();
  Tensor::release_cache();
}

/// The fingerprint that a transfer of weights is checked with.
void hash(benchmark::State& state) {
  const Tensor tensor = Tensor::zeros(SyntheticCheckpoint::kShape, DType::kF32);
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
BENCHMARK(hash);

}  // namespace
}  // namespace moerl::bench
