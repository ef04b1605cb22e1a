#include "experiments/stages/shared_samples.h"

#include <cstring>

#include "policy/parallel/collectives.h"

namespace moerl {
namespace {

template <typename T>
void write(std::string& bytes, const T& value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}
template <typename T>
void write(std::string& bytes, const std::vector<T>& values) {
  write(bytes, values.size());
  bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

/// Reads what write() has written, in its order.
class Reader {
 public:
  explicit Reader(const std::string& bytes) : at_(bytes.data()) {}
  template <typename T>
  void read(T& value) {
    copy(&value, sizeof value);
  }
  template <typename T>
  void read(std::vector<T>& values) {
    size_t size = 0;
    read(size);
    values.resize(size);
    copy(values.data(), size * sizeof(T));
  }

 private:
  void copy(void* to, size_t size) {
    if (size > 0) std::memcpy(to, at_, size);
    at_ += size;
  }
  const char* at_;
};

/// Calls f for every field of a sample: writing and reading have one list.
template <typename Sample, typename F>
void for_each_field(Sample& sample, const F& f) {
  f(sample.sequence.prompt);
  f(sample.sequence.completion);
  f(sample.rollout_log_probs);
  f(sample.advantage);
  f(sample.group);
  f(sample.in_loss);
}

}  // namespace

void share_samples(Communicator& comm, std::vector<GrpoSample>& samples, int64_t& prompts_drawn) {
  if (comm.size() == 1) return;
  std::string bytes;
  if (comm.rank() == 0) {
    write(bytes, prompts_drawn);
    write(bytes, samples.size());
    for (const GrpoSample& sample : samples)
      for_each_field(sample, [&](const auto& field) { write(bytes, field); });
  }
  bytes = broadcast(comm, bytes);
  if (comm.rank() == 0) return;
  Reader reader(bytes);
  size_t size = 0;
  reader.read(prompts_drawn);
  reader.read(size);
  samples.resize(size);
  for (GrpoSample& sample : samples)
    for_each_field(sample, [&](auto& field) { reader.read(field); });
}

}  // namespace moerl
