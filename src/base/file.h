/** @file file.h  Whole files in, whole files out. What is written appears under its final name only
 *  when complete: a temporary neighbour is written, synced and renamed. */
#ifndef PQ_BASE_FILE_H
#define PQ_BASE_FILE_H

#include <stdio.h>

#include "base/ctx.h"

/** The file's bytes, mapped read-only. Errors: IO (with the path and the system's words). */
PQ_MUST_USE pq_status pq_file_map(pq_ctx *ctx, pq_buf **out, const char *path);
bool pq_file_exists(const char *path);
bool pq_file_is_dir(const char *path);
/** Does path, with all links followed, lie below dir? false too where either does not exist. */
bool pq_file_is_below(const char *path, const char *dir);
/** mkdir -p. Errors: IO. */
PQ_MUST_USE pq_status pq_dir_make(pq_ctx *ctx, const char *path);
/** Names (not paths) in a folder, sorted; free each and the array with pq_free. Errors: IO. */
PQ_MUST_USE pq_status pq_dir_list(pq_ctx *ctx, char ***out_names, size_t *out_n, const char *path);

/** A file being written. Close with pq_out_commit (renames into place) or pq_out_abort. */
typedef struct pq_out {
    FILE *f;
    char *path, *temp;
} pq_out;
PQ_MUST_USE pq_status pq_out_open(pq_ctx *ctx, pq_out *out, const char *path);
/** Flush, fsync, rename. On failure the temporary file is removed. Errors: IO (full disk, …). */
PQ_MUST_USE pq_status pq_out_commit(pq_ctx *ctx, pq_out *out);
void pq_out_abort(pq_out *out);
/** open + write + commit. */
PQ_MUST_USE pq_status pq_file_write(pq_ctx *ctx, const char *path, const void *data, size_t bytes);
/** Append a line and its end and sync, for journals; behind a torn line it starts a new one.
 *  Errors: IO. */
PQ_MUST_USE pq_status pq_file_append_line(pq_ctx *ctx, const char *path, const char *line);

/** "dir/name" -> fresh string. Absolute names stay as they are. */
PQ_MUST_USE pq_status pq_path_join(pq_ctx *ctx, char **out, const char *dir, const char *name);
/** Borrowed pointer to the part after the last '/'. */
const char *pq_path_base(const char *path);
/** Fresh string: the file name without its folder and last extension ("a/b.onnx" -> "b"). */
PQ_MUST_USE pq_status pq_path_stem(pq_ctx *ctx, char **out, const char *path);

#endif
