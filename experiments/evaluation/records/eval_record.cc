#include "experiments/evaluation/records/eval_record.h"

#include <algorithm>
#include <cstdio>

#include "common/check.h"
#include "common/json.h"

namespace moerl::eval {
namespace {

using Json = nlohmann::ordered_json;

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json parse(std::string_view line, const std::string& where) {
  Json json = try_parse_json<Json>(line);
  if (!json.is_object()) throw IoError(where + ": not a JSON object");
  return json;
}

/// Runs `read`, naming the place if a key is missing or of another type.
template <typename Read>
auto reading(const std::string& where, const Read& read) {
  try {
    return read();
  } catch (const Json::exception& error) {
    throw IoError(concat(where, ": not a record: ", error.what()));
  }
}

reward::VerdictStatus parse_status(const std::string& name, const std::string& where) {
  for (reward::VerdictStatus status : reward::kVerdictStatuses)
    if (reward::status_name(status) == name) return status;
  throw IoError(concat(where, ": status is '", name, "'"));
}

}  // namespace

std::string hash_hex(uint64_t hash) {
  char text[17];
  std::snprintf(text, sizeof text, "%016lx", static_cast<unsigned long>(hash));
  return text;
}

std::string to_json_line(const ProblemRecord& r) {
  Json json = {{"suite", r.suite},
               {"problem", r.problem},
               {"id", r.id},
               {"group", r.group},
               {"data_source", r.data_source},
               {"prompt", r.prompt},
               {"ground_truth", r.ground_truth}};
  json["extra_info"] =
      r.extra_info_json.empty() ? Json(nullptr) : try_parse_json<Json>(r.extra_info_json);
  return dump(json);
}

std::string to_json_line(const EvalRecord& r) {
  return dump({{"suite", r.suite},
               {"problem", r.problem},
               {"id", r.id},
               {"sample", r.sample},
               {"prompt_hash", r.prompt_hash},
               {"prompt_tokens", r.prompt_tokens},
               {"response_tokens", r.response_tokens},
               {"thinking_tokens", r.thinking_tokens},
               {"finish_reason", r.is_truncated() ? "length" : "stop"},
               {"status", std::string(reward::status_name(r.status))},
               {"score", r.score},
               {"parts", r.parts},
               {"extracted", r.extracted},
               {"detail", r.detail},
               {"response", r.response}});
}

ProblemRecord problem_from_json(std::string_view line, const std::string& where) {
  const Json json = parse(line, where);
  return reading(where, [&] {
    ProblemRecord r;
    json.at("suite").get_to(r.suite);
    json.at("problem").get_to(r.problem);
    json.at("id").get_to(r.id);
    json.at("group").get_to(r.group);
    json.at("data_source").get_to(r.data_source);
    json.at("prompt").get_to(r.prompt);
    json.at("ground_truth").get_to(r.ground_truth);
    if (!json.at("extra_info").is_null()) r.extra_info_json = dump(json.at("extra_info"));
    return r;
  });
}

EvalRecord record_from_json(std::string_view line, const std::string& where) {
  const Json json = parse(line, where);
  return reading(where, [&] {
    EvalRecord r;
    json.at("suite").get_to(r.suite);
    json.at("problem").get_to(r.problem);
    json.at("id").get_to(r.id);
    json.at("sample").get_to(r.sample);
    json.at("prompt_hash").get_to(r.prompt_hash);
    json.at("prompt_tokens").get_to(r.prompt_tokens);
    json.at("response_tokens").get_to(r.response_tokens);
    json.at("thinking_tokens").get_to(r.thinking_tokens);
    r.finish_reason =
        json.at("finish_reason") == "length" ? FinishReason::kLength : FinishReason::kStop;
    r.status = parse_status(json.at("status"), where);
    json.at("score").get_to(r.score);
    json.at("parts").get_to(r.parts);
    json.at("extracted").get_to(r.extracted);
    json.at("detail").get_to(r.detail);
    json.at("response").get_to(r.response);
    return r;
  });
}

}  // namespace moerl::eval
