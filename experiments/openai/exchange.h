#pragma once
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace moerl::openai {

struct HttpReply {
  int status = 200;
  std::string body;
  std::string content_type = "application/json";
  std::vector<std::pair<std::string, std::string>> headers;  ///< further ones
};

/// The transport's side of one request: where its answer goes. Either reply(), or begin_events(),
/// any number of send_event(), and end_events(). All members but post() and post_aside() belong to
/// the transport's thread; what is sent to a client that has left is dropped.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual void reply(HttpReply reply) = 0;
  /// 200 and text/event-stream.
  virtual void begin_events() = 0;
  virtual void send_event(const std::string& data) = 0;
  virtual void end_events() = 0;
  /// Calls `gone` once if the client leaves, or is dropped as too slow, before the answer's end.
  /// The function is let go then, or at the answer's end.
  virtual void on_gone(std::function<void()> gone) = 0;
  /// Runs `work` on the transport's thread. May be called from any thread.
  virtual void post(std::function<void()> work) = 0;
  /// Runs `work` on a thread for what takes long: nobody's stream waits for it. Must not throw.
  virtual void post_aside(std::function<void()> work) = 0;
};

}  // namespace moerl::openai
