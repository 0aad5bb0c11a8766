option(PQ_TESTS "Build the tests" ON)
option(PQ_MPI "Build the module for mpirun, where MPI is found" ON)
option(PQ_WERROR "Turn warnings into errors" ON)
set(PQ_SANITIZE "" CACHE STRING "Sanitizers to build with: address, undefined, thread (or empty)")

option(PQ_CUDA "Build the cuda engine where nvcc is found" ON)
set(PQ_CUDA_ARCHS "90;90-virtual" CACHE STRING
    "GPUs to build for: compute capabilities, N-virtual for PTX, or all")

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_C_VISIBILITY_PRESET hidden)

# No fast-math anywhere, and no contraction: fused operations are written as fmaf where meant.
add_compile_options(-Wall -Wextra -Wshadow -ffp-contract=off -fno-math-errno -fno-trapping-math
                    "$<$<COMPILE_LANGUAGE:C>:-Wconversion;-Wmissing-prototypes;-Wstrict-prototypes>")
add_compile_definitions(_POSIX_C_SOURCE=200809L)
if(PQ_WERROR)
  add_compile_options(-Werror)
endif()
if(PQ_SANITIZE)
  add_compile_options(-fsanitize=${PQ_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  add_link_options(-fsanitize=${PQ_SANITIZE})
endif()
