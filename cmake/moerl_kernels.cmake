# moerl_kernels_library(FOLDER DEPS ...): moerl_library, and every *_cpu.cc compiled once for each
# CPU instruction level. MOERL_ISA names the level inside the file; kernels/cpu/simd.h turns it
# into a vector type, kernels/cpu/isa.h chooses a level at run time.
#
# The unused: a file uses part of simd.h. The uninitialised: GCC 12 sees them in its own avx512fintrin.h.
set(MOERL_ISA_FLAGS_portable -O2 -Wno-unused-function)
set(MOERL_ISA_FLAGS_avx2 -O3 -mavx2 -mfma -mf16c -mbmi2 -Wno-unused-function)
set(MOERL_ISA_FLAGS_avx512 -O3 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c -mbmi2
                           -mprefer-vector-width=512 -Wno-unused-function -Wno-uninitialized
                           $<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized>)
set(MOERL_ISA_FLAGS_amx ${MOERL_ISA_FLAGS_avx512} -mamx-tile -mamx-bf16)

function(moerl_kernels_library folder)
  cmake_parse_arguments(ARG "" "" "DEPS" ${ARGN})
  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/*.cc)
  # tests/simt builds the one, kernels/cuda/CMakeLists.txt the other.
  list(FILTER sources EXCLUDE REGEX "/(cuda/emulator|gemm/cublaslt)/")
  set(level_sources ${sources})
  list(FILTER level_sources INCLUDE REGEX "_cpu\\.cc$")
  set(amx_sources ${sources})
  list(FILTER amx_sources INCLUDE REGEX "_amx\\.cc$")
  list(FILTER sources EXCLUDE REGEX "_(cpu|amx)\\.cc$")

  set(objects "")
  foreach(level portable avx2 avx512 amx)
    if(level STREQUAL "amx")
      set(files ${amx_sources})
    else()
      set(files ${level_sources})
    endif()
    if(files)
      add_library(moerl_${folder}_${level} OBJECT ${files})
      target_include_directories(moerl_${folder}_${level} PRIVATE ${PROJECT_SOURCE_DIR})
      target_link_libraries(moerl_${folder}_${level} PRIVATE moerl_options ${ARG_DEPS})
      target_compile_options(moerl_${folder}_${level} PRIVATE ${MOERL_ISA_FLAGS_${level}})
      target_compile_definitions(moerl_${folder}_${level} PRIVATE MOERL_ISA=${level} MOERL_ISA_${level}=1)
      list(APPEND objects $<TARGET_OBJECTS:moerl_${folder}_${level}>)
    endif()
  endforeach()

  add_library(moerl_${folder} STATIC ${sources} ${objects})
  target_include_directories(moerl_${folder} PUBLIC ${PROJECT_SOURCE_DIR})
  target_link_libraries(moerl_${folder} PUBLIC moerl_options ${ARG_DEPS})
endfunction()
