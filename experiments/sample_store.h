#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

struct sqlite3;
struct sqlite3_stmt;

namespace moerl {

/// One completion as it is stored: what was asked, what came, how it was judged.
struct SampleRecord {
  int64_t step = 0;
  std::string stage;
  std::string split;  ///< "train" or "val"
  uint64_t prompt_id = 0;
  int32_t sample_index = 0;
  std::string data_source, prompt, response, ground_truth;
  std::vector<int32_t> token_ids;
  std::vector<float> log_probs;
  std::string finish_reason;
  double reward = 0;
  std::string status;  ///< of the verdict
  std::string extracted;
  std::map<std::string, double> parts;
  double advantage = 0;
  bool in_loss = false;
  int64_t policy_version = 0;
};

/// samples.sqlite of a run: table `samples`, one row a completion; token ids and log-probs are
/// little-endian int32 and float32 blobs, parts a JSON object. Readable while the run goes on.
class SampleStore {
 public:
  /// Opens or creates the store; rows of steps after `last_step` are removed. @throws IoError.
  SampleStore(const std::filesystem::path& path, int64_t last_step);
  ~SampleStore();
  SampleStore(const SampleStore&) = delete;
  SampleStore& operator=(const SampleStore&) = delete;

  /// Adds the rows in one transaction. @throws IoError.
  void add(std::span<const SampleRecord> records);

  /// The rows of the first (or last) step of a stage and split, at most `limit`, by prompt and
  /// sample.
  std::vector<SampleRecord> read(const std::string& stage, const std::string& split, bool last,
                                 int64_t limit);

 private:
  void execute(const char* sql);
  std::filesystem::path path_;
  sqlite3* db_ = nullptr;
  sqlite3_stmt* insert_ = nullptr;
};

}  // namespace moerl
