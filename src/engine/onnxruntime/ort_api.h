/**
 * @file ort_api.h
 * The part of ONNX Runtime's C interface that we use, declared here because its packages for Python
 * bring the library without headers.
 *
 * OrtGetApiBase() gives a table of functions in an order that never changes: members are only ever
 * added behind. The table below repeats the order up to what came with version 5 of the interface;
 * stretches that we do not call are arrays of the same size. Asked for is version 19, the oldest
 * whose packages bring the library, so that GetApi answers in every later one.
 * Source: onnxruntime_c_api.h of ONNX Runtime 1.11 and its static_assert of offsets.
 */
#ifndef PQ_ENGINE_ORT_API_H
#define PQ_ENGINE_ORT_API_H

#include <stddef.h>
#include <stdint.h>

enum { ORT_OLDEST = 19, ORT_LOG_FATAL = 4, ORT_OPTIMISE_ALL = 99 };
enum { ORT_FLOAT = 1, ORT_UINT8 = 2, ORT_INT8 = 3, ORT_INT32 = 6, ORT_INT64 = 7, ORT_BOOL = 9 };
enum { ORT_ARENA_ALLOCATOR = 1, ORT_MEMORY_DEFAULT = 0 };

typedef struct ort_env ort_env;
typedef struct ort_status ort_status; /* NULL: it worked */
typedef struct ort_options ort_options;
typedef struct ort_session ort_session;
typedef struct ort_run_options ort_run_options;
typedef struct ort_memory_info ort_memory_info;
typedef struct ort_value ort_value;
typedef struct ort_allocator ort_allocator;
typedef struct ort_type_and_shape ort_type_and_shape;
typedef void (*ort_unused)(void);
typedef void (*ort_log_fn)(void *user, int severity, const char *category, const char *id,
                           const char *where, const char *text);

typedef struct ort_api {
    ort_unused create_status[1]; /* 0 */
    int (*error_code)(const ort_status *st);
    const char *(*error_message)(const ort_status *st);
    ort_unused create_env[1];
    ort_status *(*create_env_with_logger)(ort_log_fn log, void *user, int severity, const char *id,
                                          ort_env **out);
    ort_unused telemetry[3]; /* and CreateSession */
    ort_status *(*create_session)(const ort_env *env, const void *model, size_t bytes,
                                  const ort_options *options, ort_session **out);
    ort_status *(*run)(ort_session *s, const ort_run_options *options, const char *const *in_name,
                       const ort_value *const *in, size_t n_in, const char *const *out_name,
                       size_t n_out, ort_value **out);
    ort_status *(*create_options)(ort_options **out);
    ort_status *(*set_optimized_path)(ort_options *o, const char *path);
    ort_unused clone_options[2]; /* and the execution mode */
    ort_status *(*enable_profiling)(ort_options *o, const char *prefix);
    ort_unused profiling_off[8]; /* memory patterns, arenas, logging of a session */
    ort_status *(*set_optimisation)(ort_options *o, int level);
    ort_status *(*set_intra_threads)(ort_options *o, int n);
    ort_status *(*set_inter_threads)(ort_options *o, int n);
    ort_unused custom_ops[23]; /* and inputs, outputs, run options: 26 .. 48 */
    ort_status *(*tensor_of)(const ort_memory_info *memory, void *data, size_t bytes,
                             const int64_t *shape, size_t rank, int type, ort_value **out);
    ort_unused is_tensor[1];
    ort_status *(*tensor_data)(ort_value *v, void **data);
    ort_unused strings[8]; /* 52 .. 59 */
    ort_status *(*element_type)(const ort_type_and_shape *t, int *type);
    ort_status *(*rank)(const ort_type_and_shape *t, size_t *rank);
    ort_status *(*dimensions)(const ort_type_and_shape *t, int64_t *dim, size_t rank);
    ort_unused symbolic[2]; /* 63, 64 */
    ort_status *(*type_and_shape)(const ort_value *v, ort_type_and_shape **out);
    ort_unused types[3]; /* 66 .. 68 */
    ort_status *(*cpu_memory_info)(int allocator, int memory, ort_memory_info **out);
    ort_unused memory[6]; /* 70 .. 75 */
    ort_status *(*allocator_free)(ort_allocator *a, void *p);
    ort_unused allocator_info[1];
    ort_status *(*default_allocator)(ort_allocator **out);
    ort_unused values[13]; /* 79 .. 91 */
    void (*release_env)(ort_env *e);
    void (*release_status)(ort_status *st);
    void (*release_memory_info)(ort_memory_info *m);
    void (*release_session)(ort_session *s);
    void (*release_value)(ort_value *v);
    ort_unused release_run_options[2]; /* and type infos */
    void (*release_type_and_shape)(ort_type_and_shape *t);
    void (*release_options)(ort_options *o);
    ort_unused map_types[9]; /* 101 .. 109 */
    ort_status *(*end_profiling)(ort_session *s, ort_allocator *a, char **path);
    ort_unused metadata[19]; /* 111 .. 129 */
    ort_status *(*add_config)(ort_options *o, const char *key, const char *value);
} ort_api;

#define ORT_AT(member, index)                                                                      \
    _Static_assert(offsetof(ort_api, member) == (index) * sizeof(ort_unused),                      \
                   #member " stands at its place")
ORT_AT(create_session, 8);
ORT_AT(create_options, 10);
ORT_AT(set_optimisation, 23);
ORT_AT(tensor_of, 49);
ORT_AT(tensor_data, 51);
ORT_AT(element_type, 60);
ORT_AT(type_and_shape, 65);
ORT_AT(cpu_memory_info, 69);
ORT_AT(allocator_free, 76);
ORT_AT(default_allocator, 78);
ORT_AT(release_env, 92);
ORT_AT(release_type_and_shape, 99);
ORT_AT(release_options, 100);
ORT_AT(end_profiling, 110);
ORT_AT(add_config, 130);

typedef struct ort_api_base {
    const ort_api *(*get_api)(uint32_t version);
    const char *(*version)(void);
} ort_api_base;
typedef const ort_api_base *(*ort_get_base_fn)(void);

#endif
