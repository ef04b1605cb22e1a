#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "experiments/model_source.h"
#include "experiments/recipe.h"
#include "policy/chat_template.h"

namespace moerl {

/// What a MODEL argument of the command line names.
struct ModelPlace {
  std::filesystem::path directory;  ///< a Hugging Face directory: config.json and safetensors
  std::filesystem::path run;        ///< the run directory that it is a checkpoint of; else empty
};

/// Finds the model behind a MODEL argument, which is one of
///   a Hugging Face directory,
///   a run directory of `moerl train`: its newest checkpoint,
///   one checkpoint of such a run (runs/NAME/checkpoints/step-000100).
/// Looks at names only and reads nothing.
/// @throws IoError saying what was found instead and what to name.
ModelPlace find_model(const std::filesystem::path& argument);

/// The recipe that a checkpoint's run was trained with; none if it belongs to no run.
std::optional<Recipe> recipe_of(const ModelPlace& place);

/// A model from a MODEL argument, ready for inference.
struct OpenedModel {
  ModelPlace place;
  std::unique_ptr<Transformer> transformer;  ///< packed without what backward needs
  /// Absent if the directory has no tokenizer.json; then every row of the vocabulary counts as a
  /// token. With one, the rows behind its ids are padding: never sampled, in no distribution.
  std::optional<LoadedTokenizer> tokenizer;

  /// @throws ConfigError naming the directory if there is none.
  const LoadedTokenizer& need_tokenizer() const;
};

struct OpenOptions {
  std::string dtype;  ///< bf16, f32 or fp8; empty: the run's, bf16 outside of a run
  /// kKept for whoever sends the weights to others.
  Masters masters = Masters::kDropped;
};

/// Opens a MODEL argument. Weights, working type, form of attention and tokens of a checkpoint are
/// those of its run, so that the bits are those of training.
/// @throws IoError, ConfigError.
OpenedModel open_model(ExecContext& ctx, const std::filesystem::path& argument,
                       const OpenOptions& options = {});

/// How prompts become text for a model: the template of that name, or that of the model's run (or
/// of its directory) if the name is empty.
/// @throws ConfigError naming the known templates.
policy::ChatTemplate choose_chat_template(const ModelPlace& place, const std::string& name);

/// The tokens that end a completion: the model's own, and the end of a turn of the template.
/// @throws ConfigError if there is none.
std::vector<int32_t> stop_tokens_of(const OpenedModel& model, const policy::ChatTemplate& chat);

}  // namespace moerl
