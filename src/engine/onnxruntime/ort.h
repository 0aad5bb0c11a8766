/** @file ort.h  ONNX Runtime opened, and its sessions: what the files of this engine share. */
#ifndef PQ_ENGINE_ORT_H
#define PQ_ENGINE_ORT_H

#include <stdatomic.h>

#include "engine/foreign/kernels.h"
#include "engine/foreign/outputs.h"
#include "engine/onnxruntime/ort_api.h"

/** The library and its environment: opened once for a context, which keeps it; sessions hold
 *  references, so that they may outlive the context. */
typedef struct ort_runtime {
    atomic_int references;
    const ort_api *api;
    ort_env *env;
    ort_memory_info *memory;
    char *path;
    char version[32];
} ort_runtime;

/** Times of one kernel over the runs of a profile. */
typedef struct ort_profile {
    pq_layer *layer; /* [n_runs, n] */
    size_t n, n_runs, next;
} ort_profile;

typedef struct ort_engine_session {
    pq_session base;
    ort_runtime *rt;
    ort_session *session;
    pq_buf *model;             /* the ONNX file: profiles are made by a session of their own */
    pq_foreign_output *output; /* [base.n_outputs] */
    pq_kernel_names names;
    ort_profile profile;
    int threads;
} ort_engine_session;

/** OK for NULL; else ENGINE with the runtime's words, and the status is released. */
PQ_MUST_USE pq_status pq_ort_check(pq_ctx *ctx, const ort_runtime *rt, ort_status *st,
                                   const char *what);
/** A session of the model; profile: prefix of the file that it writes its times to, or NULL. */
PQ_MUST_USE pq_status pq_ort_session(pq_ctx *ctx, ort_session **out, const ort_runtime *rt,
                                     const pq_buf *model, int threads, const char *profile);
/** Run once, with tensors in place where they can be. */
PQ_MUST_USE pq_status pq_ort_run(pq_ctx *ctx, const ort_engine_session *s, ort_session *session,
                                 const pq_tensor *in, pq_tensor *out);

/** Run a profiling session some times and keep what it says (profile.c). */
PQ_MUST_USE pq_status pq_ort_profile(pq_ctx *ctx, ort_engine_session *s, const pq_tensor *in);

#endif
