// tokenizer.json: what is accepted encodes a text into ids that it has, and its streaming decoder
// gives the text of decode().
#include <cstdlib>

#include "common/error.h"
#include "policy/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace moerl;
  constexpr const char* kText =
      "Don't stop  at 12345.67!\n\n\tx\xc3\xa9\xe2\x80\xa8 <think>\xe6\xb1\x82\xe8\xa7\xa3</think> "
      "\xf0\x9f\xa4\x97  <s>\r\n";
  try {
    const auto tokenizer = policy::Tokenizer::from_json(
        std::string_view(reinterpret_cast<const char*>(data), size), "input");
    const std::vector<int32_t> ids = tokenizer.encode(kText);
    policy::StreamDecoder stream(tokenizer);
    std::string streamed;
    for (const int32_t id : ids) {
      if (id >= tokenizer.vocab_size() || !tokenizer.has_token(id)) std::abort();
      streamed += stream.push(id);
    }
    if (streamed + stream.finish() != tokenizer.decode(ids)) std::abort();
  } catch (const IoError&) {
  } catch (const ConfigError&) {
  }
  return 0;
}
