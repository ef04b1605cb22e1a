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

function(moerl_test folder)
  cmake_parse_arguments(ARG "" "BINARY" "DEPS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/${folder}/*_test.cc)
  if(NOT sources)
    return()
  endif()
  string(REPLACE "/" "_" target moerl_test_${folder})
  add_executable(${target} ${sources})
  target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR} ${PROJECT_BINARY_DIR}/test_paths)
  target_link_libraries(${target} PRIVATE moerl_options ${ARG_DEPS} GTest::gmock GTest::gtest_main)
  if(ARG_BINARY)
    add_dependencies(${target} ${ARG_BINARY})
  endif()
  gtest_discover_tests(${target} DISCOVERY_MODE PRE_TEST PROPERTIES LABELS ${folder} TIMEOUT 600)
endfunction()
