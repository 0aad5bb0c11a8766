# The ONNX messages in C, generated from the system's onnx.proto. A library of its own, because
# generated code does not follow our warning flags.
set(ONNX_PROTO_GEN ${CMAKE_BINARY_DIR}/gen)
add_custom_command(
  OUTPUT ${ONNX_PROTO_GEN}/onnx/onnx.pb-c.c ${ONNX_PROTO_GEN}/onnx/onnx.pb-c.h
  COMMAND ${CMAKE_COMMAND} -E make_directory ${ONNX_PROTO_GEN}
  COMMAND ${PROTOC_C} --c_out=${ONNX_PROTO_GEN} -I${ONNX_PROTO_DIR} onnx/onnx.proto
  DEPENDS ${ONNX_PROTO_DIR}/onnx/onnx.proto
  VERBATIM)
add_library(pq_onnx_proto OBJECT ${ONNX_PROTO_GEN}/onnx/onnx.pb-c.c ${ONNX_PROTO_GEN}/onnx/onnx.pb-c.h)
target_compile_options(pq_onnx_proto PRIVATE -w)
target_include_directories(pq_onnx_proto SYSTEM PUBLIC ${ONNX_PROTO_GEN})
target_link_libraries(pq_onnx_proto PUBLIC PkgConfig::PROTOBUFC)
