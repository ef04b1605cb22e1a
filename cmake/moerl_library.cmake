# moerl_library(FOLDER DEPS ...): one static library of all sources under FOLDER, called
# moerl_<folder>. Nested libraries (common/rpc, policy/parallel/mpi), examples (experiments/rewards)
# and main.cc files are left out.
function(moerl_library folder)
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  string(REPLACE "/" "_" target moerl_${folder})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/*.cc)
  list(FILTER sources EXCLUDE REGEX "main\\.cc$|/${folder}/(rpc|bench|rewards|parallel/mpi|parallel/nccl)/")
  add_library(${target} STATIC ${sources})
  target_include_directories(${target} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(${target} PUBLIC moerl_options ${ARG_DEPS})
endfunction()
