# Language level, warnings and sanitizers of every target of the project.
set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release CACHE STRING "" FORCE)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O2")

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  # Without these ccache refuses whatever includes a precompiled header.
  set(CMAKE_CXX_COMPILER_LAUNCHER
      ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${CCACHE_PROGRAM})
endif()

# What most files include, compiled once. No header of the project: a change to one would rebuild all.
set(MOERL_COMMON_HEADERS <algorithm> <atomic> <chrono> <cmath> <condition_variable> <deque> <filesystem> <fstream>
    <functional> <map> <memory> <mutex> <optional> <set> <span> <sstream> <string> <string_view> <thread>
    <unordered_map> <variant> <vector>)

add_library(moerl_options INTERFACE)
# Contraction off: a multiply-add is fused where the source says so and nowhere else, or the
# instruction levels would not give the same bits.
target_compile_options(moerl_options INTERFACE -Wall -Wextra -Werror -ffp-contract=off
                                               -fno-math-errno -Wno-missing-field-initializers)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # False alarms of GCC 12 inside its own <string>: a precompiled header is no system header to it.
  target_compile_options(moerl_options INTERFACE -Wno-array-bounds -Wno-restrict -Wno-stringop-overflow)
endif()
if(MOERL_SANITIZE STREQUAL "address")
  target_compile_options(moerl_options INTERFACE -fsanitize=address,undefined
                                                 -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
  target_link_options(moerl_options INTERFACE -fsanitize=address,undefined)
elseif(MOERL_SANITIZE STREQUAL "thread")
  # It does not see Asio's fences, of which GCC warns: Asio's locks, which it sees, order what they do.
  target_compile_options(moerl_options INTERFACE -fsanitize=thread -fno-omit-frame-pointer -g1
                                                 $<$<CXX_COMPILER_ID:GNU>:-Wno-tsan>)
  target_link_options(moerl_options INTERFACE -fsanitize=thread)
elseif(MOERL_SANITIZE)
  message(FATAL_ERROR "MOERL_SANITIZE is '${MOERL_SANITIZE}', expected empty, address or thread")
endif()
if(MOERL_SANITIZE)
  # GCC 12 takes instrumented std::function and optional for uninitialised.
  target_compile_options(moerl_options INTERFACE -Wno-maybe-uninitialized)
endif()
if(MOERL_FUZZ)
  if(NOT CMAKE_CXX_COMPILER_ID STREQUAL "Clang")
    message(FATAL_ERROR "MOERL_FUZZ needs libFuzzer: configure with -DCMAKE_CXX_COMPILER=clang++ (Debian: clang)")
  endif()
  # Warnings are errors with GCC, which every other build uses; clang has others.
  target_compile_options(moerl_options INTERFACE -Wno-error -fsanitize=fuzzer-no-link,address,undefined
                                                 -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
  target_link_options(moerl_options INTERFACE -fsanitize=address,undefined)
endif()
