#include "policy/parallel/device_of_rank.h"

#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "common/error.h"
#include "policy/parallel/collectives.h"

namespace moerl {

int rank_on_machine(Communicator& comm) {
  char name[256] = {};
  check_internal(::gethostname(name, sizeof name - 1) == 0, "this machine has no name");
  const std::vector<std::string> names = all_gather(comm, std::string(name));
  return static_cast<int>(std::count(names.begin(), names.begin() + comm.rank(), name));
}

std::string device_of_rank(const char* visible, int rank_on_machine) {
  if (visible == nullptr) return std::to_string(rank_on_machine);
  std::vector<std::string> devices;
  std::stringstream list(visible);
  for (std::string device; std::getline(list, device, ',');) devices.push_back(device);
  if (devices.size() <= 1) return visible;
  if (static_cast<size_t>(rank_on_machine) >= devices.size())
    throw ConfigError(concat("CUDA_VISIBLE_DEVICES is ", visible,
                             ", expected a device for each of ", "at least ", rank_on_machine + 1,
                             " ranks on this machine"));
  return devices[static_cast<size_t>(rank_on_machine)];
}

}  // namespace moerl
