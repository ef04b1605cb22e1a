#include "experiments/sample_store.h"

#include <sqlite3.h>

#include <cmath>
#include <cstring>

#include "common/check.h"
#include "common/json.h"

namespace moerl {
namespace {

constexpr const char* kSchema = R"(
CREATE TABLE IF NOT EXISTS samples (
  step INTEGER, stage TEXT, split TEXT, prompt_id INTEGER, sample_index INTEGER,
  data_source TEXT, prompt TEXT, response TEXT, ground_truth TEXT,
  token_ids BLOB, log_probs BLOB, finish_reason TEXT,
  reward REAL, status TEXT, extracted TEXT, parts TEXT,
  advantage REAL, in_loss INTEGER, policy_version INTEGER);
CREATE INDEX IF NOT EXISTS samples_by_step ON samples (step, split, prompt_id, sample_index);
)";
constexpr const char* kInsert =
    "INSERT INTO samples VALUES "
    "(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17,?18,?19)";

void bind_text(sqlite3_stmt* s, int i, const std::string& text) {
  sqlite3_bind_text(s, i, text.data(), static_cast<int>(text.size()), SQLITE_TRANSIENT);
}
template <typename T>
void bind_blob(sqlite3_stmt* s, int i, const std::vector<T>& values) {
  sqlite3_bind_blob(s, i, values.empty() ? "" : static_cast<const void*>(values.data()),
                    static_cast<int>(values.size() * sizeof(T)), SQLITE_TRANSIENT);
}
std::string column_text(sqlite3_stmt* s, int i) {
  const unsigned char* text = sqlite3_column_text(s, i);
  if (text == nullptr) return "";
  return {reinterpret_cast<const char*>(text), static_cast<size_t>(sqlite3_column_bytes(s, i))};
}
/// SQLite stores NaN as NULL.
double column_double(sqlite3_stmt* s, int i) {
  return sqlite3_column_type(s, i) == SQLITE_NULL ? std::nan("") : sqlite3_column_double(s, i);
}
template <typename T>
std::vector<T> column_blob(sqlite3_stmt* s, int i) {
  std::vector<T> values(static_cast<size_t>(sqlite3_column_bytes(s, i)) / sizeof(T));
  if (!values.empty())
    std::memcpy(values.data(), sqlite3_column_blob(s, i), values.size() * sizeof(T));
  return values;
}

}  // namespace

SampleStore::SampleStore(const std::filesystem::path& path, int64_t last_step) : path_(path) {
  if (sqlite3_open(path.c_str(), &db_) != SQLITE_OK) {
    const std::string reason = sqlite3_errmsg(db_);
    sqlite3_close(db_);
    throw IoError(concat("cannot open ", path.string(), ": ", reason));
  }
  try {
    // Full: what was added before a checkpoint must not be lost when that checkpoint is not.
    execute("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;");
    execute(kSchema);
    execute(concat("DELETE FROM samples WHERE step > ", last_step).c_str());
    if (sqlite3_prepare_v2(db_, kInsert, -1, &insert_, nullptr) != SQLITE_OK)
      throw IoError(concat(path_.string(), ": ", sqlite3_errmsg(db_)));
  } catch (...) {
    sqlite3_close(db_);
    throw;
  }
}

SampleStore::~SampleStore() {
  sqlite3_finalize(insert_);
  sqlite3_close(db_);
}

void SampleStore::execute(const char* sql) {
  char* message = nullptr;
  if (sqlite3_exec(db_, sql, nullptr, nullptr, &message) == SQLITE_OK) return;
  const std::string text = message == nullptr ? "unknown error" : message;
  sqlite3_free(message);
  throw IoError(concat(path_.string(), ": ", text));
}

void SampleStore::add(std::span<const SampleRecord> records) {
  execute("BEGIN");
  for (const SampleRecord& r : records) {
    sqlite3_bind_int64(insert_, 1, r.step);
    bind_text(insert_, 2, r.stage);
    bind_text(insert_, 3, r.split);
    sqlite3_bind_int64(insert_, 4, static_cast<int64_t>(r.prompt_id));
    sqlite3_bind_int(insert_, 5, r.sample_index);
    bind_text(insert_, 6, r.data_source);
    bind_text(insert_, 7, r.prompt);
    bind_text(insert_, 8, r.response);
    bind_text(insert_, 9, r.ground_truth);
    bind_blob(insert_, 10, r.token_ids);
    bind_blob(insert_, 11, r.log_probs);
    bind_text(insert_, 12, r.finish_reason);
    sqlite3_bind_double(insert_, 13, r.reward);
    bind_text(insert_, 14, r.status);
    bind_text(insert_, 15, r.extracted);
    bind_text(insert_, 16, nlohmann::json(r.parts).dump());
    sqlite3_bind_double(insert_, 17, r.advantage);
    sqlite3_bind_int(insert_, 18, r.in_loss ? 1 : 0);
    sqlite3_bind_int64(insert_, 19, r.policy_version);
    const int result = sqlite3_step(insert_);
    sqlite3_reset(insert_);
    if (result != SQLITE_DONE) {
      const std::string reason = sqlite3_errmsg(db_);
      execute("ROLLBACK");
      throw IoError(concat("cannot write ", path_.string(), ": ", reason));
    }
  }
  execute("COMMIT");
}

std::vector<SampleRecord> SampleStore::read(const std::string& stage, const std::string& split,
                                            bool last, int64_t limit) {
  const std::string sql =
      concat("SELECT * FROM samples WHERE stage = ?1 AND split = ?2 AND step = (SELECT ",
             last ? "MAX" : "MIN", "(step) FROM samples WHERE stage = ?1 AND split = ?2) ",
             "ORDER BY prompt_id, sample_index LIMIT ", limit);
  sqlite3_stmt* s = nullptr;
  if (sqlite3_prepare_v2(db_, sql.c_str(), -1, &s, nullptr) != SQLITE_OK)
    throw IoError(concat(path_.string(), ": ", sqlite3_errmsg(db_)));
  bind_text(s, 1, stage);
  bind_text(s, 2, split);
  std::vector<SampleRecord> records;
  while (sqlite3_step(s) == SQLITE_ROW) {
    SampleRecord& r = records.emplace_back();
    r.step = sqlite3_column_int64(s, 0);
    r.stage = column_text(s, 1);
    r.split = column_text(s, 2);
    r.prompt_id = static_cast<uint64_t>(sqlite3_column_int64(s, 3));
    r.sample_index = sqlite3_column_int(s, 4);
    r.data_source = column_text(s, 5);
    r.prompt = column_text(s, 6);
    r.response = column_text(s, 7);
    r.ground_truth = column_text(s, 8);
    r.token_ids = column_blob<int32_t>(s, 9);
    r.log_probs = column_blob<float>(s, 10);
    r.finish_reason = column_text(s, 11);
    r.reward = column_double(s, 12);
    r.status = column_text(s, 13);
    r.extracted = column_text(s, 14);
    const nlohmann::json parts = try_parse_json(column_text(s, 15));
    if (parts.is_object()) r.parts = parts.get<std::map<std::string, double>>();
    r.advantage = column_double(s, 16);
    r.in_loss = sqlite3_column_int(s, 17) != 0;
    r.policy_version = sqlite3_column_int64(s, 18);
  }
  sqlite3_finalize(s);
  return records;
}

}  // namespace moerl
