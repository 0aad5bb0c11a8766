/** @file python.h  Where the python3 on PATH keeps its packages. */
#ifndef PQ_ENGINE_FOREIGN_PYTHON_H
#define PQ_ENGINE_FOREIGN_PYTHON_H

#include "base/ctx.h"

/** Site-packages folders of an interpreter; release with pq_python_clear. */
typedef struct pq_python {
    char *executable; /* NULL: no python3 on PATH */
    char **folder;    /* absolute, existing */
    size_t n_folders;
} pq_python;

/**
 * Looks for python3 along PATH (absolute entries only) and runs it once, isolated from the current
 * directory and from PYTHON* variables (-I), to print its package folders. What it prints counts
 * only where it is an absolute path of a folder. An interpreter that fails or takes longer than ten
 * seconds has no folders. Errors: NOMEM.
 */
PQ_MUST_USE pq_status pq_python_find(pq_ctx *ctx, pq_python *out);
void pq_python_clear(pq_python *p);

#endif
