/* pquant report and pquant compare: a run as a page, two runs side by side. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "cli/report.h"
#include "report/fields.h"

/* ---- what the run read, where it is still there ---- */

typedef struct inputs {
    cJSON *run;
    cli_common c;
    const char *path; /* of the model */
    bool has_model;
    cli_model model;
    cli_data data;
    pq_plan *plan;
    pq_detections before, after;
    char *why_no_graph, *why_no_detections;
} inputs;

static void clear(inputs *in)
{
    cli_data_clear(&in->data);
    cli_model_clear(&in->model);
    pq_plan_free(in->plan);
    pq_detections_clear(&in->before);
    pq_detections_clear(&in->after);
    pq_free(in->why_no_graph);
    pq_free(in->why_no_detections);
    cJSON_Delete(in->run);
}

static double or_else(double v, double otherwise) { return isfinite(v) ? v : otherwise; }

/* Options that were given win; the rest is as it was in the run. */
static pq_status read_run(pq_ctx *ctx, inputs *in, const char *folder, const cli_common *given)
{
    char *path = NULL;
    pq_status st;
    in->c = *given;
    PQ_TRY(pq_path_join(ctx, &path, folder, "run.json"));
    if (!pq_file_exists(path)) goto out; /* pq_report_new says it */
    PQ_TRY(pq_json_load(ctx, &in->run, path));
    const cJSON *opt = pq_field(in->run, "options"), *post = pq_field(in->run, "postprocessing");
    const cJSON *engine = pq_field(in->run, "engine");
    cli_common *c = &in->c;
    in->path = pq_field_text(in->run, "model");
    if (!c->data) c->data = pq_field_text(in->run, "data");
    if (!c->ann) c->ann = pq_field_text(in->run, "annotations");
    if (!c->sidecar) c->sidecar = pq_field_text(opt, "sidecar");
    if (!c->config) c->config = pq_field_text(opt, "config");
    if (!c->img_size) c->img_size = pq_field_text(opt, "img_size");
    if (!c->batch)
        c->batch = (int64_t)fmin(fmax(or_else(pq_field_number(opt, "batch"), 0), 0), 4096);
    if (!c->engine)
        c->engine = pq_field_text(engine, "name") ? pq_field_text(engine, "name") : "cpu";
    if (c->conf < 0) c->conf = or_else(pq_field_number(post, "conf_thres"), -1);
    if (c->iou < 0) c->iou = or_else(pq_field_number(post, "iou_thres"), -1);
    if (!c->max_det)
        c->max_det = (int64_t)fmin(fmax(or_else(pq_field_number(post, "max_det"), 0), 0), 1 << 20);
out:
    pq_free(path);
    return st;
}

static pq_status load_network(pq_ctx *ctx, inputs *in, const char *folder)
{
    char *path = NULL, hash[65];
    const char *expected = pq_field_text(in->run, "graph_hash");
    pq_status st;
    if (!in->path) return pq_fail(ctx, PQ_E_FORMAT, "the run names no model");
    PQ_TRY(cli_model_load(ctx, &in->model, in->path, &in->c));
    pq_graph_hash(in->model.graph, hash);
    if (expected && strcmp(hash, expected) != 0) {
        st = pq_fail(ctx, PQ_E_FORMAT, "%s is not what it was: graph %.12s, expected %.12s",
                     in->path, hash, expected);
        goto out;
    }
    PQ_TRY(pq_path_join(ctx, &path, folder, "plan.json"));
    PQ_TRY(pq_plan_load(ctx, &in->plan, path));
    in->has_model = true;
out:
    pq_free(path);
    return st;
}

static bool has_int8(const pq_plan *p)
{
    for (size_t i = 0; i < p->n_nodes; i++)
        if (p->node[i].precision == PQ_PREC_INT8) return true;
    return false;
}

static pq_status detect(pq_ctx *ctx, inputs *in, const pq_engine *engine, const pq_plan *plan,
                        pq_detections *list)
{
    const pq_compile_opts opts = {.threads = (int)in->c.threads,
                                  .min_score = (float)in->model.head.conf};
    pq_session *s = NULL;
    pq_status st = pq_compile(ctx, &s, engine, in->model.graph, plan, &opts);
    if (st == PQ_OK)
        st = pq_detect_dataset(ctx, list, s, in->data.images, &in->model.prep, &in->model.head,
                               "report");
    pq_session_free(s);
    return st;
}

static pq_status find_boxes(pq_ctx *ctx, inputs *in)
{
    const pq_engine *engine;
    pq_plan *base = NULL;
    pq_status st;
    if (!has_int8(in->plan))
        return pq_fail(ctx, PQ_E_INVALID, "the run's plan is in full precision: nothing changes");
    PQ_TRY(cli_need_head(ctx, &in->model));
    if (!in->c.data)
        return pq_fail(ctx, PQ_E_INVALID, "the run does not say where its images are: give --data");
    PQ_TRY(pq_engine_find(ctx, &engine, in->c.engine));
    PQ_TRY(cli_data_for(ctx, &in->data, &in->model, &in->c));
    PQ_TRY(pq_plan_float(ctx, &base, in->model.graph, PQ_PREC_FP32));
    PQ_TRY(detect(ctx, in, engine, base, &in->before));
    st = detect(ctx, in, engine, in->plan, &in->after);
out:
    pq_plan_free(base);
    return st;
}

/* A report is made of what there is: what is not becomes a line in it. Only a user who stops it, or
 * no memory, ends it. */
static pq_status or_why(pq_ctx *ctx, pq_status st, char **why)
{
    if (st == PQ_OK || st == PQ_E_CANCELLED || st == PQ_E_NOMEM) return st;
    return pq_strdup(ctx, why, pq_ctx_error(ctx));
}

static pq_status make(pq_ctx *ctx, pq_report **out, const char *folder, const cli_common *given,
                      const char *why_quick)
{
    inputs in = {0};
    pq_status st;
    PQ_TRY(read_run(ctx, &in, folder, given));
    if (in.run) {
        PQ_TRY(or_why(ctx, load_network(ctx, &in, folder), &in.why_no_graph));
        if (!in.has_model)
            PQ_TRY(pq_strdup(ctx, &in.why_no_detections, in.why_no_graph));
        else if (why_quick)
            PQ_TRY(pq_strdup(ctx, &in.why_no_detections, why_quick));
        else
            PQ_TRY(or_why(ctx, find_boxes(ctx, &in), &in.why_no_detections));
    }
    const bool boxes = in.has_model && !in.why_no_detections;
    const pq_report_opts o = {.graph = in.has_model ? in.model.graph : NULL,
                              .plan = in.plan,
                              .why_no_graph = in.why_no_graph,
                              .coco = boxes ? in.data.coco : NULL,
                              .images = boxes ? in.data.images : NULL,
                              .before = boxes ? &in.before : NULL,
                              .after = boxes ? &in.after : NULL,
                              .why_no_detections = in.why_no_detections};
    st = pq_report_new(ctx, out, folder, &o);
out:
    clear(&in);
    return st;
}

static pq_status save_beside(pq_ctx *ctx, const pq_report *r, const char *html)
{
    char *json = NULL;
    const size_t n = strlen(html);
    const int stem = (int)(n > 5 && strcmp(html + n - 5, ".html") == 0 ? n - 5 : n);
    pq_status st;
    PQ_TRY(pq_asprintf(ctx, &json, "%.*s.json", stem, html));
    PQ_TRY(pq_report_save_json(ctx, r, json));
    st = pq_report_save_html(ctx, r, html);
out:
    pq_free(json);
    return st;
}

void cli_report_run(pq_ctx *ctx, const char *folder, const cli_common *c, const char *why_quick)
{
    pq_report *r = NULL;
    char *html = NULL;
    cli_common from_run;
    cli_common_init(&from_run);
    from_run.engine = c->engine;
    from_run.threads = c->threads;
    pq_status st = pq_path_join(ctx, &html, folder, "report.html");
    if (st == PQ_OK) st = make(ctx, &r, folder, &from_run, why_quick);
    if (st == PQ_OK) st = save_beside(ctx, r, html);
    if (st != PQ_OK) pq_log(ctx, PQ_LOG_WARN, "report", "not written: %s", pq_ctx_error(ctx));
    pq_report_free(r);
    pq_free(html);
}

/* ---- the commands ---- */

static pq_status report(pq_ctx *ctx, const char *folder, const char *html, const cli_common *c,
                        bool quick)
{
    pq_report *r = NULL;
    char *own = NULL;
    pq_status st;
    if (!html) {
        PQ_TRY(pq_path_join(ctx, &own, folder, "report.html"));
        html = own;
    }
    PQ_TRY(make(ctx, &r, folder, c, quick ? "not asked for (--quick)" : NULL));
    PQ_TRY(save_beside(ctx, r, html));
    if (c->json) {
        cJSON *copy = cJSON_Duplicate(pq_report_json(r), true);
        st = cli_print_json(ctx, copy) == CLI_DONE ? PQ_OK : PQ_E_IO;
    } else {
        const cJSON *v, *verdict = pq_field(pq_report_json(r), "verdict");
        printf("%s\n", pq_field_text(verdict, "text"));
        cJSON_ArrayForEach(v, pq_field(pq_report_json(r), "missing"))
            printf("left out: %s: %s\n", pq_field_text(v, "what"), pq_field_text(v, "why"));
        printf("written to %s\n", html);
    }
out:
    pq_report_free(r);
    pq_free(own);
    return st;
}

int cmd_report(int argc, char **argv)
{
    cli_common c;
    const char *word[1], *html = NULL;
    bool quick = false;
    size_t n_words;
    pq_ctx *ctx;
    cli_common_init(&c);
    c.engine = NULL; /* the run's */
    const cli_opt opt[] = {
        {"--output,-o", CLI_TEXT, &html, "FILE",
         "the page, and the same as .json beside it (default RUN_DIR/report.html)"},
        {"--quick", CLI_FLAG, &quick, NULL, "run no model: leave out detections before and after"},
        {"--data", CLI_TEXT, &c.data, "IMAGES", "evaluation images (default: where they were)"},
        {"--ann", CLI_TEXT, &c.ann, "COCO.json", "their annotations (default: where they were)"},
        {"--engine", CLI_TEXT, &c.engine, "NAME", "engine to run on (default: the run's)"},
        CLI_OPT_ENGINE_PATH(c),
        {"--threads", CLI_INT, &c.threads, "N", "threads (default: all)"},
        {"--quiet,-q", CLI_FLAG, &c.quiet, NULL, "no warnings, no progress"},
        CLI_OPT_JSON(c)};
    int rc = cli_parse("report", "RUN_DIR [-o FILE] [options]", opt, sizeof opt / sizeof *opt, argc,
                       argv, word, 1, &n_words);
    if (rc >= 0) return rc;
    if (n_words != 1) return cli_usage("report", "no RUN_DIR given");
    if (c.engine && (rc = cli_check_engines("report", c.engine)) >= 0) return rc;
    if (cli_context_for(&ctx, &c) != PQ_OK) return CLI_FAILED;
    const pq_status st = report(ctx, word[0], html, &c, quick);
    rc = st == PQ_OK ? CLI_DONE : cli_fail(ctx, st);
    pq_ctx_free(ctx);
    return rc;
}

static pq_status compare(pq_ctx *ctx, const char *const *folder, const char *html, bool json)
{
    pq_report *side[2] = {0}, *both = NULL;
    pq_status st;
    for (int i = 0; i < 2; i++) PQ_TRY(pq_report_new(ctx, &side[i], folder[i], NULL));
    PQ_TRY(pq_report_compare(ctx, &both, side[0], side[1]));
    if (html) PQ_TRY(pq_report_save_html(ctx, both, html));
    if (json)
        st = cli_print_json(ctx, cJSON_Duplicate(pq_report_json(both), true)) == CLI_DONE ? PQ_OK
                                                                                          : PQ_E_IO;
    else
        fputs(pq_report_text(both), stdout);
out:
    pq_report_free(side[0]);
    pq_report_free(side[1]);
    pq_report_free(both);
    return st;
}

int cmd_compare(int argc, char **argv)
{
    cli_common c;
    const char *word[2], *html = NULL;
    size_t n_words;
    pq_ctx *ctx;
    cli_common_init(&c);
    const cli_opt opt[] = {
        {"--html,-o", CLI_TEXT, &html, "FILE", "write the comparison as a page too"},
        {"--quiet,-q", CLI_FLAG, &c.quiet, NULL, "no warnings, no progress"},
        CLI_OPT_JSON(c)};
    int rc = cli_parse("compare", "RUN_DIR RUN_DIR [-o FILE] [options]", opt,
                       sizeof opt / sizeof *opt, argc, argv, word, 2, &n_words);
    if (rc >= 0) return rc;
    if (n_words != 2) return cli_usage("compare", "two folders of runs are needed");
    if (cli_context_for(&ctx, &c) != PQ_OK) return CLI_FAILED;
    const pq_status st = compare(ctx, word, html, c.json);
    rc = st == PQ_OK ? CLI_DONE : cli_fail(ctx, st);
    pq_ctx_free(ctx);
    return rc;
}
