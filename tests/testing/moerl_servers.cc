#include "tests/testing/moerl_servers.h"

#include <stdexcept>

namespace moerl::testing {

MoerlServer MoerlServer::rollout(const Arguments& overrides, int port,
                                 const Environment& environment) {
  Arguments arguments = {"serve", "rollout", tiny_recipe(), "num_threads=1"};
  arguments.insert(arguments.end(), overrides.begin(), overrides.end());
  return MoerlServer(std::move(arguments), port, environment);
}

MoerlServer MoerlServer::reward(int port, const Arguments& options) {
  Arguments arguments = {"serve", "reward", "--workers", "1"};
  arguments.insert(arguments.end(), options.begin(), options.end());
  return MoerlServer(std::move(arguments), port, {});
}

MoerlServer::MoerlServer(Arguments arguments, int port, const Environment& environment) {
  arguments.insert(arguments.end(), {"--address", "127.0.0.1:" + std::to_string(port)});
  process_ = std::make_unique<ChildProcess>(moerl_program(), arguments, environment);
  const std::string mark = "service on port ";
  if (!process_->has_written("\n") || process_->out().find(mark) == std::string::npos) {
    process_->kill();
    throw std::runtime_error("moerl serve does not listen: " + process_->err());
  }
  const std::string text = process_->out();
  address_ = "127.0.0.1:" + std::to_string(std::stoi(text.substr(text.find(mark) + mark.size())));
}

std::string address_list(const std::string& key, const std::vector<std::string>& addresses) {
  std::string text;
  for (const std::string& address : addresses) text += (text.empty() ? "" : ", ") + address;
  return key + "=[" + text + "]";
}

}  // namespace moerl::testing
