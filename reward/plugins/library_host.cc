#include "reward/plugins/library_host.h"

#include <dlfcn.h>
#include <unistd.h>

#include <cmath>
#include <cstring>
#include <iostream>
#include <limits>

#include "common/check.h"
#include "common/error.h"
#include "common/json.h"
#include "reward/plugins/moerl_reward.h"
#include "reward/verdict.h"

namespace moerl::reward {
namespace {

using Json = nlohmann::json;
using VersionFunction = int32_t (*)();
using ScoreFunction = int32_t (*)(const moerl_sample*, size_t, moerl_verdict*);

void* find_symbol(void* library, const std::string& path, const char* name) {
  void* symbol = ::dlsym(library, name);
  if (symbol == nullptr) throw IoError(concat(path, ": has no function ", name));
  return symbol;
}

ScoreFunction load(const std::string& path) {
  // A name without a slash would be searched for in the system's folders.
  void* library =
      ::dlopen((path.find('/') == path.npos ? "./" + path : path).c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) throw IoError(concat(path, ": cannot be loaded: ", ::dlerror()));
  const auto version =
      reinterpret_cast<VersionFunction>(find_symbol(library, path, "moerl_reward_abi_version"));
  if (version() != MOERL_REWARD_ABI_VERSION)
    throw IoError(concat(path, ": is made for version ", version(), " of moerl_reward.h, expected ",
                         MOERL_REWARD_ABI_VERSION));
  return reinterpret_cast<ScoreFunction>(find_symbol(library, path, "moerl_reward_score"));
}

/// The samples of a batch and the memory that they point into.
struct Batch {
  explicit Batch(const Json& list) {
    texts.reserve(6 * list.size());
    tokens.reserve(list.size());
    for (const Json& each : list) {
      moerl_sample sample{};
      sample.response = keep(each["response"].get<std::string>());
      sample.ground_truth = keep(each["ground_truth"].get<std::string>());
      sample.extra_info_json = keep(each["extra_info"].dump());
      sample.data_source = keep(each["data_source"].get<std::string>());
      sample.prompt = keep(each["prompt"].get<std::string>());
      sample.options_json = keep(each["options"].dump());
      const auto& ids = tokens.emplace_back(each["token_ids"].get<std::vector<int32_t>>());
      sample.token_ids = ids.data();
      sample.num_token_ids = ids.size();
      sample.num_tokens = each["num_tokens"].is_null() ? -1 : each["num_tokens"].get<int64_t>();
      sample.is_correct = each["is_correct"].is_null() ? -1 : each["is_correct"].get<bool>();
      samples.push_back(sample);
    }
  }
  moerl_text keep(std::string text) {
    const std::string& kept = texts.emplace_back(std::move(text));
    return {kept.data(), kept.size()};
  }
  std::vector<std::string> texts;
  std::vector<std::vector<int32_t>> tokens;
  std::vector<moerl_sample> samples;
};

Json to_answer(const moerl_verdict& verdict) {
  if (!std::isfinite(verdict.score))
    return {{"error", concat("the score is ", verdict.score, ", expected a finite number")}};
  if (verdict.status < 1 || verdict.status > static_cast<int>(kVerdictStatuses.size()))
    return {{"error", concat("the status is ", verdict.status, ", expected a moerl_status")}};
  const auto text = [](const char(&from)[1024]) {
    return std::string(from, ::strnlen(from, sizeof from));
  };
  return {{"score", verdict.score},
          {"status", status_name(static_cast<VerdictStatus>(verdict.status))},
          {"extracted", text(verdict.extracted)},
          {"detail", text(verdict.detail)}};
}

Json judge(ScoreFunction score, const std::string& line) {
  const Batch batch(parse_json(line));
  moerl_verdict unset{};
  unset.score = std::numeric_limits<double>::quiet_NaN();
  std::vector<moerl_verdict> verdicts(batch.samples.size(), unset);
  const int32_t code = score(batch.samples.data(), batch.samples.size(), verdicts.data());
  if (code != 0) return {{"error", concat("moerl_reward_score returned ", code, ", expected 0")}};
  Json answers = Json::array();
  for (const moerl_verdict& verdict : verdicts) answers.push_back(to_answer(verdict));
  return answers;
}

}  // namespace

int run_library_host(const std::string& path) {
  FILE* answers = ::fdopen(::dup(STDOUT_FILENO), "w");
  ::dup2(STDERR_FILENO, STDOUT_FILENO);
  const auto answer = [&](const Json& value) {
    std::fprintf(answers, "%s\n",
                 value.dump(-1, ' ', false, Json::error_handler_t::replace).c_str());
    std::fflush(answers);
  };
  ScoreFunction score = nullptr;
  try {
    score = load(path);
  } catch (const std::exception& error) {
    answer({{"error", error.what()}});
    return 1;
  }
  answer({{"ready", true}});
  for (std::string line; std::getline(std::cin, line);) {
    try {
      answer(judge(score, line));
    } catch (const std::exception& error) {
      answer({{"error", error.what()}});
    }
  }
  return 0;
}

}  // namespace moerl::reward
