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

pq_status cli_work_open(pq_ctx *ctx, cli_work *w, const char *model, const cli_common *c,
                        const char *out)
{
    pq_status st;
    pq_engine_info info;
    char *path = NULL, *journal = NULL;
    memset(w, 0, sizeof *w);
    w->ctx = ctx;
    w->c = c;
    PQ_TRY(pq_engine_find(ctx, &w->engine, c->engine));
    PQ_TRY(w->engine->probe(ctx, &info));
    w->base = info.base;
    PQ_TRY(cli_scheme(ctx, &w->scheme, c, w->engine));
    PQ_TRY(check_writable(ctx, out));
    PQ_TRY(pq_strdup(ctx, &w->out, out));
    PQ_TRY(pq_path_join(ctx, &w->journal, out, "sensitivity.jsonl"));
    PQ_TRY(cli_model_load(ctx, &w->model, model, c));
    PQ_TRY(cli_data_for(ctx, &w->data, &w->model, c));
    PQ_TRY(pq_path_join(ctx, &journal, out, "corrections.journal"));
    PQ_TRY(cli_calibrate(ctx, &w->calibration, &w->model, c, w->engine, w->data.images, journal));
    PQ_TRY(pq_path_join(ctx, &path, out, "ranges.json"));
    PQ_TRY(cli_calibration_save(ctx, &w->calibration, path));
    const pq_meter_opts o = {.engine = w->engine,
                             .graph = w->model.graph,
                             .ranges = w->calibration.ranges,
                             .corrections = w->calibration.corrections,
                             .scheme = w->scheme,
                             .base = w->base,
                             .data = w->data.images,
                             .coco = w->data.coco,
                             .prep = &w->model.prep,
                             .head = w->model.has_head ? &w->model.head : NULL,
                             .threads = (int)c->threads,
                             .journal = w->journal};
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
    printf("%-16s %8s %8s %9s %9s %10s %10s\n", "", "AP", "AP50", "ms", "speed-up", "INT8 MACs",
           "kept float");
    for (size_t i = 0; i < n; i++)
        printf("%-16s %8.4f %8.4f %9.3f %8.2fx %9.1f%% %10zu\n", row[i].name,
               row[i].figures.v[PQ_FIG_AP], row[i].figures.v[PQ_FIG_AP50], row[i].ms,
               row[0].ms / row[i].ms, 100 * row[i].int8_mac_share, row[i].n_kept);
}

/* ---- run.json ---- */

static bool add_images(cJSON *to, const char *key, const pq_dataset *d)
{
    cJSON *list = cJSON_AddArrayToObject(to, key);
    for (size_t i = 0; list && i < d->n; i++)
        if (!cJSON_AddItemToArray(list, cJSON_CreateString(pq_path_base(d->sample[i].path))))
            return false;
    return list != NULL;
}

static bool add_machine(cJSON *to, const cli_work *w)
{
    pq_engine_info info;
    cJSON *m = cJSON_AddObjectToObject(to, "machine"), *e = cJSON_AddObjectToObject(to, "engine");
    if (w->engine->probe(w->ctx, &info) != PQ_OK) return false;
    return cJSON_AddStringToObject(m, "device", info.device) &&
           cJSON_AddNumberToObject(m, "threads", pq_ctx_threads(w->ctx)) &&
           cJSON_AddStringToObject(e, "name", w->engine->name) &&
           cJSON_AddStringToObject(e, "version", info.version) &&
           cJSON_AddStringToObject(to, "pquant", PQ_VERSION_STRING);
}

static bool add_rows(cJSON *to, const cli_outcome *o)
{
    cJSON *list = cJSON_AddArrayToObject(to, "results");
    for (size_t i = 0; list && i < o->n_rows; i++) {
        const cli_row *r = &o->row[i];
        cJSON *x = cJSON_CreateObject(), *f;
        if (!cJSON_AddItemToArray(list, x) || !cJSON_AddStringToObject(x, "name", r->name) ||
            !(f = cJSON_AddObjectToObject(x, "figures")) || !cli_add_figures(f, &r->figures) ||
            !cJSON_AddNumberToObject(x, "median_ms", r->ms) ||
            !cJSON_AddNumberToObject(x, "speedup", o->row[0].ms / r->ms) ||
            !cJSON_AddNumberToObject(x, "int8_mac_share", r->int8_mac_share) ||
            !cJSON_AddNumberToObject(x, "kept", (double)r->n_kept))
            return false;
    }
    return list != NULL;
}

static bool add_operators(cJSON *to, const cli_work *w, const cli_outcome *o)
{
    const pq_graph *g = w->model.graph;
    cJSON *list = cJSON_AddArrayToObject(to, "operators");
    const size_t n = pq_graph_quantizable_count(g);
    for (size_t i = 0; list && i < n; i++) {
        const pq_node *node = &g->node[pq_graph_quantizable(g, (int)i)];
        cJSON *x = cJSON_CreateObject();
        if (!cJSON_AddItemToArray(list, x) || !cJSON_AddNumberToObject(x, "index", (double)i) ||
            !cJSON_AddStringToObject(x, "name", node->name) ||
            !cJSON_AddStringToObject(x, "precision", o->int8[i] ? "int8" : "fp32"))
            return false;
        if (o->scores &&
            (!cJSON_AddNumberToObject(x, "AP_quantized", o->scores->op[i].ap_quantized) ||
             !cJSON_AddNumberToObject(x, "AP_reverted", o->scores->op[i].ap_reverted) ||
             !cJSON_AddNumberToObject(x, "damage", o->scores->op[i].damage)))
            return false;
    }
    return list != NULL;
}

cJSON *cli_run_json(const cli_work *w, const cli_outcome *o)
{
    char hash[65];
    cJSON *doc = cJSON_CreateObject(), *c;
    pq_graph_hash(w->model.graph, hash);
    bool ok = cJSON_AddStringToObject(doc, "command", o->command) &&
              cJSON_AddStringToObject(doc, "verdict", o->verdict) &&
              cJSON_AddNumberToObject(doc, "status", o->status) &&
              cJSON_AddStringToObject(doc, "model", w->model.path) &&
              cJSON_AddStringToObject(doc, "family", w->model.graph->family) &&
              cJSON_AddStringToObject(doc, "graph_hash", hash) && add_machine(doc, w) &&
              add_rows(doc, o) &&
              cJSON_AddStringToObject(doc, "scheme", w->scheme == PQ_SCHEME_U8 ? "u8" : "s8") &&
              (c = cJSON_AddObjectToObject(doc, "calibration")) != NULL &&
              cJSON_AddStringToObject(c, "calibrator",
                                      pq_calibrator_name(w->calibration.ranges->calibrator)) &&
              cJSON_AddNumberToObject(c, "images", (double)w->calibration.ranges->n_images) &&
              (!w->c->calib_data || cJSON_AddStringToObject(c, "folder", w->c->calib_data)) &&
              (c = cJSON_AddObjectToObject(doc, "postprocessing")) != NULL &&
              cJSON_AddNumberToObject(c, "conf_thres", w->model.head.conf) &&
              cJSON_AddNumberToObject(c, "iou_thres", w->model.head.iou) &&
              cJSON_AddNumberToObject(c, "max_det", w->model.head.max_det);
    if (ok && o->max_drop >= 0)
        ok = cJSON_AddNumberToObject(doc, "max_drop", o->max_drop * 100) != NULL;
    if (ok && o->max_latency > 0)
        ok = cJSON_AddNumberToObject(doc, "max_latency_ms", o->max_latency) != NULL;
    ok = ok &&
         (w->data.coco
              ? cJSON_AddStringToObject(doc, "annotations", w->c->ann)
              : cJSON_AddStringToObject(doc, "score", "1 - noise / signal of the outputs")) &&
         cJSON_AddStringToObject(doc, "resize", "OpenCV INTER_LINEAR, 8 bits") &&
         cJSON_AddStringToObject(doc, "jpeg", "libjpeg-turbo, accurate DCT") &&
         (!o->audit || cli_add_audit(doc, o->audit)) && add_operators(doc, w, o) &&
         add_images(doc, "images", w->data.images);
    if (ok) return doc;
    cJSON_Delete(doc);
    return NULL;
}
