/**
 * @file ov_api.h
 * The functions of OpenVINO's C interface that we use, looked up by name at run time, so that
 * nothing of it is needed to build.
 *
 * Numbers of element types have moved between releases; where one is needed it is asked of a tensor
 * that the runtime made itself. Source: openvino/c of 2024.0 to 2026.4.
 */
#ifndef PQ_ENGINE_OV_API_H
#define PQ_ENGINE_OV_API_H

#include <stddef.h>
#include <stdint.h>

typedef struct ov_core ov_core;
typedef struct ov_model ov_model;
typedef struct ov_compiled ov_compiled;
typedef struct ov_request ov_request;
typedef struct ov_tensor ov_tensor;

typedef struct ov_version {
    const char *build, *description;
} ov_version;

typedef struct ov_shape {
    int64_t rank;
    int64_t *dims;
} ov_shape;

enum { OV_NOT_RUN = 0, OV_OPTIMISED_OUT = 1, OV_EXECUTED = 2 };

typedef struct ov_profile_entry {
    int status;                  /* OV_NOT_RUN: fused into another, or a constant */
    int64_t real_time, cpu_time; /* microseconds */
    const char *node_name, *exec_type, *node_type;
} ov_profile_entry;

typedef struct ov_profile_list {
    ov_profile_entry *entry;
    size_t n;
} ov_profile_list;

/** X(name, arguments): int ov_name(arguments), 0 where it worked. */
#define OV_STATUS_FUNCTIONS(X)                                                                     \
    X(get_openvino_version, (ov_version *))                                                        \
    X(core_create, (ov_core **))                                                                   \
    X(core_read_model_from_memory_buffer,                                                          \
      (const ov_core *, const char *, size_t, const ov_tensor *, ov_model **))                     \
    X(core_compile_model,                                                                          \
      (const ov_core *, const ov_model *, const char *, size_t, ov_compiled **, ...))              \
    X(compiled_model_create_infer_request, (const ov_compiled *, ov_request **))                   \
    X(infer_request_get_input_tensor_by_index, (const ov_request *, size_t, ov_tensor **))         \
    X(infer_request_set_input_tensor_by_index, (ov_request *, size_t, const ov_tensor *))          \
    X(infer_request_set_output_tensor_by_index, (ov_request *, size_t, const ov_tensor *))         \
    X(infer_request_get_output_tensor_by_index, (const ov_request *, size_t, ov_tensor **))        \
    X(infer_request_infer, (ov_request *))                                                         \
    X(infer_request_get_profiling_info, (const ov_request *, ov_profile_list *))                   \
    X(tensor_get_element_type, (const ov_tensor *, int *))                                         \
    X(tensor_get_shape, (const ov_tensor *, ov_shape *))                                           \
    X(tensor_get_byte_size, (const ov_tensor *, size_t *))                                         \
    X(tensor_data, (const ov_tensor *, void **))                                                   \
    X(shape_free, (ov_shape *))                                                                    \
    X(tensor_create_from_host_ptr, (int, ov_shape, void *, ov_tensor **))
/** X(name, arguments): void ov_name(arguments). */
#define OV_FREE_FUNCTIONS(X)                                                                       \
    X(version_free, (ov_version *))                                                                \
    X(core_free, (ov_core *))                                                                      \
    X(model_free, (ov_model *))                                                                    \
    X(compiled_model_free, (ov_compiled *))                                                        \
    X(infer_request_free, (ov_request *))                                                          \
    X(tensor_free, (ov_tensor *))                                                                  \
    X(profiling_info_list_free, (ov_profile_list *))

typedef struct ov_api {
#define X(name, arguments) int(*name) arguments;
    OV_STATUS_FUNCTIONS(X)
#undef X
#define X(name, arguments) void(*name) arguments;
    OV_FREE_FUNCTIONS(X)
#undef X
    const char *(*last_error)(void); /* ov_get_last_err_msg; NULL in releases that lack it */
} ov_api;

#endif
