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

# moerl_embed_folder(TARGET NAME FOLDER PATTERN): a header "embedded/NAME.h" with
# moerl::embedded::NAME(), the files of a folder by name (without .yaml), so that the program needs
# none of them at run time.
function(moerl_embed_folder target name folder pattern)
  file(GLOB files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/${pattern})
  list(SORT files)
  set(entries "")
  foreach(file ${files})
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
    file(READ ${file} text)
    get_filename_component(stem ${file} NAME)
    string(REGEX REPLACE "\\.yaml$" "" stem ${stem})
    string(APPEND entries "      {\"${stem}\", R\"embedded(${text})embedded\"},\n")
  endforeach()
  file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/embedded_files/embedded/${name}.h CONTENT
"#pragma once
#include <vector>

#include \"common/embedded_file.h\"

namespace moerl::embedded {

inline const std::vector<File>& @name@() {
  static const std::vector<File> files = {
@entries@  };
  return files;
}

}  // namespace moerl::embedded
" @ONLY)
  target_include_directories(${target} PRIVATE ${PROJECT_BINARY_DIR}/embedded_files)
endfunction()
