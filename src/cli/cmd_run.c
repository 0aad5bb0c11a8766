/* pquant run: the whole job. Calibrate, measure every operator, select, verify, compare latencies,
 * write. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "cli/audit.h"
#include "cli/work.h"

typedef struct request {
    const char *model, *out, *preset, *plan;
    double max_drop, max_latency; /* points; ms, 0: none */
    int64_t runs, opset;
} request;

/* The assignment of a plan file; its scales are those of this run's calibration. */
static pq_status from_plan(pq_ctx *ctx, bool *int8, const pq_graph *g, const char *path)
{
    pq_plan *p = NULL;
    pq_binding b = {0};
    pq_status st = pq_plan_load(ctx, &p, path);
    if (st == PQ_OK) st = pq_plan_bind(ctx, &b, p, g);
    for (size_t i = 0; st == PQ_OK && i < g->n_nodes; i++)
        if (g->node[i].quant_index >= 0)
            int8[g->node[i].quant_index] = b.precision[i] == PQ_PREC_INT8;
    pq_binding_clear(&b);
    pq_plan_free(p);
    return st;
}

static pq_status given(cli_work *w, pq_choice *choice, const request *r, double least)
{
    const pq_graph *g = w->model.graph;
    const size_t n = pq_graph_quantizable_count(g);
    bool *int8 = NULL;
    pq_status st = pq_alloc(w->ctx, &int8, n, 1);
    if (st == PQ_OK)
        st =
            r->preset ? pq_preset(w->ctx, int8, n, r->preset) : from_plan(w->ctx, int8, g, r->plan);
    if (st == PQ_OK) st = pq_choose_given(w->ctx, choice, w->meter, g, int8, least);
    pq_free(int8);
    return st;
}

static pq_status measure_ends(cli_work *w, pq_figures *base, pq_figures *int8)
{
    const size_t n = pq_graph_quantizable_count(w->model.graph);
    bool *all = NULL;
    pq_status st;
    PQ_TRY(pq_alloc(w->ctx, &all, n, 1));
    PQ_TRY(pq_meter_measure(w->ctx, base, w->meter, all));
    memset(all, 1, n);
    st = pq_meter_measure(w->ctx, int8, w->meter, all);
out:
    pq_free(all);
    return st;
}

static pq_status latency_of(pq_ctx *ctx, void *user, const bool *int8, double *ms)
{
    cli_work *w = user;
    pq_plan *plan = NULL;
    pq_status st = pq_meter_plan(ctx, &plan, w->meter, int8);
    const pq_plan *const one[] = {plan};
    if (st == PQ_OK) st = cli_latency(w, one, 1, 20, ms);
    pq_plan_free(plan);
    return st;
}

static pq_status choose(cli_work *w, const request *r, pq_choice *choice, pq_scores **scores,
                        const pq_figures *base)
{
    if (r->preset || r->plan) return given(w, choice, r, base->v[PQ_FIG_AP] - r->max_drop / 100);
    pq_status st = pq_sweep(w->ctx, scores, w->meter);
    if (st != PQ_OK) return st;
    if (r->max_latency > 0)
        return pq_select_by_latency(w->ctx, choice, w->meter, w->model.graph, *scores,
                                    r->max_latency, latency_of, w);
    return pq_select_by_drop(w->ctx, choice, w->meter, w->model.graph, *scores, r->max_drop / 100);
}

static pq_status float_plan(cli_work *w, pq_plan **out)
{
    return pq_plan_float(w->ctx, out, w->model.graph, w->base);
}

static pq_status int8_plan(cli_work *w, pq_plan **out)
{
    const size_t n = pq_graph_quantizable_count(w->model.graph);
    bool *all;
    pq_status st = pq_alloc(w->ctx, &all, n, 1);
    if (st != PQ_OK) return st;
    memset(all, 1, n);
    st = pq_meter_plan(w->ctx, out, w->meter, all);
    pq_free(all);
    return st;
}

/* What the figures say, in one line, and the exit status that goes with it. */
static int verdict(char *text, size_t size, const cli_row *row, const pq_choice *choice,
                   const request *r, bool slower)
{
    const double drop = 100 * (row[0].figures.v[PQ_FIG_AP] - row[2].figures.v[PQ_FIG_AP]);
    if (slower) {
        snprintf(text, size,
                 "INT8 is not worth it here: the partial plan takes %.3f ms, full precision %.3f "
                 "ms; the outputs are "
                 "in full precision",
                 row[2].ms, row[0].ms);
        return CLI_NOT_WORTH;
    }
    const bool late = r->max_latency > 0 && row[2].ms > r->max_latency;
    snprintf(text, size, "INT8 in %zu of %zu operators: %.2fx faster, %+.2f points of AP%s%s",
             choice->n - choice->n_kept, choice->n, row[0].ms / row[2].ms, -drop,
             choice->within ? "" : "; the budget does not hold",
             late ? "; the latency budget does not hold" : "");
    return choice->within && !late ? CLI_DONE : CLI_NOT_WORTH;
}

static pq_status write_all(cli_work *w, const request *r, const pq_plan *answer,
                           const cli_outcome *o)
{
    char *name = NULL, *path = NULL;
    cJSON *doc = NULL;
    pq_status st;
    PQ_TRY(pq_path_stem(w->ctx, &name, r->model));
    PQ_TRY(pq_path_join(w->ctx, &path, w->out, "plan.json"));
    PQ_TRY(pq_plan_save(w->ctx, answer, path));
    PQ_TRY(cli_write_outputs(w, answer, name, r->opset));
    doc = cli_run_json(w, o);
    PQ_TRY(pq_json_check(w->ctx, doc));
    pq_free(path);
    path = NULL;
    PQ_TRY(pq_path_join(w->ctx, &path, w->out, "run.json"));
    st = pq_json_save(w->ctx, doc, path);
out:
    cJSON_Delete(doc);
    pq_free(name);
    pq_free(path);
    return st;
}

static pq_status run(pq_ctx *ctx, const request *r, const cli_common *c, int *status)
{
    cli_work w = {0};
    pq_choice choice = {0};
    pq_scores *scores = NULL;
    pq_audit *audit = NULL;
    pq_plan *plan[3] = {0};
    cli_row row[3] = {{.name = "full precision"}, {.name = "all-INT8"}, {.name = "partial"}};
    char text[256];
    double ms[3];
    pq_status st;
    PQ_TRY(cli_work_open(ctx, &w, r->model, c, r->out));
    PQ_TRY(measure_ends(&w, &row[0].figures, &row[1].figures));
    PQ_TRY(choose(&w, r, &choice, &scores, &row[0].figures));
    row[2].figures = choice.figures;
    PQ_TRY(float_plan(&w, &plan[0]));
    PQ_TRY(int8_plan(&w, &plan[1]));
    PQ_TRY(pq_meter_plan(ctx, &plan[2], w.meter, choice.int8));
    PQ_TRY(cli_latency(&w, (const pq_plan *const *)plan, 3, (int)r->runs, ms));
    for (int i = 0; i < 3; i++) row[i].ms = ms[i];
    row[0].n_kept = choice.n;
    row[1].int8_mac_share = 1;
    row[2].n_kept = choice.n_kept;
    row[2].int8_mac_share = choice.int8_mac_share;

    /* A plan slower than full precision is never the answer. */
    const bool slower = row[2].ms >= row[0].ms;
    *status = verdict(text, sizeof text, row, &choice, r, slower);
    if (slower) memset(choice.int8, 0, choice.n);
    const pq_plan *answer = slower ? plan[0] : plan[2];
    if (w.engine->layers)
        PQ_TRY(cli_audit(ctx, &audit, w.engine, w.model.graph, answer, (int)c->threads));
    const cli_outcome o = {.command = "run",
                           .verdict = text,
                           .max_drop = r->max_drop / 100,
                           .max_latency = r->max_latency,
                           .scores = scores,
                           .int8 = choice.int8,
                           .row = row,
                           .n_rows = 3,
                           .status = *status,
                           .audit = audit};
    PQ_TRY(write_all(&w, r, answer, &o));
    if (c->json) {
        *status = cli_print_json(ctx, cli_run_json(&w, &o)) == CLI_DONE ? *status : CLI_FAILED;
    } else {
        cli_print_rows(row, 3);
        if (audit) cli_print_audit(audit);
        printf("%s\nwritten to %s\n", text, w.out);
    }
out:
    for (int i = 0; i < 3; i++) pq_plan_free(plan[i]);
    pq_choice_clear(&choice);
    pq_scores_free(scores);
    pq_audit_free(audit);
    cli_work_close(&w);
    return st;
}

int cmd_run(int argc, char **argv)
{
    cli_common c;
    request r = {.max_drop = 0.3, .runs = 50};
    const char *word[1];
    size_t n_words;
    cli_common_init(&c);
    const cli_opt opt[] = {
        {"--output,-o", CLI_TEXT, &r.out, "OUT", "folder for everything that is written"},
        {"--max-drop", CLI_REAL, &r.max_drop, "POINTS",
         "largest loss of AP in points (default 0.3)"},
        {"--max-latency", CLI_REAL, &r.max_latency, "MS", "most AP within this latency instead"},
        {"--preset", CLI_TEXT, &r.preset, "NAME",
         "the original's choice: tiny, small or medium; nothing is swept"},
        {"--plan", CLI_TEXT, &r.plan, "FILE", "the precisions of a plan.json; nothing is swept"},
        {"--runs", CLI_INT, &r.runs, "N", "timed runs for each row (default 50)"},
        {"--opset", CLI_INT, &r.opset, "N", "opset of the ONNX file (default 13)"},
        CLI_OPT_DATA(c),
        CLI_OPT_CALIB(c),
        CLI_OPT_ENGINE(c),
        CLI_OPT_HEAD(c),
        CLI_OPT_MODEL(c),
        CLI_OPT_JSON(c)};
    int rc =
        cli_parse("run", "MODEL --data IMAGES --ann COCO.json --calib-data IMAGES -o OUT [options]",
                  opt, sizeof opt / sizeof *opt, argc, argv, word, 1, &n_words);
    if (rc >= 0) return rc;
    if (n_words != 1) return cli_usage("run", "no MODEL given");
    if (!r.out) return cli_usage("run", "no output folder given: -o OUT");
    if (r.preset && r.plan) return cli_usage("run", "--preset and --plan exclude each other");
    r.model = word[0];
    if ((rc = cli_need_data("run", &c)) >= 0) return rc;
    pq_ctx *ctx;
    if (cli_context_for(&ctx, &c) != PQ_OK) return CLI_FAILED;
    pq_status st = run(ctx, &r, &c, &rc);
    if (st != PQ_OK) rc = cli_fail(ctx, st);
    pq_ctx_free(ctx);
    return rc;
}
