#include "common/process/unique_fd.h"

#include <fcntl.h>

#include <cerrno>
#include <cstring>

#include "common/check.h"

namespace moerl {

Pipe make_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw IoError(concat("pipe2: ", std::strerror(errno)));
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

}  // namespace moerl
