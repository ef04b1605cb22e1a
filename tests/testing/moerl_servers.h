#pragma once
// Services of the moerl program in processes of their own.
#include <memory>
#include <string>

#include "tests/testing/training_runs.h"

namespace moerl::testing {

/// `moerl serve …` on a loopback port, ready to be called.
class MoerlServer {
 public:
  /// @param port  0: a free one.
  static MoerlServer rollout(const Arguments& overrides = {}, int port = 0,
                             const Environment& environment = {});
  static MoerlServer reward(int port = 0, const Arguments& options = {});

  const std::string& address() const { return address_; }
  int port() const { return std::stoi(address_.substr(address_.find(':') + 1)); }
  ChildProcess& process() { return *process_; }
  void kill() { process_->kill(); }

 private:
  MoerlServer(Arguments arguments, int port, const Environment& environment);

  std::unique_ptr<ChildProcess> process_;
  std::string address_;
};

/// "key=[a, b]" for addresses.
std::string address_list(const std::string& key, const std::vector<std::string>& addresses);

}  // namespace moerl::testing
