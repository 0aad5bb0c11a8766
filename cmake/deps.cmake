find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS C)
pkg_check_modules(ZIP REQUIRED IMPORTED_TARGET libzip)
pkg_check_modules(JPEG REQUIRED IMPORTED_TARGET libturbojpeg)
pkg_check_modules(CJSON REQUIRED IMPORTED_TARGET libcjson)
pkg_check_modules(PROTOBUFC REQUIRED IMPORTED_TARGET libprotobuf-c)
find_path(SPNG_INCLUDE spng.h REQUIRED)
find_library(SPNG_LIBRARY spng REQUIRED)
find_path(ONNX_PROTO_DIR onnx/onnx.proto REQUIRED)
find_program(PROTOC_C NAMES protoc-c protoc REQUIRED)

# oneDNN 3: the system's if it has one, else what tools/deps.sh unpacked into deps/.
find_path(DNNL_INCLUDE oneapi/dnnl/dnnl.h HINTS ${CMAKE_SOURCE_DIR}/deps/onednn/include REQUIRED)
find_library(DNNL_LIBRARY dnnl HINTS ${CMAKE_SOURCE_DIR}/deps/onednn/lib REQUIRED)

# MPI is for `mpirun pquant sweep` alone; a Debian package does not ask for it.
if(PQ_MPI)
  find_package(MPI COMPONENTS C)
endif()
