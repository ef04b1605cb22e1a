#include "experiments/evaluation/results.h"

#include "common/check.h"
#include "common/json.h"
#include "experiments/evaluation/answer_equivalence.h"

namespace moerl::eval {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const SuiteSettings& s) {
  return {{"suite", s.suite},
          {"description", s.description},
          {"data_sha256", s.data_sha256},
          {"num_problems", s.num_problems},
          {"limit", s.limit},
          {"prompt", s.prompt},
          {"system", s.system},
          {"verifier", s.verifier},
          {"verifier_version", s.verifier_version},
          {"options", s.options},
          {"n", s.n},
          {"temperature", s.temperature},
          {"top_p", s.top_p},
          {"max_tokens", s.max_tokens},
          {"seed_key", s.seed},
          {"consensus", s.consensus}};
}

Json settings_json(const EvalSettings& s) {
  Json json = {{"model", s.model},
               {"weights_hash", s.weights_hash},
               {"numeric_family", s.numeric_family},
               {"tokenizer_sha256", s.tokenizer_sha256},
               {"chat_template", s.chat_template},
               {"seed", s.seed},
               {"suites", Json::array()}};
  for (const SuiteSettings& suite : s.suites) json["suites"].push_back(to_json(suite));
  return json;
}

SuiteSettings suite_from_json(const Json& json) {
  SuiteSettings s;
  json.at("suite").get_to(s.suite);
  json.at("description").get_to(s.description);
  json.at("data_sha256").get_to(s.data_sha256);
  json.at("num_problems").get_to(s.num_problems);
  json.at("limit").get_to(s.limit);
  json.at("prompt").get_to(s.prompt);
  json.at("system").get_to(s.system);
  json.at("verifier").get_to(s.verifier);
  json.at("verifier_version").get_to(s.verifier_version);
  s.options = json.at("options").get<reward::Options>();
  json.at("n").get_to(s.n);
  json.at("temperature").get_to(s.temperature);
  json.at("top_p").get_to(s.top_p);
  json.at("max_tokens").get_to(s.max_tokens);
  json.at("seed_key").get_to(s.seed);
  json.at("consensus").get_to(s.consensus);
  return s;
}

Json lengths_json(const LengthStatistics& l) {
  return {{"mean", l.mean}, {"median", l.median}, {"p95", l.p95}};
}

Json summary_json(const Summary& s) {
  Json json = {{"suite", s.suite},
               {"group", s.group},
               {"num_problems", s.num_problems},
               {"num_samples", s.num_samples},
               {"n", s.n},
               {"metrics", Json::object()}};
  for (const Estimate& e : s.estimates)
    json["metrics"][e.name] = {{"value", e.value},
                               {"low", e.interval.low},
                               {"high", e.interval.high},
                               {"interval", e.method}};
  json["ties"] = s.tie_rule == TieRule::kAverage ? "average" : "first";
  json["std_across_runs"] = s.spread.std_across_runs;
  json["std_err_across_runs"] = s.spread.std_err;
  json["mean_sample_std"] = s.spread.mean_sample_std;
  json["mean_score"] = s.mean_score;
  json["truncated"] = s.truncated;
  json["no_answer"] = s.no_answer;
  json["unscorable"] = s.unscorable;
  json["num_unscorable"] = s.num_unscorable;
  json["language_mix"] = s.language_mix;
  json["reflections_per_response"] = s.reflections;
  json["backtracks_per_response"] = s.backtracks;
  json["response_tokens"] = lengths_json(s.response);
  json["thinking_tokens"] = lengths_json(s.thinking);
  json["answer_tokens"] = lengths_json(s.answer);
  return json;
}

}  // namespace

std::string to_json(const EvalSettings& settings) { return settings_json(settings).dump(2) + "\n"; }

EvalSettings settings_from_json(const std::string& text, const std::string& where) {
  try {
    const Json json = parse_json<Json>(text);
    EvalSettings s;
    json.at("model").get_to(s.model);
    json.at("weights_hash").get_to(s.weights_hash);
    json.at("numeric_family").get_to(s.numeric_family);
    json.at("tokenizer_sha256").get_to(s.tokenizer_sha256);
    json.at("chat_template").get_to(s.chat_template);
    json.at("seed").get_to(s.seed);
    for (const Json& suite : json.at("suites")) s.suites.push_back(suite_from_json(suite));
    return s;
  } catch (const Json::exception& error) {
    throw IoError(concat(where, ": not the settings of an evaluation: ", error.what()));
  }
}

std::vector<Summary> summaries_of(const EvalFiles& files, const EvalSettings& settings,
                                  const std::shared_ptr<const reward::VerifierRegistry>& registry,
                                  TieRule tie_rule) {
  const auto equivalence_of = [&](const std::string& suite) -> AnswerEquivalence {
    for (const SuiteSettings& s : settings.suites)
      if (s.suite == suite && s.consensus)
        return equivalence_by(registry, s.verifier, s.options, files.problems);
    return nullptr;
  };
  return summarize_all(files.problems, files.records,
                       {.bootstrap = {}, .equivalent = nullptr, .tie_rule = tie_rule},
                       equivalence_of);
}

std::string results_json(const EvalSettings& settings, const std::vector<Summary>& summaries) {
  Json json = {{"config", settings_json(settings)}, {"results", Json::array()}};
  for (const Summary& summary : summaries) json["results"].push_back(summary_json(summary));
  return json.dump(2) + "\n";
}

}  // namespace moerl::eval
