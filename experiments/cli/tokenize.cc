#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "common/check.h"
#include "common/error.h"
#include "experiments/cli/commands.h"
#include "experiments/json_rows.h"
#include "experiments/open_model.h"
#include "policy/tokenizer.h"

namespace moerl::cli {
namespace {

struct TokenizeOptions {
  std::string tokenizer, file;
  bool plain_specials = false;
};

policy::Tokenizer load(const std::string& argument) {
  if (argument.ends_with(".json")) return policy::Tokenizer::from_file(argument);
  const std::filesystem::path path = find_model(argument).directory / "tokenizer.json";
  return policy::Tokenizer::from_file(path);
}

void tokenize(const TokenizeOptions& options) {
  const policy::Tokenizer tokenizer = load(options.tokenizer);
  std::ifstream file;
  if (options.file != "-") {
    file.open(options.file);
    if (!file || std::filesystem::is_directory(options.file))
      throw IoError(concat(options.file, ": cannot be opened for reading"));
  }
  std::vector<Row> rows;
  for_each_row(options.file == "-" ? std::cin : file,
               options.file == "-" ? "standard input" : options.file, [&](Row row) {
                 if (!row.contains("text") || !row["text"].is_string())
                   throw RowError("there is no string 'text'");
                 rows.push_back(std::move(row));
               });
  size_t bytes = 0, tokens = 0;
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::vector<int32_t>> ids;
  ids.reserve(rows.size());
  for (const Row& row : rows) {
    const auto& text = row["text"].get_ref<const std::string&>();
    ids.push_back(tokenizer.encode(text, !options.plain_specials));
    bytes += text.size();
    tokens += ids.back().size();
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  for (size_t i = 0; i < rows.size(); ++i) {
    rows[i].erase("token_ids");
    rows[i]["token_ids"] = ids[i];
    std::cout << rows[i].dump() << '\n';
  }
  std::cout.flush();
  if (!std::cout) throw IoError("the ids cannot be written");
  std::fprintf(stderr, "%zu rows, %zu bytes, %zu tokens, %.2f MB/s on one thread\n", rows.size(),
               bytes, tokens, seconds > 0 ? static_cast<double>(bytes) / seconds / 1e6 : 0.0);
}

}  // namespace

void add_tokenize(CLI::App& app) {
  auto options = std::make_shared<TokenizeOptions>();
  CLI::App* command = app.add_subcommand("tokenize", "Print the token ids of texts");
  command
      ->add_option("MODEL", options->tokenizer,
                   "tokenizer.json, or a Hugging Face directory, run directory or checkpoint")
      ->required();
  command->add_option("FILE", options->file, "JSON lines {\"text\": ...}; - for standard input")
      ->required();
  command->add_flag("--plain-specials", options->plain_specials,
                    "read special tokens in the text as plain text");
  command->footer(
      "Each row is printed back with token_ids, as Hugging Face tokenizers gives them with "
      "add_special_tokens=False.");
  command->callback([options] { tokenize(*options); });
}

}  // namespace moerl::cli
