// Bodies of the OpenAI-compatible server: each is understood within its documented ranges, or
// refused with 400 and a body that is JSON.
#include <cstdlib>

#include "common/json.h"
#include "experiments/openai/api_error.h"
#include "experiments/openai/request.h"

namespace {

using namespace moerl;
using namespace moerl::openai;

void expect(bool condition) {
  if (!condition) std::abort();
}

void check_options(const RequestOptions& request, int64_t least_tokens) {
  validate(SamplingParams{.temperature = request.sampling.temperature,
                          .top_k = request.sampling.top_k,
                          .top_p = request.sampling.top_p,
                          .min_p = request.sampling.min_p},
           100);
  expect(request.n >= 1 && request.stop.size() <= kMaxStops);
  for (const std::string& stop : request.stop) expect(!stop.empty());
  expect(request.max_tokens.value_or(1) >= least_tokens);
  expect(request.top_log_probs.value_or(0) >= 0);
  expect(request.top_log_probs.value_or(0) <= kMaxTopLogProbs);
}

bool names_parser(std::string_view text) { return text.find("nlohmann") != text.npos; }

/// What the parser says of itself reaches no client; what a client says of it may come back.
template <typename Read>
void try_read(std::string_view body, const Read& read) {
  try {
    read();
  } catch (const ApiError& error) {
    expect(error.status() == 400);
    const auto told = parse_json(error.json());
    expect(!told.at("error").at("message").get<std::string>().empty());
    expect(!names_parser(told.dump()) || names_parser(body));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view body(reinterpret_cast<const char*>(data), size);
  try_read(body, [&] {
    const CompletionRequest request = parse_completion_request(body);
    check_options(request, request.echo ? 0 : 1);
    expect(!request.prompts.empty());
  });
  try_read(body, [&] {
    const ChatRequest request = parse_chat_request(body);
    check_options(request, 1);
    expect(!request.messages.empty());
  });
  return 0;
}
