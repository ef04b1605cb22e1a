# The CUDA backend: kernels/**/*.cu. Each file is compiled twice: by nvcc for a GPU, where there is
# one (kernels/cuda/CMakeLists.txt), and as host C++ for the emulator that tests run
# (tests/simt/CMakeLists.txt). In two directories, since a file has one language in a directory.
set(MOERL_CUDA AUTO CACHE STRING "Compile the GPU code with nvcc: ON, OFF, or AUTO, where nvcc is found")
set_property(CACHE MOERL_CUDA PROPERTY STRINGS AUTO ON OFF)

# AUTO: where an nvcc that is new enough is on the PATH or where the toolkit is installed.
find_program(NVCC_PROGRAM nvcc PATHS /usr/local/cuda/bin)
set(MOERL_WITH_NVCC OFF)
if(MOERL_CUDA STREQUAL "ON")
  set(MOERL_WITH_NVCC ON)
elseif(MOERL_CUDA STREQUAL "AUTO")
  if(NVCC_PROGRAM AND NOT MOERL_SANITIZE AND NOT MOERL_FUZZ)
    execute_process(COMMAND ${NVCC_PROGRAM} --version OUTPUT_VARIABLE version ERROR_QUIET)
    if(version MATCHES "release ([0-9.]+)" AND CMAKE_MATCH_1 VERSION_GREATER_EQUAL 13.0)
      set(MOERL_WITH_NVCC ON)
    endif()
  endif()
elseif(NOT MOERL_CUDA STREQUAL "OFF")
  message(FATAL_ERROR "MOERL_CUDA is '${MOERL_CUDA}', expected AUTO, ON or OFF")
endif()
message(STATUS "GPU code by nvcc: ${MOERL_WITH_NVCC}")

if(MOERL_WITH_NVCC)
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90a-real)
  endif()
  if(NOT CMAKE_CUDA_COMPILER)
    set(CMAKE_CUDA_COMPILER ${NVCC_PROGRAM})
  endif()
  enable_language(CUDA)
  # CMake 3.25 does not know that nvcc has C++20, and would leave the option out without a word.
  if(NOT CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION -std=c++20)
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION -std=c++20)
  endif()
  set(CMAKE_CUDA_STANDARD 20)
  find_package(CUDAToolkit 13.0 REQUIRED)
endif()

file(GLOB_RECURSE MOERL_CUDA_SOURCES CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/kernels/*.cu)
