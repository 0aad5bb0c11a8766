/* pquant run: the whole job. Calibrate, choose, verify, compare latencies, write. */
#include <stdio.h>
#include <string.h>

#include <pquant/advice.h>

#include "base/file.h"
#include "base/mem.h"
#include "cli/audit.h"
#include "cli/report.h"
#include "cli/work.h"

typedef struct request {
    const char *model, *out, *time_budget, *half;
    cli_budget budget; /* max_drop in points until it is checked */
    int64_t runs, opset, screen_images;
} request;

/* A plan must be so much faster than full precision to be worth its loss. */
static const double least_gain = 1.02;

/* By how much the plan is faster. One that is full precision itself is not, whatever noise says. */
static double gain_of(const cli_row *row, size_t n, const pq_choice *c)
{
    for (size_t k = 0; k < c->n; k++)
        if (c->label[k] != PQ_LABEL_FULL) return row[0].ms / row[n - 1].ms;
    return 1;
}

/* What the figures say, in one line, and the exit status that goes with it. */
static int verdict(char *text, size_t size, const cli_row *row, size_t n, const cli_decision *d,
                   const cli_budget *b)
{
    const cli_row *p = &row[n - 1];
    const double gain = gain_of(row, n, &d->choice);
    char interval[48] = "";
    if (gain < least_gain && d->choice.cut) {
        snprintf(
            text, size,
            "the time budget ended before a faster plan was found that holds the other budget: "
            "full precision takes %.3f ms, all-INT8 %.3f ms; the outputs are in full precision",
            row[0].ms, row[n - 2].ms);
        return CLI_NOT_WORTH;
    }
    if (gain < least_gain) {
        snprintf(
            text, size,
            "INT8 is not worth it here: the fastest plan within the budget takes %.3f ms, full "
            "precision %.3f ms; the outputs are in full precision",
            p->ms, row[0].ms);
        return CLI_NOT_WORTH;
    }
    const pq_measured *m = &p->measured;
    if (m->low < m->high)
        snprintf(interval, sizeof interval, " [%+.2f, %+.2f]%s", -100 * m->high, -100 * m->low,
                 m->low <= 0 && m->high >= 0 ? ", within the noise" : "");
    const bool late = b->max_latency > 0 && p->ms > b->max_latency;
    snprintf(text, size, "INT8 in %zu of %zu operators: %.2fx faster, %+.2f points of AP%s%s%s%s",
             d->choice.n - p->n_kept, d->choice.n, gain, -100 * m->drop, interval,
             d->choice.within || b->max_latency > 0 ? "" : "; the budget does not hold",
             late ? "; the latency budget does not hold" : "",
             d->choice.cut ? "; the time budget ended the search" : "");
    return (d->choice.within || b->max_latency > 0) && !late ? CLI_DONE : CLI_NOT_WORTH;
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

enum { MOST_ROWS = 4 };

/* Full precision, half, all-INT8 and the plan, timed in turn. */
static pq_status make_rows(cli_work *w, const cli_decision *d, int runs, cli_row *row, size_t *n,
                           pq_plan **plan)
{
    const size_t n_ops = d->choice.n;
    bool *int8 = NULL;
    uint8_t *label = NULL;
    double ms[MOST_ROWS];
    pq_status st;
    *n = 0;
    PQ_TRY(pq_alloc(w->ctx, &label, n_ops, 1));
    PQ_TRY(pq_alloc(w->ctx, &int8, d->scores->units.n, 1));
    row[*n] = (cli_row){.name = "fp32", .measured = d->scores->base, .n_kept = n_ops};
    PQ_TRY(pq_meter_plan(w->ctx, &plan[(*n)++], w->meter, label));
    if (d->half.n_images) {
        memset(label, PQ_LABEL_HALF, n_ops);
        row[*n] =
            (cli_row){.name = pq_precision_name(w->half), .measured = d->half, .n_kept = n_ops};
        PQ_TRY(pq_meter_plan(w->ctx, &plan[(*n)++], w->meter, label));
    }
    memset(int8, 1, d->scores->units.n);
    pq_units_label(&d->scores->units, int8, label);
    row[*n] = (cli_row){.name = "int8", .measured = d->scores->int8, .int8_mac_share = 1};
    for (size_t i = 0; i < n_ops; i++) row[*n].n_kept += label[i] != PQ_LABEL_INT8;
    PQ_TRY(pq_meter_plan(w->ctx, &plan[(*n)++], w->meter, label));
    row[*n] = (cli_row){.name = "partial",
                        .measured = d->choice.measured,
                        .int8_mac_share = d->choice.int8_mac_share,
                        .n_kept = d->choice.n_kept};
    PQ_TRY(pq_meter_plan(w->ctx, &plan[(*n)++], w->meter, d->choice.label));
    PQ_TRY(cli_latency(w, (const pq_plan *const *)plan, *n, runs, ms));
    for (size_t i = 0; i < *n; i++) row[i].ms = ms[i];
out:
    pq_free(int8);
    pq_free(label);
    return st;
}

/* The kept operators, each with the reason. */
static pq_status print_kept(const cli_work *w, const cli_decision *d)
{
    const pq_choice *c = &d->choice;
    enum { MOST = 12 };
    size_t shown = 0;
    for (size_t k = 0; k < c->n && c->n_kept < c->n; k++) {
        pq_advice a;
        if (c->label[k] == PQ_LABEL_INT8) continue;
        if (shown == MOST) {
            printf("  and %zu more: run.json\n", c->n_kept - MOST);
            break;
        }
        pq_status st = pq_advise(w->ctx, &a, w->model.graph, w->calibration.ranges,
                                 w->calibration.corrections, w->scheme, (int)k);
        if (st != PQ_OK) return st;
        const pq_graph *g = w->model.graph;
        printf("%s  %s: %s%s\n", shown++ ? "" : "kept in full precision:\n",
               g->node[pq_graph_quantizable(g, (int)k)].name, a.text,
               cli_ms_saved(d, d->scores->units.of[k]) <= 0 ? "; INT8 saves no time here" : "");
    }
    return PQ_OK;
}

static pq_status run(pq_ctx *ctx, const request *r, const cli_common *c, const cli_work_opts *opts,
                     int *status)
{
    cli_work w = {0};
    cli_decision d = {0};
    pq_audit *audit = NULL;
    pq_plan *plan[MOST_ROWS] = {0};
    cli_row row[MOST_ROWS];
    size_t n;
    char text[256];
    pq_status st;
    PQ_TRY(cli_work_open(ctx, &w, r->model, c, r->out, opts));
    PQ_TRY(cli_decide(&w, &d, &r->budget));
    PQ_TRY(make_rows(&w, &d, (int)r->runs, row, &n, plan));

    *status = verdict(text, sizeof text, row, n, &d, &r->budget);
    const bool slower = gain_of(row, n, &d.choice) < least_gain;
    if (slower) memset(d.choice.label, PQ_LABEL_FULL, d.choice.n);
    const pq_plan *answer = slower ? plan[0] : plan[n - 1];
    if (w.engine->layers)
        PQ_TRY(cli_audit(ctx, &audit, w.engine, w.model.graph, answer, (int)c->threads));
    const cli_outcome o = {.command = "run",
                           .verdict = text,
                           .budget = &r->budget,
                           .decision = &d,
                           .row = row,
                           .n_rows = n,
                           .status = *status,
                           .audit = audit};
    PQ_TRY(write_all(&w, r, answer, &o));
    if (c->json) {
        *status = cli_print_json(ctx, cli_run_json(&w, &o)) == CLI_DONE ? *status : CLI_FAILED;
    } else {
        cli_print_rows(row, n);
        PQ_TRY(print_kept(&w, &d));
        if (audit) cli_print_audit(audit);
        printf("%s\nwritten to %s\n", text, w.out);
    }
out:
    for (int i = 0; i < MOST_ROWS; i++) pq_plan_free(plan[i]);
    cli_decision_clear(&d);
    pq_audit_free(audit);
    cli_work_close(&w);
    return st;
}

int cmd_run(int argc, char **argv)
{
    cli_common c;
    request r = {.budget.max_drop = 0.3, .runs = 50, .half = "fp32"};
    cli_work_opts opts = {.began = cli_now()};
    const char *word[1];
    size_t n_words;
    cli_common_init(&c);
    const cli_opt opt[] = {
        {"--output,-o", CLI_TEXT, &r.out, "OUT", "folder for everything that is written"},
        {"--max-drop", CLI_REAL, &r.budget.max_drop, "POINTS",
         "largest loss of AP in points (default 0.3)"},
        {"--max-latency", CLI_REAL, &r.budget.max_latency, "MS",
         "most AP within this latency instead"},
        {"--preset", CLI_TEXT, &r.budget.preset, "NAME",
         "the original's choice: tiny, small or medium; nothing is swept"},
        {"--plan", CLI_TEXT, &r.budget.plan, "FILE",
         "the precisions of a plan.json; nothing is swept"},
        {"--float", CLI_TEXT, &r.half, "P",
         "beside INT8: fp32 (default), or that and bf16 or fp16; auto: what the engine runs"},
        {"--every", CLI_FLAG, &r.budget.every, NULL,
         "measure AP of every operator, not of the doubtful alone"},
        {"--screen-images", CLI_INT, &r.screen_images, "N",
         "images on which every operator is screened (default 32; 8 to 32 with --time-budget)"},
        {"--pareto", CLI_FLAG, &r.budget.pareto, NULL,
         "measure ten plans from the fastest to the most accurate, too"},
        {"--time-budget", CLI_TEXT, &r.time_budget, "TIME",
         "end by then with the best plan so far: 90s, 10m, 2h"},
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
    if (r.budget.preset && r.budget.plan)
        return cli_usage("run", "--preset and --plan exclude each other");
    r.model = word[0];
    r.budget.max_drop /= 100;
    if (r.time_budget && !cli_parse_seconds(r.time_budget, &opts.budget))
        return cli_usage("run", "--time-budget '%s', expected 90s, 10m or 2h", r.time_budget);
    opts.half = r.half;
    if (r.screen_images < 0)
        return cli_usage("run", "--screen-images %lld, expected 1 or more",
                         (long long)r.screen_images);
    opts.screen_images = (size_t)r.screen_images;
    c.argc = argc;
    c.argv = argv;
    if ((rc = cli_need_data("run", &c)) >= 0) return rc;
    pq_ctx *ctx;
    if (cli_context_for(&ctx, &c) != PQ_OK) return CLI_FAILED;
    pq_status st = run(ctx, &r, &c, &opts, &rc);
    if (st != PQ_OK)
        rc = cli_fail(ctx, st);
    else
        cli_report_run(ctx, r.out, &c,
                       r.time_budget ? "the run had a time budget; pquant report makes them"
                                     : NULL);
    pq_ctx_free(ctx);
    return rc;
}
