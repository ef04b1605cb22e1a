# moerl_embed(TARGET OUTPUT.h NAME files...): a header "embedded/OUTPUT.h" with the files, one after
# the other, as the string constant NAME.
function(moerl_embed target header name)
  set(content "")
  foreach(file ${ARGN})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${file})
    file(READ ${PROJECT_SOURCE_DIR}/${file} text)
    string(APPEND content "${text}\n")
  endforeach()
  # A string literal may not be longer than 64 KiB; these lie below it.
  file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/embedded_files/embedded/${header}
       CONTENT "#pragma once\ninline constexpr char ${name}[] = R\"embedded(@content@)embedded\";\n" @ONLY)
  target_include_directories(${target} PRIVATE ${PROJECT_BINARY_DIR}/embedded_files)
endfunction()
