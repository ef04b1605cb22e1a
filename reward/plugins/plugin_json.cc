#include "reward/plugins/plugin_json.h"

#include <algorithm>
#include <cmath>

#include "common/check.h"
#include "common/json.h"
#include "reward/utf8.h"
#include "reward/verifiers/answer_text.h"

namespace moerl::reward {
namespace {

using Json = nlohmann::ordered_json;

std::string dump(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}
std::string excerpt(std::string_view text) {
  std::string out(truncate_utf8(text, 200));
  return out.size() < text.size() ? out + "..." : out;
}

Json to_json(const Sample& sample, const Options& options, uint64_t id) {
  Json extra = try_parse_json<Json>(sample.extra_info_json);
  Json group = sample.group.empty() ? Json() : Json::array();
  for (const GroupMember& member : sample.group)
    group.push_back({{"num_tokens", member.num_tokens},
                     {"num_characters", member.num_characters},
                     {"is_correct", member.is_correct}});
  return {{"id", id},
          {"response", to_valid_utf8(sample.response)},
          {"ground_truth", to_valid_utf8(sample.ground_truth)},
          {"extra_info", extra.is_object() ? extra : Json::object()},
          {"data_source", to_valid_utf8(sample.data_source)},
          {"prompt", to_valid_utf8(sample.prompt)},
          {"num_tokens", sample.num_tokens < 0 ? Json() : Json(sample.num_tokens)},
          {"token_ids", sample.token_ids},
          {"is_correct", sample.is_correct ? Json(*sample.is_correct) : Json()},
          {"group", group},
          {"options", options}};
}

/// A finite number, or a truth value as 1 or 0.
double to_number(const Json& value, std::string_view what) {
  check(value.is_number() || value.is_boolean(), what, " is ", excerpt(dump(value)),
        ", expected a number");
  const double number = value.is_boolean() ? value.get<bool>() : value.get<double>();
  check(std::isfinite(number), what, " is ", number, ", expected a finite number");
  return number;
}

VerdictStatus to_status(const Json& value) {
  for (VerdictStatus status : kVerdictStatuses)
    if (value == std::string(status_name(status))) return status;
  check(false, "status is ", excerpt(dump(value)),
        ", expected correct, incorrect, no_answer, unparsable, limit, timeout, gold_error or "
        "internal_error");
  return {};
}

Verdict to_verdict(const std::string& name, const Json& answer, uint64_t id) {
  Verdict verdict;
  if (answer.is_null() || (answer.is_object() && answer.contains("none"))) {
    verdict.status = VerdictStatus::kGoldError;
    verdict.detail = "the reward does not apply to this row (it gave None)";
    verdict.parts = {{name, 0}};
    return verdict;
  }
  if (!answer.is_object()) {
    verdict.score = to_number(answer, "the answer");
    verdict.parts = {{name, verdict.score}};
    verdict.status = verdict.score >= 1 ? VerdictStatus::kCorrect : VerdictStatus::kIncorrect;
    return verdict;
  }
  check(!answer.contains("error"), "the reward failed: ",
        answer.value("error", Json()).is_string() ? answer["error"].get<std::string>()
                                                  : dump(answer.value("error", Json())));
  check(!answer.contains("id") || answer["id"] == id, "the answer's id is ",
        dump(answer.value("id", Json())), ", expected ", id);
  check(answer.contains("score"), "the answer is ", excerpt(dump(answer)),
        ", expected an object with score");
  verdict.score = to_number(answer["score"], "score");
  double acc = verdict.score;
  for (const auto& [key, value] : answer.items()) {
    if (key == "acc") acc = to_number(value, "acc");
    if (key == "score" || key == "id" || key == "status") continue;
    if (key == "extracted" || key == "detail") {
      check(value.is_string(), key, " is ", excerpt(dump(value)), ", expected a text");
      (key == "extracted" ? verdict.extracted : verdict.detail) =
          truncate_utf8(value.get<std::string>(), kMaxExtractedBytes);
    } else if (key == "parts") {
      check(value.is_object(), "parts is ", excerpt(dump(value)), ", expected an object");
      for (const auto& [part, number] : value.items())
        verdict.parts[part] = to_number(number, "part " + part);
    } else if (value.is_number() || value.is_boolean()) {
      verdict.parts[key] = to_number(value, key);
    }
  }
  verdict.parts[name] = verdict.score;
  verdict.status = acc >= 1 ? VerdictStatus::kCorrect : VerdictStatus::kIncorrect;
  if (answer.contains("status")) verdict.status = to_status(answer["status"]);
  return verdict;
}

Json parse(const std::string& text) {
  Json value = try_parse_json<Json>(text);
  check(!value.is_discarded(), "the answer is '", excerpt(text), "', expected JSON");
  return value;
}

}  // namespace

std::string sample_to_json(const Sample& sample, const Options& options, uint64_t id) {
  return dump(to_json(sample, options, id));
}

std::string batch_to_json(const std::vector<const Sample*>& samples, const Options& options) {
  Json list = Json::array();
  for (size_t i = 0; i < samples.size(); ++i) list.push_back(to_json(*samples[i], options, i));
  return dump(list);
}

Verdict verdict_from_json(const std::string& name, const std::string& text, uint64_t id) {
  return to_verdict(name, parse(text), id);
}

std::vector<Verdict> batch_from_json(const std::string& name, const std::string& text,
                                     size_t count) {
  const Json list = parse(text);
  if (list.is_object() && list.contains("error")) to_verdict(name, list, 0);
  check(list.is_array(), "the answer is ", excerpt(text), ", expected a list");
  check(list.size() == count, "there are ", list.size(), " answers to ", count, " samples");
  std::vector<Verdict> verdicts;
  for (size_t i = 0; i < count; ++i) {
    try {
      verdicts.push_back(to_verdict(name, list[i], i));
    } catch (const std::invalid_argument& error) {
      verdicts.push_back(
          {.status = VerdictStatus::kInternalError, .parts = {{name, 0}}, .detail = error.what()});
    }
  }
  return verdicts;
}

}  // namespace moerl::reward
