/* Calibrating, measuring and writing, for the commands that do the whole job. */
#include "cli/work.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "cli/audit.h"
#include "cli/crew.h"
#include "export/calib_pth.h"

/* Hours of measuring must not end at a folder that cannot be written. */
static pq_status check_writable(pq_ctx *ctx, const char *folder)
{
    char *path = NULL;
    pq_status st = pq_dir_make(ctx, folder);
    if (st != PQ_OK) return st;
    st = pq_path_join(ctx, &path, folder, ".pquant");
    if (st == PQ_OK) st = cli_try_writing(ctx, path);
    pq_free(path);
    return st;
}

/* The precision beside FP32 that the engine runs natively and mixes with it. */
static pq_status find_half(pq_ctx *ctx, pq_precision *out, const pq_engine *engine,
                           const char *word)
{
    pq_engine_info info;
    *out = PQ_PREC_FP32;
    if (!word || strcmp(word, "fp32") == 0) return PQ_OK;
    pq_status st = engine->probe(ctx, &info);
    if (st != PQ_OK) return st;
    const bool bf16 = info.mixes && info.precisions >> PQ_PREC_BF16 & 1,
               fp16 = info.mixes && info.precisions >> PQ_PREC_FP16 & 1;
    if (strcmp(word, "auto") == 0) {
        *out = fp16 ? PQ_PREC_FP16 : bf16 ? PQ_PREC_BF16 : PQ_PREC_FP32;
        return PQ_OK;
    }
    if ((st = pq_precision_parse(ctx, out, word)) != PQ_OK) return st;
    if ((*out == PQ_PREC_BF16 && bf16) || (*out == PQ_PREC_FP16 && fp16)) return PQ_OK;
    return pq_fail(ctx, PQ_E_INVALID, "--float '%s', expected auto, fp32%s%s on engine '%s'", word,
                   bf16 ? ", bf16" : "", fp16 ? ", fp16" : "", engine->name);
}

pq_status cli_work_open(pq_ctx *ctx, cli_work *w, const char *model, const cli_common *c,
                        const char *out, const cli_work_opts *opts)
{
    pq_status st;
    char *path = NULL, *journal = NULL;
    memset(w, 0, sizeof *w);
    w->ctx = ctx;
    w->c = c;
    PQ_TRY(pq_engine_find(ctx, &w->engine, c->engine));
    PQ_TRY(cli_scheme(ctx, &w->scheme, c, w->engine));
    PQ_TRY(find_half(ctx, &w->half, w->engine, opts ? opts->half : NULL));
    if (opts && opts->budget > 0) w->deadline = opts->began + 0.85 * opts->budget;
    const bool writes = !(opts && opts->reads_only);
    if (writes) PQ_TRY(check_writable(ctx, out));
    PQ_TRY(pq_strdup(ctx, &w->out, out));
    PQ_TRY(pq_path_join(ctx, &w->journal, out, "sensitivity.jsonl"));
    PQ_TRY(cli_model_load(ctx, &w->model, model, c));
    PQ_TRY(cli_data_for(ctx, &w->data, &w->model, c));
    PQ_TRY(pq_path_join(ctx, &journal, out, "corrections.journal"));
    PQ_TRY(cli_calibrate(ctx, &w->calibration, &w->model, c, w->engine, w->data.images, journal));
    PQ_TRY(pq_path_join(ctx, &path, out, "ranges.json"));
    if (writes) PQ_TRY(cli_calibration_save(ctx, &w->calibration, path));
    if (opts && opts->crew) cli_crew_calibrated(opts->crew);
    const pq_meter_opts o = {.engine = w->engine,
                             .graph = w->model.graph,
                             .ranges = w->calibration.ranges,
                             .corrections = w->calibration.corrections,
                             .scheme = w->scheme,
                             .half = w->half,
                             .data = w->data.images,
                             .coco = w->data.coco,
                             .prep = &w->model.prep,
                             .head = w->model.has_head ? &w->model.head : NULL,
                             .threads = opts && opts->meter_threads ? opts->meter_threads
                                                                    : (int)c->threads,
                             .screen_images = opts ? opts->screen_images : 0,
                             .journal = writes ? w->journal : NULL,
                             .deadline = w->deadline};
    st = pq_meter_new(ctx, &w->meter, &o);
out:
    pq_free(journal);
    pq_free(path);
    return st;
}

void cli_work_close(cli_work *w)
{
    pq_meter_free(w->meter);
    cli_calibration_clear(&w->calibration);
    cli_data_clear(&w->data);
    cli_model_clear(&w->model);
    pq_free(w->out);
    pq_free(w->journal);
    memset(w, 0, sizeof *w);
}

pq_status cli_latency(cli_work *w, const pq_plan *const *plan, size_t n, int runs,
                      double *median_ms)
{
    const pq_compile_opts opts = {.threads = (int)w->c->threads};
    pq_bench_row *row = NULL;
    pq_session **session = NULL;
    pq_tensor *in = NULL;
    pq_status st;
    PQ_TRY(pq_alloc(w->ctx, &row, n, sizeof *row));
    PQ_TRY(pq_alloc(w->ctx, &session, n, sizeof *session));
    for (size_t i = 0; i < n; i++) {
        PQ_TRY(pq_compile(w->ctx, &session[i], w->engine, w->model.graph, plan[i], &opts));
        row[i] = (pq_bench_row){.session = session[i], .engine = w->engine->name, .precision = ""};
    }
    PQ_TRY(pq_bench_input(w->ctx, &in, session[0]));
    const pq_bench_opts bench = {.runs = runs, .input = in, .n_inputs = session[0]->n_inputs};
    PQ_TRY(pq_bench(w->ctx, row, n, &bench));
    for (size_t i = 0; i < n; i++) median_ms[i] = row[i].ms.median;
out:
    if (in) pq_bench_input_free(in, session[0]);
    for (size_t i = 0; session && i < n; i++) pq_session_free(session[i]);
    pq_free(session);
    pq_free(row);
    return st;
}

static pq_status output_path(cli_work *w, char **out, const char *name, const char *suffix)
{
    char *file = NULL;
    pq_status st = pq_asprintf(w->ctx, &file, "%s%s", name, suffix);
    if (st == PQ_OK) st = pq_path_join(w->ctx, out, w->out, file);
    pq_free(file);
    return st;
}

pq_status cli_write_outputs(cli_work *w, const pq_plan *plan, const char *name, int64_t opset)
{
    const pq_graph *g = w->model.graph;
    const pq_export_opts opts = {.opset = (int)opset,
                                 .target = w->scheme == PQ_SCHEME_S8 ? PQ_TARGET_TENSORRT
                                                                     : PQ_TARGET_ANY};
    char suffix[64], *path = NULL;
    pq_status st;
    PQ_TRY(output_path(w, &path, name, "_calib.pth"));
    PQ_TRY(pq_export_calib_pth(w->ctx, path, g, plan));
    pq_free(path);
    path = NULL;
    PQ_TRY(output_path(w, &path, name, "_partial_quant.onnx"));
    PQ_TRY(pq_export_onnx_file(w->ctx, path, g, plan, &opts));
    pq_free(path);
    path = NULL;
    snprintf(suffix, sizeof suffix, "_partial_quant_bs%lld.pqe",
             (long long)g->value[g->input[0]].shape.dim[0]);
    PQ_TRY(output_path(w, &path, name, suffix));
    st = pq_pqe_save(w->ctx, path, g, plan);
out:
    pq_free(path);
    return st;
}

void cli_print_rows(const cli_row *row, size_t n)
{
    printf("%-16s %8s %8s %22s %9s %9s %10s %10s\n", "", "AP", "drop", "95 % interval", "ms",
           "speed-up", "INT8 MACs", "kept float");
    for (size_t i = 0; i < n; i++) {
        const pq_measured *m = &row[i].measured;
        char interval[32] = "";
        if (i) snprintf(interval, sizeof interval, "%+.4f .. %+.4f", m->low, m->high);
        printf("%-16s %8.4f %8.4f %22s %9.3f %8.2fx %9.1f%% %10zu\n", row[i].name,
               m->figures.v[PQ_FIG_AP], m->drop, interval, row[i].ms, row[0].ms / row[i].ms,
               100 * row[i].int8_mac_share, row[i].n_kept);
    }
}
