#include "experiments/run_directory.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cstring>

#include "common/check.h"
#include "common/file.h"
#include "common/json.h"
#include "policy/weights_io.h"

namespace moerl {
namespace {

namespace fs = std::filesystem;

std::string checkpoint_name(int64_t step) {
  char name[32];
  std::snprintf(name, sizeof name, "step-%06ld", static_cast<long>(step));
  return name;
}

/// A recipe without the settings that cannot change the result: threads, engines, addresses,
/// checkpoints. A run may go on with others.
std::string decisive_part(const std::string& recipe) {
  YAML::Node root = YAML::Load(recipe);
  root.remove("num_threads");
  root.remove("rollout");
  for (const auto& [group, key] : {std::pair{"reward", "addresses"},
                                   {"reward", "num_workers"},
                                   {"trainer", "save_freq"},
                                   {"trainer", "max_ckpt_to_keep"},
                                   {"trainer", "resume_mode"},
                                   {"parallel", "expert_parallel_size"},
                                   {"parallel", "timeout_s"}})
    if (root[group]) root[group].remove(key);
  return YAML::Dump(root);
}

/// Whether a run in this folder got anywhere. One that failed at its start, for a mistake in the
/// recipe, must not stand in the way of the next.
bool holds_results(const fs::path& run_directory) {
  std::error_code error;
  const auto metrics_bytes = fs::file_size(run_directory / "metrics.jsonl", error);
  return (!error && metrics_bytes > 0) || !RunDirectory::checkpoints(run_directory).empty();
}

/// The first line in which two texts differ, for the message that they do.
std::string first_difference(const std::string& a, const std::string& b) {
  std::istringstream in_a(a), in_b(b);
  std::string line_a, line_b;
  while (true) {
    const bool more_a = static_cast<bool>(std::getline(in_a, line_a));
    const bool more_b = static_cast<bool>(std::getline(in_b, line_b));
    if (!more_a) line_a = "(end)";
    if (!more_b) line_b = "(end)";
    if (line_a != line_b || !more_a)
      return concat("the run has '", line_a, "', the recipe '", line_b, "'");
  }
}

}  // namespace

RunDirectory::RunDirectory(const fs::path& path, const std::string& resolved_recipe,
                           const std::string& resume_mode)
    : path_(path) {
  std::error_code error;
  fs::create_directories(path_ / "checkpoints", error);
  if (error) throw IoError(concat("cannot create ", path_.string(), ": ", error.message()));
  lock_ = ::open((path_ / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (lock_ < 0)
    throw IoError(concat("cannot write in ", path_.string(), ": ", std::strerror(errno)));
  try {
    if (::flock(lock_, LOCK_EX | LOCK_NB) != 0)
      throw IoError(concat(path_.string(), " is in use by another process"));
    const fs::path recipe_path = path_ / "config.resolved.yaml";
    if (fs::exists(recipe_path) && holds_results(path_)) {
      if (resume_mode == "disable")
        throw ConfigError(concat(path_.string(),
                                 " already holds a run and trainer.resume_mode is disable; "
                                 "choose another --run-dir"));
      const std::string old = decisive_part(read_file(recipe_path));
      const std::string now = decisive_part(resolved_recipe);
      if (old != now)
        throw ConfigError(concat(path_.string(),
                                 " holds a run of another recipe: ", first_difference(old, now),
                                 "; choose another --run-dir, or remove this one"));
    }
    write_file_atomic(recipe_path, resolved_recipe);
    // What a crash left half written.
    for (const fs::directory_entry& entry : fs::directory_iterator(path_ / "checkpoints"))
      if (entry.path().extension() == ".tmp") fs::remove_all(entry.path());
  } catch (...) {
    ::close(lock_);
    throw;
  }
}

RunDirectory::~RunDirectory() { ::close(lock_); }

std::vector<fs::path> RunDirectory::checkpoints(const fs::path& run_directory) {
  std::vector<fs::path> found;
  const fs::path folder = run_directory / "checkpoints";
  if (!fs::is_directory(folder)) return found;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("step-") && name.find('.') == std::string::npos)
      found.push_back(entry.path());
  }
  // By step: a number of more than six digits is longer.
  std::sort(found.begin(), found.end(), [](const fs::path& a, const fs::path& b) {
    const std::string x = a.filename().string(), y = b.filename().string();
    return std::pair(x.size(), x) < std::pair(y.size(), y);
  });
  return found;
}

std::optional<fs::path> RunDirectory::newest_checkpoint() const {
  const std::vector<fs::path> all = checkpoints(path_);
  if (all.empty()) return std::nullopt;
  return all.back();
}

void RunDirectory::save_checkpoint(ExecContext& ctx, const RunState& state,
                                   const Transformer& model, const AdamW& optimizer,
                                   const Transformer* reference, const std::string& tokenizer_json,
                                   int64_t keep) {
  const fs::path target = path_ / "checkpoints" / checkpoint_name(state.global_step);
  fs::path aside = target;
  aside += ".tmp";
  fs::remove_all(aside);
  fs::create_directories(aside);
  save_model(ctx, model, aside, DType::kF32);
  optimizer.save(aside / "optimizer.safetensors");
  if (reference != nullptr) save_model(ctx, *reference, aside / "reference", DType::kF32);
  write_file_atomic(aside / "tokenizer.json", tokenizer_json);
  const nlohmann::ordered_json json = {{"global_step", state.global_step},
                                       {"stage", state.stage},
                                       {"stage_step", state.stage_step},
                                       {"policy_version", state.policy_version},
                                       {"prompts_drawn", state.prompts_drawn}};
  write_file_atomic(aside / "state.json", json.dump(2) + "\n");
  // Not samples.sqlite: to close a file that SQLite has open drops SQLite's locks on it.
  if (fs::exists(path_ / "metrics.jsonl")) sync_path(path_ / "metrics.jsonl");
  rename_directory_atomic(aside, target);

  const std::vector<fs::path> all = checkpoints(path_);
  for (size_t i = 0; i + static_cast<size_t>(keep) < all.size(); ++i) {
    // Renamed first: a half removed directory must not look like a checkpoint.
    fs::path doomed = all[i];
    doomed += ".tmp";
    fs::rename(all[i], doomed);
    fs::remove_all(doomed);
  }
}

void RunDirectory::help_to_save(ExecContext& ctx, const Transformer& model, const AdamW& optimizer,
                                const Transformer* reference) {
  save_model(ctx, model, {}, DType::kF32);
  optimizer.save({});
  if (reference != nullptr) save_model(ctx, *reference, {}, DType::kF32);
}

RunState RunDirectory::read_state(const fs::path& checkpoint) {
  const fs::path path = checkpoint / "state.json";
  const nlohmann::json json = try_parse_json(read_file(path));
  RunState state;
  for (auto [name, field] : {std::pair{"global_step", &state.global_step},
                             {"stage", &state.stage},
                             {"stage_step", &state.stage_step},
                             {"policy_version", &state.policy_version},
                             {"prompts_drawn", &state.prompts_drawn}}) {
    if (!json.is_object() || !json.contains(name) || !json[name].is_number_integer())
      throw IoError(concat(path.string(), ": expected an object with the integer ", name));
    *field = json[name].get<int64_t>();
  }
  return state;
}

}  // namespace moerl
