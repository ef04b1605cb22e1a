# moerl_embed_text(FOLDER FILE NAME NAMESPACE): the text of FILE as `extern const char NAME[]` in
# the library of FOLDER.
function(moerl_embed_text folder file name namespace)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${file})
  file(READ ${PROJECT_SOURCE_DIR}/${file} text)
  # CONFIGURE only replaces names between at signs, which the text must not have.
  file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/embedded/${file}.cc @ONLY CONTENT
"namespace ${namespace} {
extern const char ${name}[];
const char ${name}[] = R\"__TEXT__(@text@)__TEXT__\";
}  // namespace ${namespace}
")
  target_sources(moerl_${folder} PRIVATE ${PROJECT_BINARY_DIR}/embedded/${file}.cc)
endfunction()
