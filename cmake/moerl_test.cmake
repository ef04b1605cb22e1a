# moerl_test(FOLDER DEPS ... [BINARY target]): one GoogleTest program, moerl_test_<folder>, of all
# *_test.cc under tests/FOLDER; every case is a ctest test labelled with the folder's name.
include(GoogleTest)

# Where this checkout and its build lie. A header and not definitions of every file, so that the
# compiler cache serves the tests of one checkout to another.
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/test_paths/testing/paths.h CONTENT
"#pragma once
#define MOERL_SOURCE_DIR \"${PROJECT_SOURCE_DIR}\"
#define MOERL_BUILD_DIR \"${PROJECT_BINARY_DIR}\"
")

# What tests of several folders use.
file(GLOB testing_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/testing/*.cc)
add_library(moerl_testing STATIC ${testing_sources})
target_include_directories(moerl_testing PUBLIC ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}/test_paths)
target_link_libraries(moerl_testing PUBLIC moerl_options moerl_common SQLite::SQLite3 GTest::gmock)

function(moerl_test folder)
  cmake_parse_arguments(ARG "" "BINARY" "DEPS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/${folder}/*_test.cc)
  if(NOT sources)
    return()
  endif()
  string(REPLACE "/" "_" target moerl_test_${folder})
  add_executable(${target} ${sources})
  target_link_libraries(${target} PRIVATE moerl_options ${ARG_DEPS} moerl_testing GTest::gtest_main)
  # Tests are compiled more often than they are run.
  target_compile_options(${target} PRIVATE -O1)
  if(folder STREQUAL "repo")  # has no definitions but those of all
    target_precompile_headers(${target} PRIVATE ${MOERL_COMMON_HEADERS} <nlohmann/json.hpp> <gmock/gmock.h>)
  else()
    target_precompile_headers(${target} REUSE_FROM moerl_test_repo)
  endif()
  if(ARG_BINARY)
    add_dependencies(${target} ${ARG_BINARY})
  endif()
  gtest_discover_tests(${target} DISCOVERY_MODE PRE_TEST PROPERTIES LABELS ${folder} TIMEOUT 600)
endfunction()
