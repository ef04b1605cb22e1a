#pragma once
#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace moerl::reward {

/// What one job may use.
struct JobLimits {
  std::chrono::milliseconds wall{6'000};
  /// CPU time of each process.
  std::chrono::seconds cpu{6};
  /// Of all processes and the job's files together.
  int64_t memory_bytes = int64_t{512} << 20;
  /// Processes and threads.
  int max_processes = 32;
  int64_t tmp_bytes = int64_t{64} << 20;
  int max_tmp_files = 1024;
  size_t max_stdout_bytes = size_t{16} << 20;
  size_t max_stderr_bytes = size_t{64} << 10;
};

struct JobFile {
  std::string content;
  bool is_executable = false;
};

enum class JobKind {
  kScript,      ///< source is a Python program, run as __main__
  kExecute,     ///< argv is run; argv[0] is an absolute path in the sandbox
  kServe,       ///< source is a Python program whose functions answer calls on the channel
  kJudgeTests,  ///< source is Python test code that calls the program at the channel's other end
  kJudgeCall,  ///< source is JSON: {"function", "args", "expected": [values, one of them is right]}
};

/// Something to run in a sandbox.
struct Job {
  JobKind kind = JobKind::kScript;
  std::string source;
  /// Standard input.
  std::string input;
  std::vector<std::string> argv;
  /// Files by name in the working directory /tmp, which is empty otherwise.
  std::map<std::string, JobFile> files;
  /// Name of a file to hand back; empty for none.
  std::string collect;
  /// kJudgeTests: names that the program defines, whatever else they mean.
  std::vector<std::string> names;
  /// Comes back in the record of the judge.
  std::string nonce;
  /// An open socket, borrowed; -1 for none.
  int channel = -1;
  JobLimits limits;
};

/// Why a job is over.
enum class JobStop {
  kEnded,      ///< by itself
  kWall,       ///< at its wall time
  kMemory,     ///< it needed more memory than it may
  kOutput,     ///< it wrote more than it may
  kCancelled,  ///< by the caller
  kFailed,     ///< the sandbox failed: says nothing about the job
};

struct JobResult {
  JobStop stop = JobStop::kFailed;
  /// What it returned, or minus the signal that ended it.
  int code = 0;
  std::string out, err;
  /// Content of Job::collect; empty if there is no such plain file.
  std::string collected;
  std::chrono::microseconds cpu_time{0}, wall_time{0};
  int64_t max_rss_bytes = 0;
  /// kFailed: what went wrong.
  std::string detail;
};

}  // namespace moerl::reward
