#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "kernels/exec_context.h"

namespace moerl {

/// How the numbers of an exported checkpoint are stored.
enum class ExportDtype {
  kF32,
  kBF16,  ///< rounded to nearest even
  /// The projections of attention and experts as E4M3 with a scale for each block of 128 x 128
  /// (kernels/quant/fp8_block.h), and the rest BF16: embedding, head, router, norms, eh_proj, as
  /// in DeepSeek's own checkpoints.
  kFp8,
};
/// @throws std::invalid_argument unless the name is f32, bf16 or fp8.
ExportDtype parse_export_dtype(const std::string& name);

/// config.json of an exported checkpoint: the source's text with the type of its numbers, with the
/// keys that readers must not guess (with_left_out_keys), and without the names of Python files,
/// which are not exported.
/// @param source  text of a config.json that ModelConfig::from_json accepts.
/// @param kept_modules  modules with a matrix that FP8 leaves as BF16: modules_to_not_convert,
/// without
///   which transformers and vLLM look for scales of the routers of some families.
std::string exported_config(const std::string& source, ExportDtype dtype,
                            const std::vector<std::string>& kept_modules = {});

/// Whether a tensor is stored as E4M3 in an FP8 checkpoint.
bool is_fp8_weight(const std::string& name, size_t rank);

struct ExportOptions {
  ExportDtype dtype = ExportDtype::kBF16;
  int64_t max_shard_bytes = int64_t{5} << 30;
  /// Folders to look for the tokenizer's files in, besides the source: the first that has one wins.
  std::vector<std::filesystem::path> side_sources;
};

/// Writes a Hugging Face model directory as another one, one tensor in memory at a time: weights
/// under the same names, e_score_correction_bias always F32; config.json; the tokenizer's files
/// where the source has them, and a tokenizer_config.json and generation_config.json made from
/// config.json where it has not. A tensor whose type does not change keeps its bytes.
/// `target` appears when it is complete.
/// @throws IoError if the source is not a whole checkpoint, all its problems listed, or `target`
///   exists; ConfigError if its config.json is not one of a family that moerl knows.
void export_checkpoint(ExecContext& ctx, const std::filesystem::path& source,
                       const std::filesystem::path& target, const ExportOptions& options);

}  // namespace moerl
