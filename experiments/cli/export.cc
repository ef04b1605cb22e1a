#include <cstdio>

#include "common/check.h"
#include "experiments/cli/commands.h"
#include "experiments/cli/environment.h"
#include "experiments/open_model.h"
#include "policy/checkpoint_export.h"

namespace moerl::cli {
namespace {

/// Bytes from text such as 5GB, 500MB, 2GiB or 1000000.
int64_t parse_bytes(const std::string& text) {
  size_t end = 0;
  double number = 0;
  try {
    number = std::stod(text, &end);
  } catch (const std::exception&) {
    end = 0;
  }
  const std::string unit = text.substr(end);
  for (const auto& [name, size] : {std::pair{"", 1.0},
                                   {"B", 1.0},
                                   {"KB", 1e3},
                                   {"MB", 1e6},
                                   {"GB", 1e9},
                                   {"KiB", 0x1p10},
                                   {"MiB", 0x1p20},
                                   {"GiB", 0x1p30}})
    if (end > 0 && unit == name && number * size >= 1 && number * size < 0x1p62)
      return static_cast<int64_t>(number * size);
  throw std::invalid_argument(
      concat("--max-shard-size is '", text, "', expected a size such as 5GB or 500MiB"));
}

}  // namespace

void add_export(CLI::App& app) {
  struct Options {
    std::string source, target, dtype = "bf16", max_shard_size = "5GB";
  };
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "export", "Write a model as a Hugging Face directory for transformers, vLLM or llama.cpp");
  command
      ->add_option("SOURCE", options->source,
                   "a run (its newest checkpoint), a checkpoint, or a model directory")
      ->required();
  command->add_option("DIR", options->target, "the directory to write; must not exist")->required();
  command->add_option("--dtype", options->dtype, "f32, bf16 or fp8 [bf16]")
      ->check(CLI::IsMember({"f32", "bf16", "fp8"}));
  command->add_option("--max-shard-size", options->max_shard_size,
                      "largest weight file, such as 5GB or 500MiB [5GB]");
  command->footer("Example: moerl export runs/countdown /models/countdown --dtype bf16");
  command->callback([options] {
    const ModelPlace source = find_model(options->source);
    ExecContext ctx(num_threads(0), isa_from_environment());
    ExportOptions how;
    how.dtype = parse_export_dtype(options->dtype);
    how.max_shard_bytes = parse_bytes(options->max_shard_size);
    // A checkpoint holds tokenizer.json; the rest lies with the model that its run began from.
    if (const std::optional<Recipe> recipe = recipe_of(source);
        recipe && !recipe->model.path.empty())
      how.side_sources = {recipe->resolve(recipe->model.path)};
    export_checkpoint(ctx, source.directory, options->target, how);
    std::printf("%s: %s of %s\n", options->target.c_str(), options->dtype.c_str(),
                source.directory.c_str());
  });
}

}  // namespace moerl::cli
