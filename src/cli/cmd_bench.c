/* pquant bench: latency of all pairs of engine and precision, taking turns. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "cli/cli.h"
#include "data/codec.h"

typedef struct options {
    cli_common c;
    const char *precision;
    int64_t runs;
    bool layers, e2e;
} options;

/* All that a bench holds. */
typedef struct work {
    const options *o;
    cli_model m;
    cli_calibration calibration;
    cli_list engines, precisions;
    pq_bench_row *row;
    size_t n_rows;
    pq_tensor *input;
    pq_buf *picture;
    const char *picture_name;
    char *picture_path;
    pq_layer **layers; /* per row */
    size_t *n_layers;
} work;

static void clear(work *w)
{
    if (w->n_rows) pq_bench_input_free(w->input, w->row[0].session);
    for (size_t i = 0; i < w->n_rows; i++) {
        pq_session_free(w->row[i].session);
        if (w->layers) pq_bench_layers_free(w->layers[i]);
    }
    pq_free(w->row);
    pq_free(w->layers);
    pq_free(w->n_layers);
    pq_free(w->picture_path);
    pq_buf_unref(w->picture);
    cli_calibration_clear(&w->calibration);
    cli_list_clear(&w->engines);
    cli_list_clear(&w->precisions);
    cli_model_clear(&w->m);
}

/* ---- rows ---- */

/* precision NULL: the plan inside the .pqe. */
static pq_status add_row(pq_ctx *ctx, work *w, const char *engine_name, const char *precision)
{
    const options *o = w->o;
    pq_bench_row *r = &w->row[w->n_rows];
    const pq_compile_opts opts = {.threads = (int)o->c.threads,
                                  .min_score = o->e2e ? (float)w->m.head.conf : 0};
    const pq_engine *engine;
    pq_plan *plan = NULL;
    pq_status st;
    r->engine = engine_name;
    r->precision = precision ? precision : pq_path_base(w->m.path);
    PQ_TRY(pq_engine_find(ctx, &engine, engine_name));
    if (precision)
        PQ_TRY(cli_plan(ctx, &plan, precision, &w->m, &o->c, engine, &w->calibration, NULL));
    PQ_TRY(pq_compile(ctx, &r->session, engine, w->m.graph, plan ? plan : w->m.plan, &opts));
    w->n_rows++;
out:
    pq_plan_free(plan);
    return st;
}

static pq_status add_rows(pq_ctx *ctx, work *w)
{
    pq_status st;
    PQ_TRY(cli_list_split(ctx, &w->engines, w->o->c.engine));
    if (w->o->precision) PQ_TRY(cli_list_split(ctx, &w->precisions, w->o->precision));
    const size_t n = w->precisions.n ? w->precisions.n : 1;
    PQ_TRY(pq_alloc(ctx, &w->row, w->engines.n * n, sizeof *w->row));
    for (size_t e = 0; e < w->engines.n; e++)
        for (size_t p = 0; p < n; p++)
            PQ_TRY(add_row(ctx, w, w->engines.at[e], w->precisions.n ? w->precisions.at[p] : NULL));
out:
    return st;
}

/* ---- input ---- */

static pq_status first_image(pq_ctx *ctx, work *w)
{
    const char *data = w->o->c.data;
    pq_dataset *d = NULL;
    pq_status st;
    if (pq_file_is_dir(data)) {
        PQ_TRY(pq_dataset_from_folder(ctx, &d, data, 1));
        PQ_TRY(pq_strdup(ctx, &w->picture_path, d->sample[0].path));
    } else
        PQ_TRY(pq_strdup(ctx, &w->picture_path, data));
    w->picture_name = w->picture_path;
    st = pq_file_map(ctx, &w->picture, w->picture_path);
out:
    pq_dataset_free(d);
    return st;
}

static void draw_scene(pq_image *img)
{
    for (int y = 0; y < img->h; y++)
        for (int x = 0; x < img->w; x++) {
            uint8_t *p = img->data + 3 * (y * img->w + x);
            const int stripe = (x / 40 + y / 60) % 3, grain = (x * 7 + y * 13) % 23;
            p[0] = (uint8_t)(x * 200 / img->w + grain);
            p[1] = (uint8_t)(y * 200 / img->h + grain);
            p[2] = (uint8_t)(stripe * 90 + grain);
        }
}

/* A picture of 640 x 480 pixels as a JPEG in memory. */
static pq_status made_picture(pq_ctx *ctx, work *w)
{
    pq_image img = {0};
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    pq_status st;
    if (!f) return pq_fail(ctx, PQ_E_NOMEM, "no memory for a picture");
    w->picture_name = "built-in picture";
    st = pq_image_new(ctx, &img, 640, 480);
    if (st == PQ_OK) {
        draw_scene(&img);
        st = pq_data__jpeg_encode(ctx, f, &img);
    }
    if (fclose(f) != 0 && st == PQ_OK) st = pq_fail(ctx, PQ_E_NOMEM, "no memory for a picture");
    if (st == PQ_OK) st = pq_buf_new(ctx, &w->picture, n);
    if (st == PQ_OK) memcpy(pq_buf_data(w->picture), text, n);
    free(text);
    pq_image_clear(&img);
    return st;
}

/* The picture in every image of the batch. */
static pq_status fill_input(pq_ctx *ctx, work *w)
{
    const pq_prep *prep = &w->m.prep;
    const size_t plane = 3 * (size_t)prep->h * (size_t)prep->w;
    const int64_t batch = w->input->shape.dim[0];
    float *to = pq_tensor_data(w->input);
    pq_image img = {0};
    pq_status st;
    PQ_TRY(pq_image_decode(ctx, &img, pq_buf_data(w->picture), pq_buf_bytes(w->picture),
                           w->picture_name));
    PQ_TRY(pq_preprocess(ctx, to, NULL, &img, prep));
    for (int64_t i = 1; i < batch; i++) memcpy(to + (size_t)i * plane, to, plane * sizeof *to);
out:
    pq_image_clear(&img);
    return st;
}

static pq_status make_input(pq_ctx *ctx, work *w)
{
    const options *o = w->o;
    pq_status st;
    PQ_TRY(pq_bench_input(ctx, &w->input, w->row[0].session));
    if (!o->c.data && !o->e2e) goto out;
    PQ_TRY(cli_need_head(ctx, &w->m));
    PQ_TRY(o->c.data ? first_image(ctx, w) : made_picture(ctx, w));
    st = fill_input(ctx, w);
out:
    return st;
}

/* ---- measuring ---- */

static pq_status measure_layers(pq_ctx *ctx, work *w)
{
    enum { RUNS = 21 };
    const int runs = w->o->runs > 0 && w->o->runs < RUNS ? (int)w->o->runs : RUNS;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &w->layers, w->n_rows, sizeof *w->layers));
    PQ_TRY(pq_alloc(ctx, &w->n_layers, w->n_rows, sizeof *w->n_layers));
    for (size_t i = 0; i < w->n_rows; i++) {
        pq_session *s = w->row[i].session;
        if (!s->engine->layers) {
            pq_log(ctx, PQ_LOG_WARN, "bench", "engine '%s' gives no times per layer",
                   s->engine->name);
            continue;
        }
        PQ_TRY(
            pq_bench_layers(ctx, &w->layers[i], &w->n_layers[i], s, w->input, s->n_inputs, runs));
    }
out:
    return st;
}

static pq_status bench(pq_ctx *ctx, work *w, const char *path)
{
    const options *o = w->o;
    pq_status st;
    PQ_TRY(cli_model_load(ctx, &w->m, path, &o->c));
    if (o->e2e) PQ_TRY(cli_need_head(ctx, &w->m));
    PQ_TRY(add_rows(ctx, w));
    PQ_TRY(make_input(ctx, w));
    const pq_bench_image image = {.bytes = w->picture ? pq_buf_data(w->picture) : NULL,
                                  .n_bytes = w->picture ? pq_buf_bytes(w->picture) : 0,
                                  .name = w->picture_name,
                                  .prep = &w->m.prep,
                                  .head = &w->m.head};
    const pq_bench_opts opts = {.runs = (int)o->runs,
                                .convolutions = o->layers,
                                .input = w->input,
                                .n_inputs = w->row[0].session->n_inputs,
                                .image = o->e2e ? &image : NULL};
    PQ_TRY(pq_bench(ctx, w->row, w->n_rows, &opts));
    if (o->layers) st = measure_layers(ctx, w);
out:
    return st;
}

/* ---- showing ---- */

static double gops(const pq_layer *l) { return l->ms > 0 ? 2e-6 * (double)l->macs / l->ms : 0; }

static double layers_ms(const pq_layer *l, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += l[i].ms;
    return sum;
}

static bool add_layers(cJSON *o, const pq_layer *l, size_t n)
{
    cJSON *list = cJSON_AddArrayToObject(o, "layers");
    bool ok = list != NULL;
    for (size_t i = 0; ok && i < n; i++) {
        cJSON *e = cJSON_CreateObject();
        ok = cJSON_AddItemToArray(list, e) && cJSON_AddStringToObject(e, "node", l[i].node) &&
             cJSON_AddStringToObject(e, "op", l[i].op) &&
             cJSON_AddStringToObject(e, "impl", l[i].impl) &&
             cJSON_AddStringToObject(e, "precision", l[i].precision) &&
             cJSON_AddNumberToObject(e, "macs", (double)(l[i].macs > 0 ? l[i].macs : 0)) &&
             cJSON_AddNumberToObject(e, "ms", l[i].ms) &&
             cJSON_AddNumberToObject(e, "gops", gops(&l[i]));
    }
    return ok && cJSON_AddNumberToObject(o, "layers_ms", layers_ms(l, n)) != NULL;
}

static cJSON *as_json(const work *w)
{
    cJSON *list = cJSON_CreateArray();
    bool ok = list != NULL;
    for (size_t i = 0; ok && i < w->n_rows; i++) {
        const pq_bench_row *r = &w->row[i];
        cJSON *o = cJSON_CreateObject();
        ok = cJSON_AddItemToArray(list, o) && cJSON_AddStringToObject(o, "engine", r->engine) &&
             cJSON_AddStringToObject(o, "precision", r->precision) &&
             cJSON_AddNumberToObject(o, "min_ms", r->ms.min) &&
             cJSON_AddNumberToObject(o, "median_ms", r->ms.median) &&
             cJSON_AddNumberToObject(o, "p90_ms", r->ms.p90) &&
             cJSON_AddNumberToObject(o, "p95_ms", r->ms.p95) &&
             cJSON_AddNumberToObject(o, "p99_ms", r->ms.p99) &&
             cJSON_AddNumberToObject(o, "per_second", r->per_second) &&
             cJSON_AddNumberToObject(o, "ratio", r->ratio);
        if (ok && r->device_ms > 0)
            ok = cJSON_AddNumberToObject(o, "device_ms", r->device_ms) != NULL;
        if (ok && r->over_convolutions > 0)
            ok = cJSON_AddNumberToObject(o, "convolutions_ms", r->convolutions_ms) &&
                 cJSON_AddNumberToObject(o, "over_convolutions", r->over_convolutions);
        if (ok && w->layers && w->layers[i]) ok = add_layers(o, w->layers[i], w->n_layers[i]);
    }
    if (ok) return list;
    cJSON_Delete(list);
    return NULL;
}

static int width_of(const work *w)
{
    int width = 9;
    for (size_t i = 0; i < w->n_rows; i++) {
        const int n = (int)strlen(w->row[i].precision);
        if (n > width) width = n;
    }
    return width;
}

static void print_layers(const pq_bench_row *r, const pq_layer *l, size_t n)
{
    printf("\n%s %s\n%4s  %-48s %-14s %-28s %-13s %9s %9s %8s\n", r->engine, r->precision, "step",
           "node", "op", "kernel", "precision", "MMACs", "ms", "GOPS");
    for (size_t i = 0; i < n; i++) {
        const int name = (int)strlen(l[i].node);
        printf("%4zu  %-48s %-14s %-28s %-13s ", i, l[i].node + (name > 48 ? name - 48 : 0),
               l[i].op, l[i].impl, l[i].precision);
        if (l[i].macs > 0)
            printf("%9.2f %9.4f %8.1f\n", (double)l[i].macs * 1e-6, l[i].ms, gops(&l[i]));
        else
            printf("%9s %9.4f\n", "", l[i].ms);
    }
    printf("sum of its steps, each waited for: %.3f ms\n", layers_ms(l, n));
    if (r->over_convolutions > 0)
        printf("whole network / sum of its convolutions = %.3f ms / %.3f ms = %.2f\n", r->ms.median,
               r->convolutions_ms, r->over_convolutions);
}

static void as_text(const work *w)
{
    const int width = width_of(w);
    printf("%-12s %-*s %9s %9s %9s %9s %9s %9s %7s\n", "engine", width, "precision", "min ms",
           "median ms", "p90 ms", "p95 ms", "p99 ms", "per s", "ratio");
    for (size_t i = 0; i < w->n_rows; i++) {
        const pq_bench_row *r = &w->row[i];
        printf("%-12s %-*s %9.3f %9.3f %9.3f %9.3f %9.3f %9.1f %6.2fx\n", r->engine, width,
               r->precision, r->ms.min, r->ms.median, r->ms.p90, r->ms.p95, r->ms.p99,
               r->per_second, r->ratio);
    }
    for (size_t i = 0; i < w->n_rows; i++)
        if (w->row[i].device_ms > 0)
            printf("%s %s: the device was at work for %.4f ms of it (median)\n", w->row[i].engine,
                   w->row[i].precision, w->row[i].device_ms);
    for (size_t i = 0; w->layers && i < w->n_rows; i++)
        if (w->layers[i]) print_layers(&w->row[i], w->layers[i], w->n_layers[i]);
}

int cmd_bench(int argc, char **argv)
{
    options o = {0};
    const char *word[1];
    size_t n_words;
    pq_ctx *ctx;
    work w = {.o = &o};
    cli_common_init(&o.c);
    o.c.no_equalize = o.c.no_bias_correct = o.c.no_adaround = true; /* none of its own */
    const cli_opt opt[] = {
        {"--precision", CLI_TEXT, &o.precision, "P,…",
         "fp32, bf16, fp16, int8, plan.json, …: one row each (a .pqe needs none)"},
        {"--engine", CLI_TEXT, &o.c.engine, "NAME,…", "engines to run on (default cpu)"},
        CLI_OPT_ENGINE_PATH(o.c),
        {"--threads", CLI_INT, &o.c.threads, "N", "threads (default: all)"},
        {"--runs", CLI_INT, &o.runs, "N", "timed runs of each row, taking turns (default 100)"},
        {"--layers", CLI_FLAG, &o.layers, NULL, "times per step, and of the convolutions alone"},
        {"--e2e", CLI_FLAG, &o.e2e, NULL, "from the bytes of a picture to boxes"},
        {"--data", CLI_TEXT, &o.c.data, "IMAGES", "input: the first picture (default: made up)"},
        CLI_OPT_CALIB(o.c),
        CLI_OPT_HEAD(o.c),
        CLI_OPT_MODEL(o.c),
        CLI_OPT_JSON(o.c)};
    int rc = cli_parse("bench", "MODEL --precision P,… [--engine NAME,…] [options]", opt,
                       sizeof opt / sizeof *opt, argc, argv, word, 1, &n_words);
    if (rc >= 0) return rc;
    if (n_words != 1) return cli_usage("bench", "no MODEL given");
    if (o.runs > 1000000) return cli_usage("bench", "--runs above 1000000");
    if (o.layers && o.e2e) return cli_usage("bench", "--layers and --e2e exclude each other");
    if (!o.precision && !cli_is_pqe(word[0]) && pq_file_exists(word[0]))
        return cli_usage("bench", "--precision is needed");
    if (o.precision && (rc = cli_check_precisions("bench", o.precision, &o.c)) >= 0) return rc;
    if ((rc = cli_check_engines("bench", o.c.engine)) >= 0) return rc;
    if (cli_context_for(&ctx, &o.c) != PQ_OK) return CLI_FAILED;
    const pq_status st = bench(ctx, &w, word[0]);
    if (st != PQ_OK)
        rc = cli_fail(ctx, st);
    else if (o.c.json)
        rc = cli_print_json(ctx, as_json(&w));
    else {
        as_text(&w);
        rc = CLI_DONE;
    }
    clear(&w);
    pq_ctx_free(ctx);
    return rc;
}
