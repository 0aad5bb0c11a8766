/* pquant eval: COCO figures of a model at a precision, or the difference of two. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cli/cli.h"

typedef struct request {
    const char *model, *precision, *against;
} request;

typedef struct answer {
    pq_figures figures, other; /* other: of --against */
    pq_difference difference;
    size_t n_images;
} answer;

/* The precision by name; NULL: the plan inside a .pqe, else fp32. */
static pq_status match(pq_ctx *ctx, pq_eval_matches **out, const char *precision,
                       const cli_model *m, const cli_data *d, const pq_engine *engine,
                       cli_calibration *calibration, const cli_common *c)
{
    pq_plan *plan = NULL;
    pq_status st;
    if (m->plan && !precision) return cli_match(ctx, out, m, m->plan, engine, d, c);
    st = cli_plan(ctx, &plan, precision ? precision : "fp32", m, c, engine, calibration, d->images);
    if (st == PQ_OK) st = cli_match(ctx, out, m, plan, engine, d, c);
    pq_plan_free(plan);
    return st;
}

static pq_status evaluate(pq_ctx *ctx, answer *out, const request *r, const cli_common *c)
{
    const pq_engine *engine;
    cli_model m = {0};
    cli_data d = {0};
    cli_calibration calibration = {0};
    pq_eval_matches *own = NULL, *other = NULL;
    pq_status st;
    PQ_TRY(pq_engine_find(ctx, &engine, c->engine));
    PQ_TRY(cli_model_load(ctx, &m, r->model, c));
    PQ_TRY(cli_need_head(ctx, &m));
    PQ_TRY(cli_data_for(ctx, &d, &m, c));
    PQ_TRY(match(ctx, &own, r->precision, &m, &d, engine, &calibration, c));
    PQ_TRY(pq_eval_accumulate(ctx, &out->figures, NULL, own, NULL));
    out->n_images = pq_eval_image_count(own);
    if (!r->against) goto out;
    PQ_TRY(match(ctx, &other, r->against, &m, &d, engine, &calibration, c));
    PQ_TRY(pq_eval_accumulate(ctx, &out->other, NULL, other, NULL));
    st = pq_eval_difference(ctx, &out->difference, own, other, 0, 1);
out:
    pq_eval_free(own);
    pq_eval_free(other);
    cli_calibration_clear(&calibration);
    cli_data_clear(&d);
    cli_model_clear(&m);
    return st;
}

static int print_json(pq_ctx *ctx, const request *r, const answer *a)
{
    cJSON *o = cJSON_CreateObject();
    bool ok = cli_add_figures(o, &a->figures);
    if (ok && r->against) {
        const pq_difference *d = &a->difference;
        cJSON *x = cJSON_AddObjectToObject(o, "against");
        ok = cJSON_AddStringToObject(x, "precision", r->against) &&
             cli_add_number(x, "AP", a->other.v[PQ_FIG_AP]) &&
             cli_add_number(x, "difference", d->value) && cli_add_number(x, "low", d->low) &&
             cli_add_number(x, "high", d->high) &&
             cli_add_number(x, "resamples", (double)d->n_resamples);
    }
    if (!ok) cJSON_Delete(o), o = NULL;
    return cli_print_json(ctx, o);
}

static void print(const request *r, const answer *a)
{
    const pq_difference *d = &a->difference;
    for (int i = 0; i < PQ_FIG_COUNT; i++)
        printf("%-6s %.4f\n", pq_figure_name((pq_figure)i), a->figures.v[i]);
    if (!r->against) return;
    printf("AP of %s: %.4f\n", r->against, a->other.v[PQ_FIG_AP]);
    printf("difference %+.4f, 95 %% interval %+.4f .. %+.4f (%zu resamples of %zu images)\n",
           d->value, d->low, d->high, d->n_resamples, a->n_images);
}

int cmd_eval(int argc, char **argv)
{
    cli_common c;
    request r = {0};
    const char *word[1];
    size_t n_words;
    cli_common_init(&c);
    const cli_opt opt[] = {{"--precision", CLI_TEXT, &r.precision, "P",
                            "fp32, bf16, int8 or a plan.json (default fp32)"},
                           {"--against", CLI_TEXT, &r.against, "P",
                            "another precision: the difference of AP and its 95 % interval"},
                           CLI_OPT_DATA(c),
                           CLI_OPT_ENGINE(c),
                           CLI_OPT_CALIB(c),
                           CLI_OPT_HEAD(c),
                           CLI_OPT_MODEL(c),
                           CLI_OPT_JSON(c)};
    int rc = cli_parse("eval", "MODEL --data IMAGES --ann COCO.json [options]", opt,
                       sizeof opt / sizeof *opt, argc, argv, word, 1, &n_words);
    if (rc >= 0) return rc;
    if (n_words != 1) return cli_usage("eval", "no MODEL given");
    if (!c.data || !c.ann) return cli_usage("eval", "--data and --ann are needed");
    const bool int8 = (r.precision && strcmp(r.precision, "int8") == 0) ||
                      (r.against && strcmp(r.against, "int8") == 0);
    if (int8 && !c.calib_data && !c.ranges)
        return cli_usage("eval", "int8 needs --calib-data or --ranges");

    pq_ctx *ctx;
    answer a;
    r.model = word[0];
    if (cli_context_for(&ctx, &c) != PQ_OK) return CLI_FAILED;
    pq_status st = evaluate(ctx, &a, &r, &c);
    rc = CLI_DONE;
    if (st != PQ_OK)
        rc = cli_fail(ctx, st);
    else if (c.json)
        rc = print_json(ctx, &r, &a);
    else
        print(&r, &a);
    pq_ctx_free(ctx);
    return rc;
}
