#include "experiments/sample_rows.h"

#include <algorithm>
#include <map>
#include <ostream>

#include "common/check.h"
#include "common/error.h"
#include "experiments/json_rows.h"

namespace moerl {
namespace {

constexpr int64_t kMaxSequencesInRequest = 16384;

policy::ChatMessage message_of(const Row& item, size_t index) {
  const auto text = [&](const char* key) -> const std::string& {
    if (!item.is_object() || !item.contains(key) || !item[key].is_string())
      throw RowError(concat("message ", index, " is ", shown(item),
                            ", expected an object with the strings role and content"));
    return item[key].get_ref<const std::string&>();
  };
  return {text("role"), text("content")};
}

std::vector<policy::ChatMessage> messages_of(const Row& row) {
  const char* key = row.contains("messages") ? "messages" : "prompt";
  if (row.contains("messages") == row.contains("prompt"))
    throw RowError(concat("the row has ", row.contains("prompt") ? "both" : "neither",
                          " of prompt and messages, expected one of them"));
  const Row& value = row[key];
  if (value.is_string()) return {{"user", value.get<std::string>()}};
  if (!value.is_array() || value.empty())
    throw RowError(concat(key, " is ", shown(value), ", expected text or a list of messages"));
  std::vector<policy::ChatMessage> messages;
  for (size_t i = 0; i < value.size(); ++i) messages.push_back(message_of(value[i], i));
  return messages;
}

/// Puts samples into their order and writes them.
class OrderedSamples {
 public:
  OrderedSamples(std::vector<Row>& rows, int64_t n, std::ostream& out)
      : rows_(rows), n_(n), out_(out) {}

  void add(size_t row, int64_t sample, SampledText text) {
    ready_.emplace(static_cast<int64_t>(row) * n_ + sample, std::move(text));
    for (auto it = ready_.find(next_); it != ready_.end(); it = ready_.find(++next_)) {
      write(rows_[static_cast<size_t>(next_ / n_)], next_ % n_, it->second);
      ready_.erase(it);
    }
  }

 private:
  void write(Row row, int64_t sample, const SampledText& text) {
    const auto append = [&row](const char* key, Row value) {
      row.erase(key);
      row[key] = std::move(value);
    };
    append("sample_index", sample);
    append("response", text.text);
    append("finish_reason", text.is_finished ? "stop" : "length");
    append("token_ids", text.token_ids);
    append("log_probs", text.log_probs);
    out_ << row.dump(-1, ' ', false, Row::error_handler_t::replace) << std::endl;
    if (!out_) throw IoError("the samples cannot be written");
  }

  std::vector<Row>& rows_;
  int64_t n_, next_ = 0;
  std::ostream& out_;
  std::map<int64_t, SampledText> ready_;
};

}  // namespace

std::vector<int32_t> encode_chat(const LoadedTokenizer& tokenizer, const policy::ChatTemplate& chat,
                                 const std::string& system,
                                 std::vector<policy::ChatMessage> messages) {
  if (!system.empty()) messages.insert(messages.begin(), {"system", system});
  return tokenizer.tokenizer.encode(chat.render(messages, /*add_generation_prompt=*/true));
}

void sample_rows(const OpenedModel& model, const policy::ChatTemplate& chat,
                 const std::string& system, TextSampler& sampler, int64_t n, std::istream& in,
                 const std::string& source, std::ostream& out, const std::atomic<bool>& stop) {
  const LoadedTokenizer& tokenizer = model.need_tokenizer();
  const int64_t positions = model.transformer->config().max_position_embeddings;
  std::vector<Row> rows;
  std::vector<std::vector<int32_t>> prompts;
  for_each_row(in, source, [&](Row row) {
    try {
      prompts.push_back(encode_chat(tokenizer, chat, system, messages_of(row)));
    } catch (const std::invalid_argument& error) {
      throw RowError(error.what());
    }
    const auto length = static_cast<int64_t>(prompts.back().size());
    if (length < 1 || length >= positions)
      throw RowError(concat("the prompt has ", length, " tokens, expected 1 to ", positions - 1,
                            ", one below the model's positions"));
    rows.push_back(std::move(row));
  });
  check(n >= 1 && n <= kMaxSequencesInRequest, "n is ", n, ", expected 1 to ",
        kMaxSequencesInRequest);
  OrderedSamples ordered(rows, n, out);
  const auto portion = static_cast<size_t>(kMaxSequencesInRequest / n);
  for (size_t begin = 0; begin < prompts.size() && !stop; begin += portion) {
    const size_t end = std::min(prompts.size(), begin + portion);
    sampler.run(
        {prompts.begin() + static_cast<std::ptrdiff_t>(begin),
         prompts.begin() + static_cast<std::ptrdiff_t>(end)},
        n, begin, {},
        [&](size_t prompt, int64_t sample, SampledText text) {
          ordered.add(begin + prompt, sample, std::move(text));
        },
        stop);
  }
}

}  // namespace moerl
