#pragma once
// Services of the moerl program in processes of their own.
#include <stdexcept>
#include <string>

#include "tests/testing/training_runs.h"

namespace moerl::testing {

/// `moerl serve …` on a loopback port, ready to be called.
class MoerlServer {
 public:
  /// @param port  0: a free one.
  static MoerlServer rollout(const Arguments& overrides = {}, int port = 0,
                             const Environment& environment = {}) {
    Arguments arguments = {"serve", "rollout", tiny_recipe(), "num_threads=1"};
    arguments.insert(arguments.end(), overrides.begin(), overrides.end());
    return MoerlServer(std::move(arguments), port, environment);
  }
  static MoerlServer reward(int port = 0, const Arguments& options = {}) {
    Arguments arguments = {"serve", "reward", "--workers", "1"};
    arguments.insert(arguments.end(), options.begin(), options.end());
    return MoerlServer(std::move(arguments), port, {});
  }

  const std::string& address() const { return address_; }
  int port() const { return std::stoi(address_.substr(address_.find(':') + 1)); }
  ChildProcess& process() { return *process_; }
  void kill() { process_->kill(); }

 private:
  MoerlServer(Arguments arguments, int port, const Environment& environment) {
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

  std::unique_ptr<ChildProcess> process_;
  std::string address_;
};

/// "key=[a, b]" for addresses.
inline std::string address_list(const std::string& key, const std::vector<std::string>& addresses) {
  std::string text;
  for (const std::string& address : addresses) text += (text.empty() ? "" : ", ") + address;
  return key + "=[" + text + "]";
}

}  // namespace moerl::testing
