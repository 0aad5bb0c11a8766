/* A run's folder: which files it has, and whether they are what they must be. */
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "report/report.h"

/* A list of objects, where the member is there at all. */
static pq_status check_list(pq_ctx *ctx, const cJSON *o, const char *key, const char *path)
{
    const cJSON *list, *v;
    size_t i = 0;
    if (!pq_field(o, key)) return PQ_OK;
    pq_status st = pq_json_array(ctx, &list, o, key, path);
    if (st != PQ_OK) return st;
    cJSON_ArrayForEach(v, list)
    {
        if (!cJSON_IsObject(v))
            return pq_fail(ctx, PQ_E_FORMAT, "%s: %s[%zu] is no object", path, key, i);
        i++;
    }
    return PQ_OK;
}

static pq_status load(pq_ctx *ctx, cJSON **out, const char *path, const char *const *list)
{
    pq_status st = pq_json_load(ctx, out, path);
    if (st == PQ_OK && !cJSON_IsObject(*out))
        st = pq_fail(ctx, PQ_E_FORMAT, "%s: no object, expected what a run writes", path);
    for (; st == PQ_OK && *list; list++) st = check_list(ctx, *out, *list, path);
    if (st == PQ_OK) pq_fields_clean(*out);
    return st;
}

static pq_status load_if_there(pq_ctx *ctx, cJSON **out, const char *folder, const char *name,
                               const char *const *list)
{
    char *path = NULL;
    pq_status st = pq_path_join(ctx, &path, folder, name);
    if (st == PQ_OK && pq_file_exists(path)) st = load(ctx, out, path, list);
    pq_free(path);
    return st;
}

static pq_status load_run(pq_ctx *ctx, cJSON **out, const char *folder)
{
    static const char *const list[] = {"results", "precisions", "operators", "front", NULL};
    const char *text;
    char *path = NULL;
    pq_status st;
    PQ_TRY(pq_path_join(ctx, &path, folder, "run.json"));
    if (!pq_file_exists(path)) {
        st = pq_fail(ctx, PQ_E_IO,
                     "%s: no such file, expected a finished run; one that was stopped goes on when "
                     "its command is given again",
                     path);
        goto out;
    }
    PQ_TRY(load(ctx, out, path, list));
    PQ_TRY(pq_json_string(ctx, &text, *out, "verdict", path));
    if (!pq_field(*out, "results") && !pq_field(*out, "precisions"))
        st = pq_fail(ctx, PQ_E_FORMAT, "%s: neither 'results' nor 'precisions' in it", path);
out:
    pq_free(path);
    return st;
}

/* Lines that are not whole are passed over, as the sweep does. */
static pq_status count_measured(pq_ctx *ctx, pq_run_files *f, const char *folder)
{
    char *path = NULL;
    pq_buf *b = NULL;
    pq_status st;
    PQ_TRY(pq_path_join(ctx, &path, folder, "sensitivity.jsonl"));
    if (!pq_file_exists(path)) goto out;
    PQ_TRY(pq_file_map(ctx, &b, path));
    const char *at = pq_buf_data(b), *const end = at + pq_buf_bytes(b);
    while (at < end) {
        const char *eol = memchr(at, '\n', (size_t)(end - at));
        const size_t n = (size_t)((eol ? eol : end) - at);
        cJSON *line = cJSON_ParseWithLength(at, n);
        const double seconds = pq_field_number(line, "seconds");
        if (cJSON_IsObject(line)) f->n_measured++;
        if (seconds > 0 && seconds < 1e9) f->seconds += seconds;
        cJSON_Delete(line);
        at += n + 1;
    }
out:
    pq_buf_unref(b);
    pq_free(path);
    return st;
}

pq_status pq_run_files_load(pq_ctx *ctx, pq_run_files *out, const char *folder)
{
    static const char *const tensors[] = {"tensors", NULL};
    static const char *const fixes[] = {"operators", "encodings", NULL};
    pq_status st;
    *out = (pq_run_files){0};
    if (!pq_file_is_dir(folder)) {
        st = pq_fail(ctx, PQ_E_IO, "%s: no such folder, expected that of a run", folder);
        goto out;
    }
    PQ_TRY(load_run(ctx, &out->run, folder));
    PQ_TRY(load_if_there(ctx, &out->ranges, folder, "ranges.json", tensors));
    PQ_TRY(load_if_there(ctx, &out->corrections, folder, "ranges.corrections.json", fixes));
    st = count_measured(ctx, out, folder);
out:
    if (st != PQ_OK) pq_run_files_clear(out);
    return st;
}

void pq_run_files_clear(pq_run_files *f)
{
    cJSON_Delete(f->run);
    cJSON_Delete(f->ranges);
    cJSON_Delete(f->corrections);
    *f = (pq_run_files){0};
}
