# moerl_fuzz(FOLDER DEPS ...): the fuzz targets of FOLDER. Each x_fuzz.cc defines LLVMFuzzerTestOneInput, and
# FOLDER/corpus/x holds inputs to start from.
#
# With MOERL_FUZZ (and clang) every target is a libFuzzer program, fuzz_x, under the address and
# undefined-behaviour sanitizers. Otherwise all of them are linked into one GoogleTest program,
# moerl_test_fuzz, which runs each on its corpus and on mutations of it.
function(moerl_fuzz folder)
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  file(GLOB targets CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/*_fuzz.cc)
  list(TRANSFORM targets REPLACE "^.*/(.*)_fuzz\\.cc$" "\\1" OUTPUT_VARIABLE names)
  if(MOERL_FUZZ)
    add_custom_target(fuzzers)
    foreach(name ${names})
      add_executable(fuzz_${name} ${PROJECT_SOURCE_DIR}/${folder}/${name}_fuzz.cc)
      target_include_directories(fuzz_${name} PRIVATE ${PROJECT_SOURCE_DIR})
      target_link_libraries(fuzz_${name} PRIVATE moerl_options ${ARG_DEPS})
      target_link_options(fuzz_${name} PRIVATE -fsanitize=fuzzer)
      add_dependencies(fuzzers fuzz_${name})
    endforeach()
    return()
  endif()

  # One program with many LLVMFuzzerTestOneInput: each gets a name of its own, and a table lists them.
  list(TRANSFORM names REPLACE "(.+)" "TARGET(\\1)" OUTPUT_VARIABLE table)
  list(JOIN table "\n" table)
  set(generated ${PROJECT_BINARY_DIR}/fuzz_targets)
  file(CONFIGURE OUTPUT ${generated}/fuzz_targets.inc CONTENT "${table}\n")
  foreach(name ${names})
    set_source_files_properties(${PROJECT_SOURCE_DIR}/${folder}/${name}_fuzz.cc PROPERTIES
      COMPILE_DEFINITIONS LLVMFuzzerTestOneInput=fuzz_${name})
  endforeach()
  moerl_test(fuzz DEPS ${ARG_DEPS})
  target_sources(moerl_test_fuzz PRIVATE ${targets})
  target_include_directories(moerl_test_fuzz PRIVATE ${generated})
endfunction()
