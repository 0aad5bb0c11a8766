/* What the subcommands share: context, model, ranges, plans, evaluation. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "cli/cli.h"

int cli_fail(const pq_ctx *ctx, pq_status st)
{
    fprintf(stderr, "pquant: %s\n", pq_ctx_error(ctx)[0] ? pq_ctx_error(ctx) : pq_status_name(st));
    return st == PQ_E_INVALID ? CLI_USAGE : CLI_FAILED;
}

static void log_line(void *user, pq_log_level level, const char *stage, const char *text)
{
    (void)user;
    if (level >= PQ_LOG_INFO)
        fprintf(stderr, "pquant: %s%s%s: %s\n", level == PQ_LOG_WARN ? "warning: " : "", "", stage,
                text);
}

/* A bar with the time left, redrawn at most ten times a second. */
static int progress(void *user, const char *stage, size_t done, size_t total)
{
    static struct timespec began, drawn;
    static char current[32];
    struct timespec now;
    (void)user;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (done == 0 || strncmp(current, stage, sizeof current - 1) != 0) {
        began = now;
        snprintf(current, sizeof current, "%s", stage);
    }
    const double gone =
        (double)(now.tv_sec - began.tv_sec) + 1e-9 * (double)(now.tv_nsec - began.tv_nsec);
    const double since =
        (double)(now.tv_sec - drawn.tv_sec) + 1e-9 * (double)(now.tv_nsec - drawn.tv_nsec);
    if (since < 0.1 && done != total) return 0;
    drawn = now;
    const double left = done ? gone / (double)done * (double)(total - done) : 0;
    fprintf(stderr, "\r%-12s %zu/%zu  %3.0f%%  %.0f s left   ", stage, done, total,
            total ? 100.0 * (double)done / (double)total : 100.0, left);
    if (done == total) fprintf(stderr, "\r%60s\r", "");
    return 0;
}

pq_status cli_context(pq_ctx **out, bool quiet)
{
    pq_status st = pq_ctx_new(out);
    if (st != PQ_OK) {
        fprintf(stderr, "pquant: no memory\n");
        return st;
    }
    if (!quiet) pq_ctx_set_log(*out, log_line, NULL);
    if (!quiet && isatty(STDERR_FILENO)) pq_ctx_set_progress(*out, progress, NULL);
    return PQ_OK;
}

pq_status cli_context_for(pq_ctx **out, const cli_common *c)
{
    pq_status st = cli_context(out, c->quiet);
    if (st != PQ_OK) return st;
    st = pq_ctx_set_engine_path(*out, c->engine_path);
    if (st == PQ_OK) return st;
    cli_fail(*out, st);
    pq_ctx_free(*out);
    *out = NULL;
    return st;
}

int cli_print_json(pq_ctx *ctx, cJSON *doc)
{
    char *text = doc ? cJSON_Print(doc) : NULL;
    cJSON_Delete(doc);
    if (!text) return cli_fail(ctx, pq_fail(ctx, PQ_E_NOMEM, "no memory for the JSON text"));
    const bool ok = puts(text) >= 0 && fflush(stdout) == 0;
    cJSON_free(text);
    return ok ? CLI_DONE : cli_fail(ctx, pq_fail(ctx, PQ_E_IO, "cannot write to standard output"));
}

void cli_common_init(cli_common *c)
{
    *c = (cli_common){
        .engine = "cpu", .conf = -1, .iou = -1, .calib_images = 128, .calibrator = "auto"};
}

pq_status cli_parse_size(pq_ctx *ctx, const char *text, int64_t *h, int64_t *w)
{
    char *end;
    const long long a = strtoll(text, &end, 10);
    const long long b = *end == 'x' ? strtoll(end + 1, &end, 10) : a;
    if (end == text || *end || a < 1 || b < 1 || a > 1 << 20 || b > 1 << 20)
        return pq_fail(ctx, PQ_E_INVALID, "--img-size '%s', expected N or HxW", text);
    *h = (int64_t)a;
    *w = (int64_t)b;
    return PQ_OK;
}

/* MODEL.json beside MODEL, if it is a sidecar: any other JSON file may have that name. */
static pq_status find_sidecar(pq_ctx *ctx, cli_model *m, const cli_common *c)
{
    char *stem = NULL, *path = NULL;
    pq_ctx *quiet = NULL;
    pq_status st;
    if (c->sidecar) return pq_sidecar_load(ctx, &m->sidecar, c->sidecar);
    const char *base = pq_path_base(m->path), *dot = strrchr(base, '.');
    if (!dot) return PQ_OK;
    PQ_TRY(pq_strdup(ctx, &stem, m->path));
    stem[dot - m->path] = 0;
    PQ_TRY(pq_asprintf(ctx, &path, "%s.json", stem));
    if (access(path, R_OK) != 0) goto out;
    PQ_TRY(pq_ctx_new(&quiet));
    if (pq_sidecar_load(quiet, &m->sidecar, path) == PQ_OK)
        pq_log(ctx, PQ_LOG_INFO, "model", "sidecar %s", path);
    else
        pq_log(ctx, PQ_LOG_WARN, "model", "%s is not used: no sidecar: %s", path,
               pq_ctx_error(quiet));
out:
    pq_ctx_free(quiet);
    pq_free(stem);
    pq_free(path);
    return st;
}

/* A .pqe is folded already, and its plan goes by the hash: a new size makes a new one. */
static pq_status load_pqe(pq_ctx *ctx, cli_model *m, const char *path, const cli_common *c,
                          int64_t h, int64_t w)
{
    pq_status st = pq_pqe_load(ctx, &m->graph, &m->plan, path);
    if (st != PQ_OK || (!c->batch && !h)) return st;
    const pq_shape *in = &m->graph->value[m->graph->input[0]].shape;
    st = pq_graph_set_input_size(ctx, m->graph, c->batch ? c->batch : in->dim[0], h, w);
    if (st != PQ_OK) return pq_prefix(ctx, st, "%s", path);
    pq_graph_seal(m->graph);
    pq_graph_hash(m->graph, m->plan->graph_hash);
    return PQ_OK;
}

static pq_status load_folded(pq_ctx *ctx, cli_model *m, const char *path, const cli_common *c,
                             int64_t h, int64_t w)
{
    const pq_read_opts opts = {.config = c->config, .batch = c->batch, .h = h, .w = w};
    pq_status st = pq_read(ctx, &m->graph, path, &opts);
    return st == PQ_OK ? pq_pass_all(ctx, m->graph) : st;
}

/* Without a head the input can only be guessed: numbers 0 .. 1, as most are trained. */
static void guess_prep(pq_prep *p, const pq_graph *g)
{
    const pq_shape *in = &g->value[g->input[0]].shape;
    if (in->rank != 4 || in->dim[2] > 1 << 20 || in->dim[3] > 1 << 20) return;
    *p = (pq_prep){.h = (int)in->dim[2], .w = (int)in->dim[3], .pad = 114};
    p->channels = in->dim[1] == 1 ? 1 : 0;
    for (int i = 0; i < 3; i++) p->scale[i] = 1.0f / 255;
}

static pq_status find_head(pq_ctx *ctx, cli_model *m, const cli_common *c)
{
    pq_ctx *quiet;
    pq_status st = PQ_OK;
    if (m->sidecar) {
        st = pq_sidecar_head(ctx, &m->head, m->sidecar, m->graph);
        if (st != PQ_OK) return st;
        m->has_head = true;
    } else {
        if ((st = pq_ctx_new(&quiet)) != PQ_OK) return st;
        m->has_head = pq_head_detect(quiet, &m->head, m->graph) == PQ_OK;
        pq_ctx_free(quiet);
    }
    if (!m->has_head) {
        guess_prep(&m->prep, m->graph);
        return PQ_OK;
    }
    if (c->conf >= 0) m->head.conf = c->conf;
    if (c->iou >= 0) m->head.iou = c->iou;
    if (c->max_det > 0) m->head.max_det = (int)c->max_det;
    pq_head_prep(&m->prep, &m->head);
    return cli_name_classes(ctx, m);
}

pq_status cli_model_read(pq_ctx *ctx, cli_model *m, const char *path, const cli_common *c)
{
    int64_t h = c->size, w = c->size;
    pq_status st = PQ_OK;
    memset(m, 0, sizeof *m);
    m->path = path;
    if (c->conf > 1 || c->iou > 1)
        return pq_fail(ctx, PQ_E_INVALID, "--conf-thres %g and --iou-thres %g, expected 0 to 1",
                       c->conf, c->iou);
    if (c->threads > 0) pq_ctx_set_threads(ctx, (int)c->threads);
    PQ_TRY(find_sidecar(ctx, m, c));
    if (m->sidecar && m->sidecar->h) h = m->sidecar->h, w = m->sidecar->w;
    if (c->img_size) PQ_TRY(cli_parse_size(ctx, c->img_size, &h, &w));
    PQ_TRY(cli_is_pqe(path) ? load_pqe(ctx, m, path, c, h, w) : load_folded(ctx, m, path, c, h, w));
    st = find_head(ctx, m, c);
out:
    return st;
}

pq_status cli_model_load(pq_ctx *ctx, cli_model *m, const char *path, const cli_common *c)
{
    pq_status st = cli_model_read(ctx, m, path, c);
    if (st == PQ_OK) pq_graph_seal(m->graph);
    return st;
}

void cli_model_clear(cli_model *m)
{
    pq_graph_free(m->graph);
    pq_plan_free(m->plan);
    for (int i = 0; m->class_name && i < m->head.n_classes; i++) pq_free(m->class_name[i]);
    pq_free(m->class_name);
    pq_free(m->class_map);
    pq_sidecar_free(m->sidecar);
    memset(m, 0, sizeof *m);
}

pq_status cli_need_head(pq_ctx *ctx, const cli_model *m)
{
    pq_head h;
    if (m->has_head) return PQ_OK;
    return pq_prefix(ctx, pq_head_detect(ctx, &h, m->graph), "%s", m->path);
}

/* A folder, or with --ann given and the same folder, whatever order that has: by image id, else by
 * name. */
static pq_status calibration_images(pq_ctx *ctx, pq_dataset **out, const cli_common *c)
{
    return pq_dataset_from_folder(ctx, out, c->calib_data, (size_t)c->calib_images);
}

static pq_status say_overlap(pq_ctx *ctx, const pq_dataset *calib, const pq_dataset *eval)
{
    size_t shared = 0;
    pq_status st = pq_dataset_overlap(ctx, &shared, calib, eval);
    if (st == PQ_OK && shared)
        pq_log(ctx, PQ_LOG_WARN, "calibrate",
               "%zu of %zu calibration images are evaluated too: the figures flatter", shared,
               calib->n);
    return st;
}

/* The model as its file has it, before --batch: what a scale says of one image holds for many. */
static pq_status hash_of_file(pq_ctx *ctx, char hex[65], const cli_model *m, const cli_common *c)
{
    cli_common as_stored = *c;
    cli_model one;
    as_stored.batch = 0;
    pq_status st = cli_model_load(ctx, &one, m->path, &as_stored);
    if (st == PQ_OK) pq_graph_hash(one.graph, hex);
    cli_model_clear(&one);
    return st;
}

/* A plan or ranges from a file, made for this model? Then for this batch of it. The file is at
 * fault, not the usage. */
static pq_status check_graph(pq_ctx *ctx, const cli_model *m, const cli_common *c, char hash[65],
                             const char *path)
{
    char own[65], stored[65] = "";
    pq_graph_hash(m->graph, own);
    if (strcmp(hash, own) == 0) return PQ_OK;
    pq_status st = c->batch ? hash_of_file(ctx, stored, m, c) : PQ_OK;
    if (st != PQ_OK) return st;
    if (strcmp(hash, stored) != 0)
        return pq_fail(ctx, PQ_E_FORMAT, "%s: made for graph %.12s, expected that of %s, %.12s",
                       path, hash, m->path, own);
    memcpy(hash, own, sizeof own);
    return PQ_OK;
}

static pq_status load_ranges(pq_ctx *ctx, pq_ranges **out, const cli_model *m, const cli_common *c,
                             const char *path)
{
    pq_status st = pq_ranges_load(ctx, out, path);
    if (st != PQ_OK) return st;
    st = check_graph(ctx, m, c, (*out)->graph_hash, path);
    if (st != PQ_OK) {
        pq_ranges_free(*out);
        *out = NULL;
    }
    return st;
}

static pq_status load_plan(pq_ctx *ctx, pq_plan **out, const cli_model *m, const cli_common *c,
                           const char *path)
{
    pq_status st = pq_plan_load(ctx, out, path);
    if (st != PQ_OK) return st;
    st = check_graph(ctx, m, c, (*out)->graph_hash, path);
    if (st != PQ_OK) {
        pq_plan_free(*out);
        *out = NULL;
    }
    return st;
}

static pq_status images_for_calibration(pq_ctx *ctx, pq_dataset **out, const cli_model *m,
                                        const cli_common *c, const pq_dataset *eval)
{
    if (!c->calib_data)
        return pq_fail(ctx, PQ_E_INVALID, "int8 needs ranges: give --calib-data or --ranges");
    if (c->calib_images < 1)
        return pq_fail(ctx, PQ_E_INVALID, "--calib-images 0, expected at least 1");
    pq_status st = m->prep.h < 1 ? cli_need_head(ctx, m) : PQ_OK; /* no image to give it */
    if (st == PQ_OK) st = calibration_images(ctx, out, c);
    return st == PQ_OK && eval ? say_overlap(ctx, *out, eval) : st;
}

pq_status cli_ranges(pq_ctx *ctx, pq_ranges **out, const cli_model *m, const cli_common *c,
                     const pq_dataset *eval)
{
    pq_calibrate_opts opts = {.threads = (int)c->threads};
    const pq_engine *engine;
    pq_dataset *images = NULL;
    pq_status st;
    *out = NULL;
    if (c->ranges) return load_ranges(ctx, out, m, c, c->ranges);
    PQ_TRY(pq_calibrator_parse(ctx, &opts.calibrator, c->calibrator));
    PQ_TRY(images_for_calibration(ctx, &images, m, c, eval));
    PQ_TRY(pq_engine_find(ctx, &engine, strcmp(c->engine, "ref") == 0 ? "ref" : "cpu"));
    PQ_TRY(pq_calibrate(ctx, out, engine, m->graph, images, &m->prep, &opts));
out:
    pq_dataset_free(images);
    return st;
}

pq_status cli_try_writing(pq_ctx *ctx, const char *path)
{
    pq_out f;
    const pq_status st = pq_out_open(ctx, &f, path);
    if (st == PQ_OK) pq_out_abort(&f);
    return st;
}

pq_status cli_beside_ranges(pq_ctx *ctx, char **out, const char *ranges, const char *ending)
{
    const size_t n = strlen(ranges);
    const int stem = (int)(n > 5 && strcmp(ranges + n - 5, ".json") == 0 ? n - 5 : n);
    return pq_asprintf(ctx, out, "%.*s%s", stem, ranges, ending);
}

pq_status cli_calibration_save(pq_ctx *ctx, const cli_calibration *k, const char *path)
{
    char *beside = NULL;
    pq_status st;
    PQ_TRY(cli_beside_ranges(ctx, &beside, path, ".corrections.json"));
    if (k->corrections)
        PQ_TRY(pq_corrections_save(ctx, k->corrections, beside));
    else if (pq_file_exists(beside)) /* of an earlier run: it does not belong to these ranges */
        (void)remove(beside);
    st = pq_ranges_save(ctx, k->ranges, path);
out:
    pq_free(beside);
    return st;
}

void cli_calibration_clear(cli_calibration *k)
{
    pq_ranges_free(k->ranges);
    pq_corrections_free(k->corrections);
    *k = (cli_calibration){0};
}

static bool wants_corrections(const cli_common *c)
{
    return !c->no_equalize || !c->no_bias_correct || !c->no_adaround;
}

/* Ranges from a file belong to the network as its corrections left it. */
static pq_status load_calibration(pq_ctx *ctx, cli_calibration *out, const cli_model *m,
                                  const cli_common *c, pq_scheme scheme)
{
    char *path = NULL;
    pq_status st;
    PQ_TRY(load_ranges(ctx, &out->ranges, m, c, c->ranges));
    PQ_TRY(cli_beside_ranges(ctx, &path, c->ranges, ".corrections.json"));
    if (!pq_file_exists(path)) goto out;
    PQ_TRY(pq_corrections_load(ctx, &out->corrections, path));
    PQ_TRY(check_graph(ctx, m, c, out->corrections->graph_hash, path));
    if (out->corrections->scheme != scheme)
        st = pq_fail(ctx, PQ_E_INVALID, "%s: made for scheme %s, expected %s; calibrate for that",
                     path, scheme == PQ_SCHEME_U8 ? "s8" : "u8",
                     scheme == PQ_SCHEME_U8 ? "u8" : "s8");
out:
    pq_free(path);
    return st;
}

pq_status cli_calibrate(pq_ctx *ctx, cli_calibration *out, const cli_model *m, const cli_common *c,
                        const pq_engine *engine, const pq_dataset *eval, const char *journal)
{
    pq_correct_opts o = {.no_equalize = c->no_equalize,
                         .no_bias_correct = c->no_bias_correct,
                         .no_adaround = c->no_adaround,
                         .calibrate = {.threads = (int)c->threads},
                         .journal = journal};
    const pq_engine *own;
    pq_dataset *images = NULL;
    pq_status st;
    *out = (cli_calibration){0};
    PQ_TRY(cli_scheme(ctx, &o.scheme, c, engine));
    if (c->ranges) {
        st = load_calibration(ctx, out, m, c, o.scheme);
        goto out;
    }
    PQ_TRY(pq_calibrator_parse(ctx, &o.calibrate.calibrator, c->calibrator));
    const bool corrects = wants_corrections(c);
    if (!corrects && o.calibrate.calibrator != PQ_CALIB_AUTO) {
        st = cli_ranges(ctx, &out->ranges, m, c, eval);
        goto out;
    }
    PQ_TRY(images_for_calibration(ctx, &images, m, c, eval));
    PQ_TRY(pq_engine_find(ctx, &own, strcmp(c->engine, "ref") == 0 ? "ref" : "cpu"));
    st = pq_correct(ctx, &out->corrections, &out->ranges, own, m->graph, images, &m->prep,
                    m->has_head ? &m->head : NULL, &o);
    if (st == PQ_OK && !corrects) { /* it has chosen the calibrator */
        pq_corrections_free(out->corrections);
        out->corrections = NULL;
    }
out:
    pq_dataset_free(images);
    if (st != PQ_OK) cli_calibration_clear(out);
    return st;
}

pq_status cli_scheme(pq_ctx *ctx, pq_scheme *out, const cli_common *c, const pq_engine *engine)
{
    pq_engine_info info;
    if (c->scheme) {
        *out = strcmp(c->scheme, "u8") == 0 ? PQ_SCHEME_U8 : PQ_SCHEME_S8;
        if (*out == PQ_SCHEME_S8 && strcmp(c->scheme, "s8") != 0)
            return pq_fail(ctx, PQ_E_INVALID, "scheme '%s', expected s8 or u8", c->scheme);
        return PQ_OK;
    }
    pq_status st = engine->probe(ctx, &info);
    if (st == PQ_OK) *out = info.scheme;
    return st;
}

static pq_status int8_plan(pq_ctx *ctx, pq_plan **out, const cli_model *m, const cli_common *c,
                           const pq_engine *engine, cli_calibration *calibration,
                           const pq_dataset *eval)
{
    bool *all = NULL;
    pq_scheme scheme;
    pq_engine_info info;
    pq_status st;
    const size_t n = pq_graph_quantizable_count(m->graph);
    PQ_TRY(engine->probe(ctx, &info)); /* a missing engine is said before calibrating */
    PQ_TRY(cli_scheme(ctx, &scheme, c, engine));
    if (!calibration->ranges) PQ_TRY(cli_calibrate(ctx, calibration, m, c, engine, eval, NULL));
    PQ_TRY(pq_alloc(ctx, &all, n, 1));
    memset(all, 1, n);
    PQ_TRY(pq_plan_make(ctx, out, m->graph, calibration->ranges, all, scheme, info.base));
    if (info.rounds_outputs || c->rounds_outputs)
        PQ_TRY(pq_plan_round_outputs(ctx, *out, m->graph, calibration->ranges));
    st = pq_correct_plan(ctx, *out, calibration->corrections, m->graph);
out:
    if (st != PQ_OK) {
        pq_plan_free(*out);
        *out = NULL;
    }
    pq_free(all);
    return st;
}

pq_status cli_plan(pq_ctx *ctx, pq_plan **out, const char *word, const cli_model *m,
                   const cli_common *c, const pq_engine *engine, cli_calibration *calibration,
                   const pq_dataset *eval)
{
    pq_precision p;
    *out = NULL;
    if (strcmp(word, "int8") == 0) return int8_plan(ctx, out, m, c, engine, calibration, eval);
    const size_t n = strlen(word);
    if (n > 5 && strcmp(word + n - 5, ".json") == 0) return load_plan(ctx, out, m, c, word);
    pq_status st = pq_precision_parse(ctx, &p, word);
    if (st != PQ_OK)
        return pq_fail(ctx, PQ_E_INVALID,
                       "precision '%s', expected fp32, bf16, fp16, int8 or a plan.json", word);
    return pq_plan_float(ctx, out, m->graph, p);
}

pq_status cli_data_load(pq_ctx *ctx, cli_data *d, const cli_common *c)
{
    memset(d, 0, sizeof *d);
    if (!c->data || !c->ann)
        return pq_fail(ctx, PQ_E_INVALID,
                       "no evaluation data: give --data IMAGES and --ann COCO.json");
    pq_status st = pq_coco_load(ctx, &d->coco, c->ann);
    return st == PQ_OK ? pq_dataset_from_coco(ctx, &d->images, d->coco, c->data, 0) : st;
}

pq_status cli_data_for(pq_ctx *ctx, cli_data *d, cli_model *m, const cli_common *c)
{
    memset(d, 0, sizeof *d);
    if (m->has_head) {
        const pq_status st = cli_data_load(ctx, d, c);
        return st == PQ_OK ? cli_match_classes(ctx, m, d->coco) : st;
    }
    if (m->prep.h < 1) return cli_need_head(ctx, m);
    pq_log(ctx, PQ_LOG_WARN, "model",
           "the head is not known: what is measured is the error of the outputs (1 - noise / "
           "signal in place of AP), with pixels / 255 as input; a sidecar can say better");
    return pq_dataset_from_folder(ctx, &d->images, c->data, 0);
}

int cli_need_data(const char *command, const cli_common *c)
{
    if (!c->data) return cli_usage(command, "--data and --ann are needed");
    if (!c->calib_data && !c->ranges)
        return cli_usage(command, "int8 needs --calib-data or --ranges");
    return -1;
}

void cli_data_clear(cli_data *d)
{
    pq_dataset_free(d->images);
    pq_coco_free(d->coco);
    memset(d, 0, sizeof *d);
}

pq_status cli_match(pq_ctx *ctx, pq_eval_matches **out, const cli_model *m, const pq_plan *plan,
                    const pq_engine *engine, const cli_data *d, const cli_common *c)
{
    const pq_compile_opts opts = {.threads = (int)c->threads, .min_score = (float)m->head.conf};
    pq_session *s = NULL;
    pq_detections list = {0};
    pq_status st;
    *out = NULL;
    PQ_TRY(cli_need_head(ctx, m));
    PQ_TRY(pq_compile(ctx, &s, engine, m->graph, plan, &opts));
    PQ_TRY(pq_detect_dataset(ctx, &list, s, d->images, &m->prep, &m->head, "evaluate"));
    st = pq_eval_match(ctx, out, d->coco, list.at, list.n, NULL, 0);
out:
    pq_session_free(s);
    pq_detections_clear(&list);
    return st;
}

pq_status cli_evaluate(pq_ctx *ctx, pq_figures *out, const cli_model *m, const pq_plan *plan,
                       const pq_engine *engine, const cli_data *d, const cli_common *c)
{
    pq_eval_matches *found;
    pq_status st = cli_match(ctx, &found, m, plan, engine, d, c);
    if (st == PQ_OK) st = pq_eval_accumulate(ctx, out, NULL, found, NULL);
    pq_eval_free(found);
    return st;
}

bool cli_add_number(cJSON *to, const char *key, double v)
{
    return !isfinite(v) || cJSON_AddNumberToObject(to, key, v) != NULL;
}

bool cli_add_figures(cJSON *to, const pq_figures *f)
{
    for (int i = 0; i < PQ_FIG_COUNT; i++)
        if (!cJSON_AddNumberToObject(to, pq_figure_name((pq_figure)i), f->v[i])) return false;
    return true;
}
