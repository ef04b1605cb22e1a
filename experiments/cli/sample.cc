#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <fstream>
#include <iostream>

#include "common/check.h"
#include "common/error.h"
#include "experiments/cli/commands.h"
#include "experiments/cli/environment.h"
#include "experiments/sample_rows.h"
#include "experiments/thinking_printer.h"

namespace moerl::cli {
namespace {

struct SampleOptions {
  std::string model, prompt, file, system, chat_template, thinking, dtype, device = "cpu";
  bool raw = false;
  int64_t n = 1, threads = 0;
  uint64_t seed = 0;
  double kv_cache_gb = 1;
  SamplingParams sampling{.max_tokens = 1024};
};

std::atomic<bool> interrupted = false;

/// Ctrl-C sets the flag; a blocked read returns.
void catch_interrupt() {
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = true; };
  ::sigaction(SIGINT, &action, nullptr);
}

policy::ChatTemplate template_of(const SampleOptions& options, const ModelPlace& place) {
  check(!options.raw || (options.chat_template.empty() && options.system.empty()),
        "--raw takes the prompt as it is; it goes with neither --chat-template nor --system");
  if (options.raw) return policy::ChatTemplate::named("none");
  try {
    const policy::ChatTemplate chat = choose_chat_template(place, options.chat_template);
    return options.thinking.empty() ? chat : chat.with_thinking(options.thinking == "on");
  } catch (const ConfigError& error) {
    throw ConfigError(concat(error.what(), " (--chat-template), or --raw for the bare prompt"));
  }
}

/// Everything that the three modes share.
struct Session {
  explicit Session(const SampleOptions& o)
      : options(o),
        ctx(make_context(o.threads, o.device)),
        model(open_model(ctx, o.model, {.dtype = o.dtype})),
        chat(template_of(o, model.place)),
        sampler(ctx, model, chat,
                {.sampling = o.sampling, .seed = o.seed, .kv_cache_gb = o.kv_cache_gb}) {}

  void print_speed() const {
    if (sampler.seconds() > 0)
      std::fprintf(stderr, "%ld tokens, %.1f tokens/s\n", static_cast<long>(sampler.num_tokens()),
                   static_cast<double>(sampler.num_tokens()) / sampler.seconds());
  }
  /// Streams one answer to stdout.
  SampledText answer(const std::vector<int32_t>& prompt, uint64_t prompt_id) {
    ThinkingPrinter printer(std::cout, ::isatty(STDOUT_FILENO) == 1, chat.opens_thinking());
    SampledText result;
    sampler.run(
        {prompt}, 1, prompt_id,
        [&](size_t, int64_t, std::string_view piece) { printer.push(piece); },
        [&](size_t, int64_t, SampledText sample) { result = std::move(sample); }, interrupted);
    printer.finish();
    std::cout << std::endl;
    return result;
  }

  const SampleOptions& options;
  ExecContext ctx;
  OpenedModel model;
  policy::ChatTemplate chat;
  TextSampler sampler;
};

void run_prompt(Session& session) {
  const SampleOptions& o = session.options;
  const std::vector<int32_t> prompt =
      encode_chat(session.model.need_tokenizer(), session.chat, o.system, {{"user", o.prompt}});
  if (o.n == 1) {
    session.answer(prompt, 0);
    return;
  }
  session.sampler.run(
      {prompt}, o.n, 0, {},
      [&](size_t, int64_t sample, SampledText text) {
        std::cout << "=== sample " << sample << (text.is_finished ? "" : " (cut at --max-tokens)")
                  << "\n";
        ThinkingPrinter printer(std::cout, ::isatty(STDOUT_FILENO) == 1,
                                session.chat.opens_thinking());
        printer.push(text.text);
        printer.finish();
        std::cout << std::endl;
      },
      interrupted);
}

void run_file(Session& session) {
  const SampleOptions& o = session.options;
  std::ifstream file;
  if (o.file != "-") {
    file.open(o.file);
    if (!file || std::filesystem::is_directory(o.file))
      throw IoError(concat(o.file, ": cannot be opened for reading"));
  }
  sample_rows(session.model, session.chat, o.system, session.sampler, o.n,
              o.file == "-" ? std::cin : file, o.file == "-" ? "standard input" : o.file, std::cout,
              interrupted);
}

/// The next line that the user types; false at the end of the input.
bool read_turn(std::string& line) {
  const bool is_terminal = ::isatty(STDIN_FILENO) == 1;
  while (true) {
    if (is_terminal) std::cerr << "> " << std::flush;
    if (std::getline(std::cin, line)) return true;
    if (!interrupted.exchange(false)) {
      if (is_terminal) std::cerr << "\n";
      return false;
    }
    std::cin.clear();
    std::cerr << "\n(Ctrl-D ends the chat)\n";
  }
}

void run_chat(Session& session) {
  const LoadedTokenizer& tokenizer = session.model.need_tokenizer();
  const bool keeps_history = !session.chat.turn_end().empty();
  if (::isatty(STDIN_FILENO) == 1)
    std::cerr << "chat template " << session.chat.name()
              << "; /reset forgets the dialogue, Ctrl-C stops an answer, Ctrl-D ends\n";
  std::vector<policy::ChatMessage> messages;
  uint64_t turn = 0;
  for (std::string line; read_turn(line);) {
    if (line == "/reset") {
      messages.clear();
      continue;
    }
    if (line.empty()) continue;
    if (!keeps_history) messages.clear();
    messages.push_back({"user", line});
    try {
      const auto prompt = encode_chat(tokenizer, session.chat, session.options.system, messages);
      SampledText answer = session.answer(prompt, turn++);
      // The history shows the whole thought, so that the template can cut it away.
      if (session.chat.opens_thinking()) answer.text = "<think>\n" + answer.text;
      if (answer.text.starts_with("<think>") && answer.text.find("</think>") == std::string::npos)
        answer.text += "\n</think>\n\n";
      messages.push_back({"assistant", answer.text});
    } catch (const std::invalid_argument& error) {
      std::cerr << "moerl: " << error.what() << "\n";
      messages.pop_back();
    }
    interrupted = false;
  }
}

void add_sampling_options(CLI::App& command, SampleOptions& o) {
  command.add_option("-n", o.n, "completions of each prompt [1]")->check(CLI::PositiveNumber);
  command.add_option("--temperature", o.sampling.temperature, "0 takes the likeliest token [1]")
      ->check(CLI::NonNegativeNumber);
  command.add_option("--top-p", o.sampling.top_p, "[1]");
  command.add_option("--top-k", o.sampling.top_k, "0 for all [0]")->check(CLI::NonNegativeNumber);
  command.add_option("--min-p", o.sampling.min_p, "[0]");
  command.add_option("--max-tokens", o.sampling.max_tokens, "of one completion [1024]")
      ->check(CLI::PositiveNumber);
  command.add_option("--seed", o.seed, "same seed, same text [0]");
  command.add_option("--kv-cache-gb", o.kv_cache_gb, "memory of the key-value cache [1]")
      ->check(CLI::PositiveNumber);
  command.add_option("--dtype", o.dtype, "bf16, f32 or fp8 [the run's, else bf16]");
  add_compute_options(command, o.threads, o.device);
}

}  // namespace

void add_sample(CLI::App& app) {
  auto options = std::make_shared<SampleOptions>();
  SampleOptions& o = *options;
  CLI::App* command =
      app.add_subcommand("sample", "Generate: one prompt, a file of prompts, or a chat");
  command->add_option("MODEL", o.model, "Hugging Face directory, run directory or checkpoint")
      ->required();
  CLI::Option* prompt = command->add_option("-p,--prompt", o.prompt, "text of one prompt");
  command
      ->add_option("-f,--file", o.file,
                   "JSON lines {\"prompt\": text or messages}; - for standard input")
      ->excludes(prompt);
  command->add_option("--system", o.system, "system text in front of every dialogue");
  command->add_option("--chat-template", o.chat_template,
                      "by name [that of the run, or of the model's tokenizer_config.json]");
  command->add_option("--thinking", o.thinking, "on or off, for templates that have a switch")
      ->check(CLI::IsMember({"on", "off"}));
  command->add_flag("--raw", o.raw, "the prompt as it is, without template and BOS");
  add_sampling_options(*command, o);
  std::string names;
  for (const std::string& name : policy::ChatTemplate::names()) names += " " + name;
  command->footer(concat(
      "Without --prompt and --file it reads a chat from standard input, a turn a line. Thinking is "
      "dimmed on a\nterminal and stands between <think> and </think> elsewhere. With --file each "
      "row is printed back once\nfor each sample, with response, finish_reason, token_ids and "
      "log_probs: moerl judge reads that.\nChat templates:",
      names));
  command->callback([options, prompt] {
    catch_interrupt();
    Session session(*options);
    if (!options->file.empty())
      run_file(session);
    else if (prompt->count() > 0)
      run_prompt(session);
    else
      run_chat(session);
    session.print_speed();
    if (interrupted) throw CLI::RuntimeError(130);
  });
}

}  // namespace moerl::cli
