#include "experiments/openai/request_target.h"

#include <charconv>

namespace moerl::openai {

std::string path_of_target(std::string_view target) {
  target = target.substr(0, target.find('?'));
  if (const size_t scheme = target.find("://");
      scheme != 0 && target.substr(0, 1) != "/" && scheme != std::string_view::npos) {
    const size_t path = target.find('/', scheme + 3);
    target = path == std::string_view::npos ? "/" : target.substr(path);
  }
  std::string out;
  for (size_t i = 0; i < target.size(); ++i) {
    unsigned char byte = 0;
    const char* digits = target.data() + i + 1;
    if (target[i] == '%' && i + 2 < target.size() &&
        std::from_chars(digits, digits + 2, byte, 16).ptr == digits + 2) {
      out += static_cast<char>(byte);
      i += 2;
    } else {
      out += target[i];
    }
  }
  return out;
}

}  // namespace moerl::openai
