/* pquant merge: the journals of several sweeps into one. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "cli/cli.h"

enum { MAX_FOLDERS = 4096 };

typedef struct folders {
    char *out, **in; /* journals */
    size_t n;
} folders;

static pq_status list_folders(pq_ctx *ctx, folders *f, const char *const *word, size_t n)
{
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &f->in, n, sizeof *f->in));
    PQ_TRY(pq_path_join(ctx, &f->out, word[0], "sensitivity.jsonl"));
    for (size_t i = 1; i < n; i++) {
        PQ_TRY(pq_path_join(ctx, &f->in[f->n], word[i], "sensitivity.jsonl"));
        f->n++;
    }
out:
    return st;
}

static void clear(folders *f)
{
    for (size_t i = 0; i < f->n; i++) pq_free(f->in[i]);
    pq_free(f->in);
    pq_free(f->out);
}

/* Copies dir/name into out; a file that is there already stays, and one that differs is said. */
static pq_status bring(pq_ctx *ctx, const char *out, const char *dir, const char *name)
{
    char *from = NULL, *to = NULL;
    pq_buf *a = NULL, *b = NULL;
    pq_status st;
    PQ_TRY(pq_path_join(ctx, &from, dir, name));
    PQ_TRY(pq_path_join(ctx, &to, out, name));
    if (!pq_file_exists(from)) goto out;
    PQ_TRY(pq_file_map(ctx, &a, from));
    if (!pq_file_exists(to)) {
        st = pq_file_write(ctx, to, pq_buf_data(a), pq_buf_bytes(a));
        goto out;
    }
    PQ_TRY(pq_file_map(ctx, &b, to));
    if (pq_buf_bytes(a) != pq_buf_bytes(b) ||
        memcmp(pq_buf_data(a), pq_buf_data(b), pq_buf_bytes(a)) != 0)
        pq_log(ctx, PQ_LOG_WARN, "merge",
               "%s differs from %s: what was measured with it is not found with the other", from,
               to);
out:
    pq_buf_unref(a);
    pq_buf_unref(b);
    pq_free(from);
    pq_free(to);
    return st;
}

/* Ranges come last: with them the set is whole. */
static pq_status bring_calibration(pq_ctx *ctx, const char *out, const char *dir)
{
    static const char *const name[] = {"ranges.corrections.weights.safetensors",
                                       "ranges.corrections.json", "ranges.json"};
    pq_status st = PQ_OK;
    for (size_t i = 0; st == PQ_OK && i < sizeof name / sizeof *name; i++)
        st = bring(ctx, out, dir, name[i]);
    return st;
}

static pq_status merge(pq_ctx *ctx, const char *const *word, size_t n, pq_merged *count)
{
    folders f = {0};
    pq_status st;
    PQ_TRY(list_folders(ctx, &f, word, n));
    for (size_t i = 0; i < f.n; i++)
        if (!pq_file_exists(f.in[i])) {
            st =
                pq_fail(ctx, PQ_E_IO, "%s: no such file, expected the journal of a sweep", f.in[i]);
            goto out;
        }
    PQ_TRY(pq_dir_make(ctx, word[0]));
    PQ_TRY(pq_journal_merge(ctx, count, f.out, (const char *const *)f.in, f.n));
    for (size_t i = 1; st == PQ_OK && i < n; i++) st = bring_calibration(ctx, word[0], word[i]);
out:
    clear(&f);
    return st;
}

int cmd_merge(int argc, char **argv)
{
    static const char *word[MAX_FOLDERS];
    bool quiet = false;
    size_t n;
    const cli_opt opt[] = {{"--quiet,-q", CLI_FLAG, &quiet, NULL, "no warnings"}};
    const int rc = cli_parse("merge", "OUT IN...", opt, 1, argc, argv, word, MAX_FOLDERS, &n);
    if (rc >= 0) return rc;
    if (n < 2) return cli_usage("merge", "expected OUT and the folders of at least one sweep");
    pq_ctx *ctx;
    pq_merged count;
    if (cli_context(&ctx, quiet) != PQ_OK) return CLI_FAILED;
    const pq_status st = merge(ctx, word, n, &count);
    if (st == PQ_OK)
        printf("%s/sensitivity.jsonl: %zu measurements, %zu of them new; left out: %zu repeated, "
               "%zu torn lines\n",
               word[0], count.n_lines, count.n_new, count.n_repeated, count.n_torn);
    const int status = st == PQ_OK ? CLI_DONE : cli_fail(ctx, st);
    pq_ctx_free(ctx);
    return status;
}
