/**
 * @file library.h
 * Finding and opening the library of a foreign runtime.
 *
 * Looked for in this order, and never in the current directory (empty and relative entries of PATH
 * and LD_LIBRARY_PATH are passed over, and no bare name goes to dlopen):
 *  1. each entry of the context's engine path, a folder or the file itself;
 *  2. the variable of the environment, likewise; a place named there must hold the library;
 *  3. the site-packages of the first python3 on PATH, which is asked for them in isolated mode;
 *  4. the system: LD_LIBRARY_PATH, the usual folders.
 * A library once opened is never closed: the runtimes keep threads that outlive their sessions.
 */
#ifndef PQ_ENGINE_FOREIGN_LIBRARY_H
#define PQ_ENGINE_FOREIGN_LIBRARY_H

#include "base/ctx.h"

typedef struct pq_library_spec {
    const char *name;     /* of the engine */
    const char *variable; /* in the environment */
    const char *file;     /* "libonnxruntime.so"; ".1.19.2" and the like may follow */
    const char *package;  /* folder in site-packages that holds it: "onnxruntime/capi" */
    const char *hint;     /* how to get it */
    const char *below[8]; /* folders looked into below a place that was named; NULL ends the list */
} pq_library_spec;

typedef struct pq_library {
    void *handle; /* for dlsym */
    char *path;   /* release with pq_free */
} pq_library;

/** Errors: UNAVAILABLE (the places tried; or the one found and the loader's words), NOMEM. */
PQ_MUST_USE pq_status pq_library_open(pq_ctx *ctx, pq_library *out, const pq_library_spec *spec);

/** The first two places alone: *path NULL where nothing is named or the engine path does not hold
 * it. Memory: *path yours (pq_free). Errors: as pq_library_open. */
PQ_MUST_USE pq_status pq_library_named(pq_ctx *ctx, char **path, const pq_library_spec *spec);

/** Address of a function, stored through `fn`, a pointer to a function pointer. Errors: UNAVAILABLE
 * (the library has no such symbol). */
PQ_MUST_USE pq_status pq_library_symbol(pq_ctx *ctx, void *fn, const pq_library *lib,
                                        const char *name);

/** The path of the library's file in or below place, or place itself where it is a file; *out NULL
 * where there is none. Memory: yours (pq_free). Errors: NOMEM. */
PQ_MUST_USE pq_status pq_library_in(pq_ctx *ctx, char **out, const char *place,
                                    const pq_library_spec *spec);

#endif
