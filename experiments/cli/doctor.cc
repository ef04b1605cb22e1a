#include <dlfcn.h>
#include <google/protobuf/stubs/common.h>
#include <grpcpp/grpcpp.h>
#include <sqlite3.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <string>

#include "common/shared_library.h"
#include "experiments/cli/commands.h"
#include "experiments/cli/environment.h"
#include "kernels/cuda/backend.h"
#include "kernels/gemm/cublaslt_loader.h"
#include "policy/parallel/communicator_loader.h"
#include "reward/sandbox/isolation.h"

namespace moerl::cli {
namespace {

void line(const char* name, const std::string& value) {
  std::printf("%-16s %s\n", name, value.c_str());
}

/// The value behind "key :" in a /proc file.
std::string proc_value(const char* file, const std::string& key) {
  std::ifstream in(file);
  for (std::string text; std::getline(in, text);) {
    if (!text.starts_with(key)) continue;
    const size_t colon = text.find(':');
    const size_t begin = text.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : text.substr(begin);
  }
  return "unknown";
}

std::string gigabytes(const std::string& kilobytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f GiB", std::stod(kilobytes) / (1 << 20));
  return text;
}

std::string huge_pages() {
  std::ifstream in("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string text;
  return std::getline(in, text) ? text : "unknown";
}

std::string cuda_devices() {
  void* driver = ::dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (driver == nullptr) return "no driver (libcuda.so.1 not found)";
  const auto init = reinterpret_cast<int (*)(unsigned)>(::dlsym(driver, "cuInit"));
  const auto count = reinterpret_cast<int (*)(int*)>(::dlsym(driver, "cuDeviceGetCount"));
  int devices = 0;
  std::string text = "driver found, no device answers";
  if (init != nullptr && count != nullptr && init(0) == 0 && count(&devices) == 0)
    text = std::to_string(devices) + " device(s)";
  ::dlclose(driver);
  return text;
}

/// What untrusted code is run in.
void print_isolation() {
  const reward::IsolationReport report = reward::inspect_isolation();
  line("bubblewrap", report.bubblewrap);
  line("user namespaces", report.user_namespaces);
  line("seccomp", report.seccomp);
  line("cgroups", report.cgroups);
  line("sandbox python", report.python);
  line("sandbox g++", report.compiler);
  line("code verifier", report.problem.empty() ? "works" : report.problem);
}

}  // namespace

void add_doctor(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "doctor", "Print what this machine has: CPU level, memory, CUDA, sandbox, versions");
  command->callback([] {
    utsname system{};
    ::uname(&system);
    line("system", std::string(system.sysname) + " " + system.release + " " + system.machine);
    line("cpu", proc_value("/proc/cpuinfo", "model name"));
    line("cpu level", std::string(isa_name(isa_from_environment())) +
                          " (highest here: " + isa_name(detect_isa()) + ")");
    line("cores", std::to_string(num_threads(0)));
    line("memory", gigabytes(proc_value("/proc/meminfo", "MemTotal")) + ", " +
                       gigabytes(proc_value("/proc/meminfo", "MemAvailable")) + " available");
    line("huge pages", huge_pages());
    line("cuda driver", cuda_devices());
    line("cublaslt", cublaslt_is_wanted() ? kernels::describe_cublaslt(program_directory())
                                          : "not used (MOERL_CUBLASLT is 0)");
    line("nccl", describe_communicator(program_directory(), kNcclLibrary));
    line("mpi", describe_communicator(program_directory(), kMpiLibrary));
    line("grpc", grpc::Version());
    line("protobuf", google::protobuf::internal::VersionString(GOOGLE_PROTOBUF_VERSION));
    line("sqlite", sqlite3_libversion());
    line("compiler", __VERSION__);
    print_isolation();
    std::printf("\nThis build computes on the CPU%s.\n",
                kernels::has_cuda_backend() ? " and on CUDA" : "");
  });
}

}  // namespace moerl::cli
