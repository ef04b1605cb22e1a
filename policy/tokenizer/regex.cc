#define PCRE2_CODE_UNIT_WIDTH 8
#include "policy/tokenizer/regex.h"

#include <pcre2.h>

#include "common/check.h"

namespace moerl::policy {
namespace {

constexpr size_t kJitStackStart = size_t{32} << 10;
constexpr size_t kJitStackMax = size_t{16} << 20;

/// What one thread needs to match; made once a thread.
struct MatchScratch {
  pcre2_match_data* data = pcre2_match_data_create(1, nullptr);
  pcre2_match_context* context = pcre2_match_context_create(nullptr);
  pcre2_jit_stack* stack = pcre2_jit_stack_create(kJitStackStart, kJitStackMax, nullptr);

  MatchScratch() {
    check_internal(data && context && stack, "regex: no memory for a match");
    pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~MatchScratch() {
    pcre2_match_data_free(data);
    pcre2_match_context_free(context);
    pcre2_jit_stack_free(stack);
  }
  MatchScratch(const MatchScratch&) = delete;
  MatchScratch& operator=(const MatchScratch&) = delete;
};

std::string error_text(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

}  // namespace

struct Regex::Code {
  pcre2_code* code = nullptr;
  bool has_jit = false;
  ~Code() { pcre2_code_free(code); }
};

Regex::Regex(std::string_view pattern, Syntax syntax) : code_(std::make_unique<Code>()) {
  const bool is_literal = syntax == Syntax::kLiteral;
  const std::string source = is_literal ? std::string(pattern) : oniguruma_to_pcre2(pattern);
  const uint32_t options = PCRE2_UTF | (is_literal ? PCRE2_LITERAL : PCRE2_UCP);
  pcre2_compile_context* context = pcre2_compile_context_create(nullptr);
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(source.data()), source.size(), options,
                              &error, &offset, context);
  pcre2_compile_context_free(context);
  if (!code_->code)
    throw ConfigError(concat("pattern '", pattern, "' does not compile: ", error_text(error),
                             " at byte ", offset, " of '", source, "'"));
  code_->has_jit = pcre2_jit_compile(code_->code, PCRE2_JIT_COMPLETE) == 0;
}

Regex::~Regex() = default;
Regex::Regex(Regex&&) noexcept = default;

bool Regex::find(std::string_view text, size_t start, Match& match) const {
  thread_local const MatchScratch scratch;
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data() ? text.data() : "");
  int result = PCRE2_ERROR_JIT_STACKLIMIT;
  if (code_->has_jit)
    result =
        pcre2_jit_match(code_->code, subject, text.size(), start, 0, scratch.data, scratch.context);
  // The interpreter keeps its state on the heap and so goes on where the machine stack ends.
  if (result == PCRE2_ERROR_JIT_STACKLIMIT)
    result = pcre2_match(code_->code, subject, text.size(), start,
                         PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, scratch.data, scratch.context);
  if (result == PCRE2_ERROR_NOMATCH) return false;
  if (result < 0)
    throw std::runtime_error(
        concat("regex: matching ", text.size(), " bytes failed: ", error_text(result)));
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(scratch.data);
  match = {bounds[0], bounds[1]};
  return true;
}

}  // namespace moerl::policy
