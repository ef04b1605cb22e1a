#include <cstdio>
#include <fstream>
#include <iostream>

#include "common/check.h"
#include "common/file.h"
#include "experiments/cli/commands.h"
#include "experiments/cli/environment.h"
#include "experiments/scoring.h"

namespace moerl::cli {
namespace {

struct ScoreOptions {
  std::string model, file, output, dtype, device = "cpu";
  int64_t threads = 0;
  ScoringOptions scoring;
};

ScoringSummary score_into(const ScoreOptions& options, std::ostream& out) {
  std::ifstream file;
  if (options.file != "-") {
    file.open(options.file);
    if (!file || std::filesystem::is_directory(options.file))
      throw IoError(concat(options.file, ": cannot be opened for reading"));
  }
  ExecContext ctx = make_context(options.threads, options.device);
  const OpenedModel model = open_model(ctx, options.model, {.dtype = options.dtype});
  return options.file == "-"
             ? score_rows(ctx, model, options.scoring, std::cin, "standard input", out)
             : score_rows(ctx, model, options.scoring, file, options.file, out);
}

/// Writes aside; the file appears when it is whole.
ScoringSummary score_to_file(const ScoreOptions& options) {
  const std::filesystem::path target = options.output, aside = options.output + ".tmp";
  std::ofstream out(aside);
  if (!out) throw IoError(concat(aside.string(), ": cannot be written"));
  try {
    const ScoringSummary summary = score_into(options, out);
    out.close();
    if (!out) throw IoError(concat(aside.string(), ": cannot be written"));
    sync_path(aside);
    std::filesystem::rename(aside, target);
    return summary;
  } catch (...) {
    std::filesystem::remove(aside);
    throw;
  }
}

}  // namespace

void add_score(CLI::App& app) {
  auto options = std::make_shared<ScoreOptions>();
  ScoringOptions& scoring = options->scoring;
  CLI::App* command =
      app.add_subcommand("score", "Print the log-probability of every token of given rows");
  command
      ->add_option("MODEL", options->model, "Hugging Face directory, run directory or checkpoint")
      ->required();
  command
      ->add_option("FILE", options->file,
                   "JSON lines {\"token_ids\": [...]} or {\"text\": ...}; - for standard input")
      ->required();
  command->add_option("-o,--output", options->output,
                      "file to write, whole or not at all [stdout]");
  command->add_flag("--entropy", scoring.entropy, "also the entropy of every distribution, nats");
  command->add_flag("--experts", scoring.experts, "also the experts of every token and MoE layer");
  command->add_flag("--bare-text", scoring.bare_text,
                    "text rows without the BOS that the tokenizer would put in front");
  command->add_option("--temperature", scoring.temperature, "of the distribution [1]")
      ->check(CLI::PositiveNumber);
  command->add_option("--dtype", options->dtype, "bf16, f32 or fp8 [the run's, else bf16]");
  command
      ->add_option(
          "--batch-tokens", scoring.max_tokens,
          "tokens of one forward: speed and memory, which holds their keys and values [4096]")
      ->check(CLI::PositiveNumber);
  add_compute_options(*command, options->threads, options->device);
  command->footer(
      "Each row is printed back, in order, with token_ids and log_probs: log_probs[i] = log "
      "p(token "
      "i | tokens\n"
      "before it), null at i = 0. The bits are those that sampling and training compute. A summary "
      "goes to stderr.");
  command->callback([options] {
    const ScoringSummary summary =
        options->output.empty() ? score_into(*options, std::cout) : score_to_file(*options);
    std::fprintf(stderr, "%s\n", to_string(summary).c_str());
  });
}

}  // namespace moerl::cli
