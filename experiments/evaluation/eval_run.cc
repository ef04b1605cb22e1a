#include "experiments/evaluation/eval_run.h"

#include "common/check.h"
#include "common/file.h"
#include "common/rng.h"
#include "common/sha256.h"
#include "experiments/evaluation/evaluator.h"
#include "experiments/evaluation/report/eval_report.h"
#include "experiments/evaluation/results.h"
#include "experiments/fleet.h"
#include "experiments/open_model.h"
#include "experiments/reward_settings.h"
#include "policy/weights_io.h"

namespace moerl::eval {
namespace {

/// The policy version that workers of an evaluation hold.
constexpr int64_t kEvaluatedVersion = 0;

/// A suite with everything that a model and the command line decide.
struct PreparedSuite {
  EvalPlan plan;
  SuiteSettings settings;
  RewardSettings reward;
};

/// `--suite FILE.jsonl`: rows in the project's layout.
Suite suite_of_rows(const std::string& path, const EvalRequest& request) {
  if (request.verifier.empty())
    throw ConfigError(concat("--suite ", path, " needs --verifier NAME"));
  Suite suite;
  suite.name = std::filesystem::path(path).stem().string();
  suite.description = "rows of " + path;
  suite.source.file = std::filesystem::absolute(path).string();
  suite.rows.layout = "verl";
  suite.verifier = request.verifier;
  suite.options = request.options;
  return suite;
}

class Preparer {
 public:
  Preparer(const EvalRequest& request, const DataCache& cache, const OpenedModel& model)
      : request_(request),
        cache_(cache),
        recipe_(recipe_of(model.place)),
        chat_template_(choose_chat_template(model.place, request.chat_template)),
        stop_token_ids_(stop_tokens_of(model, chat_template_)) {
    seed_ = request.seed.value_or(recipe_ ? recipe_->seed : 0);
  }

  int64_t seed() const { return seed_; }
  const std::optional<Recipe>& recipe() const { return recipe_; }
  std::string template_name() const { return chat_template_.name(); }

  PreparedSuite prepare(const std::string& name) const {
    PreparedSuite prepared =
        is_runs_own(name)
            ? of_run()
            : of_suite(name.ends_with(".jsonl") ? suite_of_rows(name, request_) : load_suite(name));
    EvalPlan& plan = prepared.plan;
    if (request_.n) plan.n = *request_.n;
    if (request_.temperature) plan.sampling.temperature = *request_.temperature;
    if (request_.top_p) plan.sampling.top_p = *request_.top_p;
    if (request_.max_tokens) plan.sampling.max_tokens = *request_.max_tokens;
    plan.sampling.stop_token_ids = stop_token_ids_;
    plan.seed = purpose_seed(static_cast<uint64_t>(seed_), "val");
    if (request_.limit > 0 && static_cast<int64_t>(plan.problems.size()) > request_.limit)
      plan.problems.resize(static_cast<size_t>(request_.limit));
    SuiteSettings& s = prepared.settings;
    s.suite = plan.suite;
    s.n = plan.n;
    s.limit = request_.limit;
    s.num_problems = static_cast<int64_t>(plan.problems.size());
    s.temperature = plan.sampling.temperature;
    s.top_p = plan.sampling.top_p;
    s.max_tokens = plan.sampling.max_tokens;
    s.seed = plan.seed;
    return prepared;
  }

 private:
  /// val, or the task that the model's run was trained on.
  bool is_runs_own(const std::string& name) const {
    if (!recipe_ && name == "val")
      throw ConfigError("--suite val is the held-out data of a run, and the model is of none");
    return recipe_ &&
           (name == "val" || (recipe_->task.name != "jsonl" && name == recipe_->task.name));
  }

  PreparedSuite of_run() const {
    const TaskData task =
        load_task(recipe_->task, recipe_->directory, static_cast<uint64_t>(recipe_->seed));
    PreparedSuite prepared;
    prepared.plan = validation_plan(*recipe_, task, stop_token_ids_);
    prepared.settings.description = "held-out problems of the run " + recipe_->name;
    prepared.settings.prompt = "the task's";
    const reward::RewardPart judge = make_reward_plan(recipe_->reward, task.verifier).parts.front();
    prepared.settings.verifier = judge.verifier;
    prepared.settings.options = judge.options;
    prepared.reward = recipe_->reward;
    return prepared;
  }

  PreparedSuite of_suite(const Suite& suite) const {
    PreparedSuite prepared;
    const std::filesystem::path file = cache_.require(suite);
    prepared.plan.suite = suite.name;
    prepared.plan.problems = read_problems(suite, file, chat_template_, request_.limit);
    prepared.plan.n = suite.n;
    prepared.plan.sampling = {.temperature = suite.sampling.temperature,
                              .top_p = suite.sampling.top_p,
                              .max_tokens = suite.sampling.max_tokens,
                              .stop_token_ids = {}};
    prepared.settings.description = suite.description;
    prepared.settings.data_sha256 = file.empty() ? "" : sha256_file(file);
    prepared.settings.prompt = suite.user.empty() ? suite.prompt : suite.user;
    prepared.settings.system = suite.system;
    prepared.settings.verifier = suite.verifier;
    prepared.settings.options = suite.options;
    prepared.reward.verifier = suite.verifier;
    prepared.reward.options = suite.options;
    prepared.settings.consensus = suite.consensus;
    return prepared;
  }

  const EvalRequest& request_;
  const DataCache& cache_;
  std::optional<Recipe> recipe_;
  policy::ChatTemplate chat_template_;
  std::vector<int32_t> stop_token_ids_;
  int64_t seed_ = 0;
};

/// What the fleet reads of a recipe.
Recipe fleet_recipe(const EvalRequest& request, const std::optional<Recipe>& of_run,
                    int scoring_threads) {
  Recipe recipe;
  if (of_run) recipe.rollout = of_run->rollout;
  recipe.rollout.addresses = request.workers;
  if (request.kv_cache_gb) recipe.rollout.kv_cache_gb = *request.kv_cache_gb;
  if (request.max_num_seqs) recipe.rollout.max_num_seqs = *request.max_num_seqs;
  recipe.rollout.timeout_s = std::max(recipe.rollout.timeout_s, 24 * 3600.0);
  if (of_run) recipe.reward.timeout_s = of_run->reward.timeout_s;
  recipe.reward.num_workers = scoring_threads;
  return recipe;
}

void sample_missing(const std::vector<PreparedSuite>& suites, const EvalRequest& request,
                    const std::optional<Recipe>& recipe, const OpenedModel& model,
                    const std::shared_ptr<const reward::VerifierRegistry>& registry,
                    EvalDirectory& directory, ExecContext& ctx, int scoring_threads,
                    Progress& progress) {
  Fleet fleet(fleet_recipe(request, recipe, scoring_threads), ctx, *model.transformer, registry);
  fleet.publish(*model.transformer, kEvaluatedVersion);
  for (const auto& [plan, settings, reward] : suites) {
    Generator generator(
        fleet.workers(), fleet.rewards(), model.need_tokenizer().tokenizer,
        make_reward_plan(reward, settings.verifier),
        [&reward = reward](const reward::RewardParts& parts) { return needs_of(reward, parts); },
        [&] { fleet.publish(*model.transformer, kEvaluatedVersion); });
    EvalCallbacks callbacks;
    callbacks.is_done = [&, n = plan.n, &suite = plan.suite](int64_t problem) {
      for (int64_t sample = 0; sample < n; ++sample)
        if (!directory.has({suite, problem, sample})) return false;
      return true;
    };
    callbacks.on_record = [&](const EvalRecord& record) { directory.append(record); };
    callbacks.on_progress = [&, &suite = plan.suite](int64_t done, int64_t total) {
      progress.update(concat(suite, " ", done, "/", total));
    };
    evaluate(generator, model.need_tokenizer().tokenizer, plan, kEvaluatedVersion, callbacks);
  }
}

}  // namespace

std::vector<Summary> run_evaluation(const EvalRequest& request, const DataCache& cache,
                                    ExecContext& ctx, int scoring_threads, Progress& progress) {
  if (request.suites.empty()) throw ConfigError("--suite names no suite");
  // Workers elsewhere are sent the masters.
  const OpenedModel model =
      open_model(ctx, request.model,
                 {.dtype = request.dtype,
                  .masters = request.workers.empty() ? Masters::kDropped : Masters::kKept});
  const Preparer preparer(request, cache, model);
  const std::optional<Recipe>& recipe = preparer.recipe();
  const std::shared_ptr<reward::VerifierRegistry> registry =
      recipe ? make_registry(recipe->reward.plugins, recipe->directory)
             : reward::make_verifier_registry();
  std::vector<PreparedSuite> suites;
  EvalSettings settings;
  settings.model = std::filesystem::canonical(model.place.directory).string();
  settings.weights_hash = hash_hex(weights_hash(ctx, *model.transformer, model.place.directory));
  settings.numeric_family = Engine::numeric_family(*model.transformer);
  settings.tokenizer_sha256 = sha256(model.need_tokenizer().json);
  settings.chat_template = preparer.template_name();
  settings.seed = preparer.seed();
  std::vector<ProblemRecord> problems;
  int64_t num_samples = 0;
  for (const std::string& name : request.suites) {
    PreparedSuite& suite = suites.emplace_back(preparer.prepare(name));
    for (const SuiteSettings& other : settings.suites)
      if (other.suite == suite.settings.suite)
        throw ConfigError(concat("suite ", other.suite, " is named twice"));
    suite.plan.max_prompt_tokens = model.transformer->config().max_position_embeddings - 1;
    registry->get(suite.settings.verifier)->check_options(suite.settings.options);
    settings.suites.push_back(suite.settings);
    for (ProblemRecord& p : problem_records(suite.plan)) problems.push_back(std::move(p));
    num_samples += static_cast<int64_t>(suite.plan.problems.size()) * suite.plan.n;
  }

  EvalDirectory directory(request.output, to_json(settings), problems);
  if (directory.num_recorded() < num_samples)
    sample_missing(suites, request, recipe, model, registry, directory, ctx, scoring_threads,
                   progress);
  directory.complete(num_samples);
  const EvalFiles files = EvalDirectory::read(request.output);
  std::vector<Summary> summaries = summaries_of(files, settings, registry, request.tie_rule);
  write_file_atomic(request.output / "results.json", results_json(settings, summaries));
  write_eval_report(request.output / "report.html", {{files, settings, summaries}});
  return summaries;
}

}  // namespace moerl::eval
