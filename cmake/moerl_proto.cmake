# moerl_proto_library(FOLDER): generated message and service code of every .proto under FOLDER,
# included as "moerl/v1/x.pb.h" and "moerl/v1/x.grpc.pb.h".
find_program(PROTOC_PROGRAM protoc REQUIRED)
find_program(GRPC_CPP_PLUGIN grpc_cpp_plugin REQUIRED)

function(moerl_proto_library folder)
  set(out ${PROJECT_BINARY_DIR}/generated)
  file(MAKE_DIRECTORY ${out})
  file(GLOB_RECURSE protos CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/${folder}/*.proto)
  set(generated "")
  foreach(proto ${protos})
    file(RELATIVE_PATH stem ${PROJECT_SOURCE_DIR}/${folder} ${proto})
    string(REGEX REPLACE "\\.proto$" "" stem ${stem})
    set(files ${out}/${stem}.pb.cc ${out}/${stem}.pb.h ${out}/${stem}.grpc.pb.cc ${out}/${stem}.grpc.pb.h)
    add_custom_command(
      OUTPUT ${files}
      COMMAND ${PROTOC_PROGRAM} -I ${PROJECT_SOURCE_DIR}/${folder} --cpp_out=${out} --grpc_out=${out}
              --plugin=protoc-gen-grpc=${GRPC_CPP_PLUGIN} ${proto}
      DEPENDS ${proto} VERBATIM)
    list(APPEND generated ${files})
  endforeach()
  add_library(moerl_${folder} STATIC ${generated})
  target_include_directories(moerl_${folder} SYSTEM PUBLIC ${out})
  target_compile_features(moerl_${folder} PUBLIC cxx_std_20)
  # The sanitizers must see the generated code too, or containers are half annotated.
  target_compile_options(moerl_${folder} PRIVATE $<TARGET_PROPERTY:moerl_options,INTERFACE_COMPILE_OPTIONS> -w)
  target_link_libraries(moerl_${folder} PUBLIC protobuf::libprotobuf PkgConfig::GRPC)
endfunction()
