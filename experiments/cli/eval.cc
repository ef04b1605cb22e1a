#include <unistd.h>

#include <cstdio>

#include "common/file.h"
#include "experiments/cli/commands.h"
#include "experiments/cli/environment.h"
#include "experiments/cli/verifier_options.h"
#include "experiments/evaluation/compare.h"
#include "experiments/evaluation/eval_run.h"
#include "experiments/evaluation/export/export.h"
#include "experiments/evaluation/report/eval_report.h"
#include "experiments/evaluation/rescore.h"

namespace moerl::cli {
namespace {

namespace fs = std::filesystem;

/// A number that `holds` is true of; otherwise the error says what was expected.
CLI::Validator number(const char* expected, bool (*holds)(double)) {
  return CLI::Validator(
      [=](const std::string& text) {
        double value = 0;
        const bool is_number = CLI::detail::lexical_cast(text, value);
        return is_number && holds(value) ? std::string()
                                         : "is '" + text + "', expected " + expected;
      },
      "");
}
const CLI::Validator kPositive = number("a number above 0", [](double x) { return x > 0; });
const CLI::Validator kNotNegative = number("0 or more", [](double x) { return x >= 0; });
const CLI::Validator kShare =
    number("a number above 0, at most 1", [](double x) { return x > 0 && x <= 1; });

/// Exit status of an evaluation of which too much could not be scored.
constexpr int kTooMuchUnscorable = 3;

/// "countdown" for runs/countdown, "countdown-step-000100" for one of its checkpoints.
fs::path default_output(const fs::path& model) {
  const fs::path path = fs::weakly_canonical(model);
  std::string name = path.filename().string();
  if (path.parent_path().filename() == "checkpoints")
    name = path.parent_path().parent_path().filename().string() + "-" + name;
  return fs::path("evals") / name;
}

eval::TieRule parse_tie_rule(const std::string& name) {
  return name == "first" ? eval::TieRule::kFirstSeen : eval::TieRule::kAverage;
}

void add_tie_rule(CLI::App& command, std::string& value) {
  command.add_option("--ties", value, "cons@k of tied answers: average or first [average]")
      ->check(CLI::IsMember({"average", "first"}));
}

eval::ReportInput read_evaluation(const fs::path& path) {
  eval::ReportInput input;
  input.files = eval::EvalDirectory::read(path);
  input.settings = eval::settings_from_json(input.files.config_json, (path / "eval.json").string());
  input.summaries =
      eval::summaries_of(input.files, input.settings, reward::make_verifier_registry());
  return input;
}

void print_summaries(const std::vector<eval::Summary>& summaries, const fs::path& output,
                     double max_unscorable) {
  std::printf("%s%s: samples.jsonl, results.json, report.html\n", eval::to_table(summaries).c_str(),
              output.c_str());
  for (const eval::Summary& s : summaries) {
    if (s.unscorable <= max_unscorable) continue;
    std::fprintf(stderr,
                 "moerl: error: %s: %ld of %ld samples could not be scored, above --max-unscorable "
                 "%g (samples.jsonl has the reasons)\n",
                 s.suite.c_str(), static_cast<long>(s.num_unscorable),
                 static_cast<long>(s.num_samples), max_unscorable);
    throw CLI::RuntimeError(kTooMuchUnscorable);
  }
}

void add_eval_compare(CLI::App& eval_command) {
  struct Options {
    std::string a, b, output;
    int64_t max_flips = 20;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = eval_command.add_subcommand(
      "compare", "Compare two evaluations on the same problems: paired bootstrap and McNemar");
  command->add_option("A", options->a, "folder of an evaluation, such as the base model's")
      ->required();
  command->add_option("B", options->b, "folder of the other, such as the tuned model's")
      ->required();
  command->add_option("--output", options->output,
                      "folder for comparison.json and a report with both side by side [none]");
  command->add_option("--flips", options->max_flips, "flipped problems to list of each kind [20]")
      ->check(kNotNegative);
  command->callback([options] {
    const eval::ReportInput a = read_evaluation(options->a), b = read_evaluation(options->b);
    const auto comparisons = eval::compare(a.files, b.files);
    std::printf("%s",
                eval::to_table(comparisons, a.settings.model, b.settings.model, options->max_flips)
                    .c_str());
    if (options->output.empty()) return;
    fs::create_directories(options->output);
    write_file_atomic(fs::path(options->output) / "comparison.json", eval::to_json(comparisons));
    eval::write_eval_report(fs::path(options->output) / "report.html", {a, b}, comparisons);
    std::printf("%s: comparison.json, report.html\n", options->output.c_str());
  });
}

void add_eval_rescore(CLI::App& eval_command) {
  struct Options {
    std::string directory, output, ties = "average";
    std::vector<std::string> options;
    eval::RescoreRequest request;
    double timeout_s = 10, max_unscorable = 0.05;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = eval_command.add_subcommand(
      "rescore", "Judge the recorded responses of an evaluation with another verifier or options");
  command->add_option("DIR", options->directory, "folder of an evaluation")->required();
  command->add_option("--output", options->output, "folder of the result [DIR-rescored]");
  command->add_option("--suite", options->request.suite, "only this suite [all]");
  command->add_option("--verifier", options->request.verifier, "verifier [the suite's own]");
  command
      ->add_option("-o,--option", options->options,
                   "option of the verifier, key=value; may be repeated [the suite's own]")
      ->allow_extra_args(false);
  command->add_option("--timeout-s", options->timeout_s, "deadline of one sample [10]")
      ->check(kPositive);
  command->add_option("--max-unscorable", options->max_unscorable,
                      "share of samples without a score above which the command fails [0.05]");
  add_tie_rule(*command, options->ties);
  command->callback([options] {
    eval::RescoreRequest request = options->request;
    request.from = options->directory;
    request.to = options->output.empty() ? options->directory + "-rescored" : options->output;
    request.options = parse_verifier_options(options->options);
    request.has_options = !options->options.empty();
    request.tie_rule = parse_tie_rule(options->ties);
    print_summaries(
        eval::rescore(request, num_threads(0), static_cast<int>(options->timeout_s * 1000)),
        request.to, options->max_unscorable);
  });
}

void add_eval_export(CLI::App& eval_command) {
  struct Options {
    std::string directory, format, output;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = eval_command.add_subcommand(
      "export", "Write an evaluation in the form of another tool, for its readers and viewers");
  command->add_option("DIR", options->directory, "folder of an evaluation")->required();
  command->add_option("--format", options->format, "lm-eval, lighteval or inspect")
      ->required()
      ->check(CLI::IsMember(eval::export_formats()));
  command->add_option("--output", options->output, "folder of the files [DIR/export-FORMAT]");
  command->callback([options] {
    const fs::path output = options->output.empty()
                                ? fs::path(options->directory) / ("export-" + options->format)
                                : fs::path(options->output);
    for (const fs::path& file :
         eval::export_evaluation(read_evaluation(options->directory), options->format, output))
      std::printf("%s\n", file.c_str());
  });
}

}  // namespace

void add_eval(CLI::App& app) {
  struct Options {
    std::string model, output, ties = "average";
    std::vector<std::string> options;
    eval::EvalRequest request;
    int64_t threads = 0;
    std::string device = "cpu";
    double max_unscorable = 0.05;
  };
  auto options = std::make_shared<Options>();
  eval::EvalRequest& r = options->request;
  CLI::App* command = app.add_subcommand(
      "eval", "Evaluate a checkpoint on suites of problems; compare, rescore, export evaluations");
  command->add_option("MODEL", options->model,
                      "a Hugging Face directory, a run directory, or one of its checkpoints");
  command
      ->add_option("--suite", r.suites,
                   "names, paths of suites (.yaml) or of rows (.jsonl, with --verifier), or val: a "
                   "run's own held-out problems; separated by commas")
      ->delimiter(',')
      ->allow_extra_args(false);
  command->add_option("--n", r.n, "samples a problem [the suite's]")->check(kPositive);
  command->add_option("--limit", r.limit, "only the first problems of each suite [all]")
      ->check(kPositive);
  command->add_option("--temperature", r.temperature, "[the suite's]")->check(kNotNegative);
  command->add_option("--top-p", r.top_p, "[the suite's]")->check(kShare);
  command->add_option("--max-tokens", r.max_tokens, "of a response [the suite's]")
      ->check(kPositive);
  command->add_option("--seed", r.seed, "of all random numbers [the run's, or 0]")
      ->check(kNotNegative);
  command->add_option("--output", options->output, "folder of the evaluation [evals/MODEL]");
  command
      ->add_option("--workers", r.workers,
                   "host:port of moerl serve rollout processes, separated by commas [none: sample "
                   "in this process]")
      ->delimiter(',')
      ->allow_extra_args(false);
  command->add_option("--chat-template", r.chat_template,
                      "how problems become prompts [the run's, or the model directory's]");
  command->add_option("--verifier", r.verifier, "of suites that are .jsonl rows");
  command
      ->add_option("-o,--option", options->options,
                   "option of that verifier, key=value; may be repeated")
      ->allow_extra_args(false);
  command->add_option("--dtype", r.dtype, "bf16, f32 or fp8 [the run's, else bf16]");
  command->add_option("--kv-cache-gb", r.kv_cache_gb, "of the sampling engine [the run's, or 1]")
      ->check(kPositive);
  command->add_option("--max-num-seqs", r.max_num_seqs, "sampled together [the run's, or 512]")
      ->check(kPositive);
  add_compute_options(*command, options->threads, options->device);
  command->add_option("--max-unscorable", options->max_unscorable,
                      "share of samples without a score above which the command fails [0.05]");
  add_tie_rule(*command, options->ties);
  std::string footer = "Suites:";
  for (const std::string& name : eval::suite_names())
    footer += "\n  " + name + ": " + eval::load_suite(name).description;
  command->footer(footer +
                  "\nKilled and started again with the same arguments, an evaluation goes on and "
                  "ends with the same files.");
  add_eval_compare(*command);
  add_eval_rescore(*command);
  add_eval_export(*command);
  command->callback([options, command] {
    if (!command->get_subcommands().empty()) return;
    if (options->model.empty()) throw CLI::RequiredError("MODEL");
    eval::EvalRequest request = options->request;
    request.model = options->model;
    request.output =
        options->output.empty() ? default_output(options->model) : fs::path(options->output);
    request.options = parse_verifier_options(options->options);
    request.tie_rule = parse_tie_rule(options->ties);
    ExecContext ctx = make_context(options->threads, options->device);
    Progress progress(::isatty(STDERR_FILENO) == 1);
    print_summaries(eval::run_evaluation(request, eval::DataCache(data_folder()), ctx,
                                         ctx.num_threads(), progress),
                    request.output, options->max_unscorable);
  });
}

}  // namespace moerl::cli
