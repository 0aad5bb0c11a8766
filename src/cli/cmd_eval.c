/* pquant eval: COCO figures of a model at a precision. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cli/cli.h"

static pq_status evaluate(pq_ctx *ctx, pq_figures *f, const char *path, const char *precision,
                          const cli_common *c)
{
    const pq_engine *engine;
    cli_model m = {0};
    cli_data d = {0};
    pq_ranges *ranges = NULL;
    pq_plan *plan = NULL;
    pq_status st;
    PQ_TRY(pq_engine_find(ctx, &engine, c->engine));
    PQ_TRY(cli_model_load(ctx, &m, path, c));
    PQ_TRY(cli_data_load(ctx, &d, c));
    if (m.plan && !precision)
        st = cli_evaluate(ctx, f, &m, m.plan, engine, &d, c);
    else {
        PQ_TRY(
            cli_plan(ctx, &plan, precision ? precision : "fp32", &m, c, engine, &ranges, d.images));
        st = cli_evaluate(ctx, f, &m, plan, engine, &d, c);
    }
out:
    pq_plan_free(plan);
    pq_ranges_free(ranges);
    cli_data_clear(&d);
    cli_model_clear(&m);
    return st;
}

int cmd_eval(int argc, char **argv)
{
    cli_common c;
    const char *precision = NULL, *word[1];
    size_t n_words;
    cli_common_init(&c);
    const cli_opt opt[] = {{"--precision", CLI_TEXT, &precision, "P",
                            "fp32, bf16, int8 or a plan.json (default fp32)"},
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
    if (precision && strcmp(precision, "int8") == 0 && !c.calib_data && !c.ranges)
        return cli_usage("eval", "int8 needs --calib-data or --ranges");

    pq_ctx *ctx;
    pq_figures f;
    if (cli_context_for(&ctx, &c) != PQ_OK) return CLI_FAILED;
    pq_status st = evaluate(ctx, &f, word[0], precision, &c);
    if (st != PQ_OK)
        rc = cli_fail(ctx, st);
    else if (c.json) {
        cJSON *o = cJSON_CreateObject();
        if (!cli_add_figures(o, &f)) cJSON_Delete(o), o = NULL;
        rc = cli_print_json(ctx, o);
    } else {
        for (int i = 0; i < PQ_FIG_COUNT; i++)
            printf("%-6s %.4f\n", pq_figure_name((pq_figure)i), f.v[i]);
        rc = CLI_DONE;
    }
    pq_ctx_free(ctx);
    return rc;
}
