/* pquant sweep and pquant select: the two middle stages on their own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "cli/work.h"

static bool add_scores(cJSON *to, const pq_scores *s)
{
    cJSON *list;
    if (!cJSON_AddNumberToObject(to, "AP_base", s->ap_base) ||
        !cJSON_AddNumberToObject(to, "AP_int8", s->ap_int8) ||
        !(list = cJSON_AddArrayToObject(to, "operators")))
        return false;
    for (size_t i = 0; i < s->n; i++) {
        const pq_score *x = &s->op[i];
        cJSON *o = cJSON_CreateObject();
        if (!cJSON_AddItemToArray(list, o) || !cJSON_AddNumberToObject(o, "index", x->index) ||
            !cJSON_AddStringToObject(o, "name", x->name) ||
            !cJSON_AddStringToObject(o, "type", x->type) ||
            !cJSON_AddNumberToObject(o, "AP_quantized", x->ap_quantized) ||
            !cJSON_AddNumberToObject(o, "AP_reverted", x->ap_reverted) ||
            !cJSON_AddNumberToObject(o, "damage", x->damage) ||
            !cJSON_AddNumberToObject(o, "mac_share", x->mac_share))
            return false;
    }
    return true;
}

static int most_damage_first(const void *a, const void *b)
{
    const pq_score *x = *(const pq_score *const *)a, *y = *(const pq_score *const *)b;
    if (x->damage != y->damage) return x->damage < y->damage ? 1 : -1;
    return x->index - y->index;
}

static pq_status print_scores(pq_ctx *ctx, const pq_scores *s)
{
    const pq_score **order;
    pq_status st = pq_alloc(ctx, &order, s->n, sizeof *order);
    if (st != PQ_OK) return st;
    for (size_t i = 0; i < s->n; i++) order[i] = &s->op[i];
    qsort(order, s->n, sizeof *order, most_damage_first);
    printf("AP %.4f in full precision, %.4f all-INT8\n", s->ap_base, s->ap_int8);
    printf("%8s %10s %10s %7s  %4s %s\n", "damage", "alone", "reverted", "MACs", "op", "name");
    for (size_t i = 0; i < s->n; i++)
        printf("%+8.4f %10.4f %10.4f %6.2f%%  %4d %s\n", order[i]->damage, order[i]->ap_quantized,
               order[i]->ap_reverted, 100 * order[i]->mac_share, order[i]->index, order[i]->name);
    pq_free(order);
    return PQ_OK;
}

static pq_status sweep(pq_ctx *ctx, const char *model, const cli_common *c, const char *out,
                       cJSON *json)
{
    cli_work w = {0};
    pq_scores *s = NULL;
    pq_status st;
    PQ_TRY(cli_work_open(ctx, &w, model, c, out));
    PQ_TRY(pq_sweep(ctx, &s, w.meter));
    if (json)
        st = add_scores(json, s) ? PQ_OK : pq_json_check(ctx, NULL);
    else
        st = print_scores(ctx, s);
out:
    pq_scores_free(s);
    cli_work_close(&w);
    return st;
}

int cmd_sweep(int argc, char **argv)
{
    cli_common c;
    const char *out = ".", *word[1];
    size_t n_words;
    cli_common_init(&c);
    const cli_opt opt[] = {
        {"--output,-o", CLI_TEXT, &out, "OUT", "folder of sensitivity.jsonl (default .)"},
        CLI_OPT_DATA(c),
        CLI_OPT_CALIB(c),
        CLI_OPT_ENGINE(c),
        CLI_OPT_HEAD(c),
        CLI_OPT_MODEL(c),
        CLI_OPT_JSON(c)};
    int rc = cli_parse("sweep", "MODEL --data IMAGES --ann COCO.json --calib-data IMAGES [-o OUT]",
                       opt, sizeof opt / sizeof *opt, argc, argv, word, 1, &n_words);
    if (rc >= 0) return rc;
    if (n_words != 1) return cli_usage("sweep", "no MODEL given");
    if ((rc = cli_need_data("sweep", &c)) >= 0) return rc;
    pq_ctx *ctx;
    if (cli_context_for(&ctx, &c) != PQ_OK) return CLI_FAILED;
    cJSON *json = c.json ? cJSON_CreateObject() : NULL;
    pq_status st = sweep(ctx, word[0], &c, out, json);
    if (st != PQ_OK) {
        cJSON_Delete(json);
        rc = cli_fail(ctx, st);
    } else
        rc = c.json ? cli_print_json(ctx, json) : CLI_DONE;
    pq_ctx_free(ctx);
    return rc;
}

static pq_status select_plan(pq_ctx *ctx, const char *model, const cli_common *c, const char *out,
                             double max_drop, cJSON *json, bool *within)
{
    cli_work w = {0};
    pq_scores *s = NULL;
    pq_choice choice = {0};
    pq_plan *plan = NULL;
    char *path = NULL;
    pq_status st;
    PQ_TRY(cli_work_open(ctx, &w, model, c, out));
    PQ_TRY(pq_sweep(ctx, &s, w.meter));
    PQ_TRY(pq_select_by_drop(ctx, &choice, w.meter, w.model.graph, s, max_drop));
    PQ_TRY(pq_meter_plan(ctx, &plan, w.meter, choice.int8));
    PQ_TRY(pq_path_join(ctx, &path, out, "plan.json"));
    PQ_TRY(pq_plan_save(ctx, plan, path));
    *within = choice.within;
    const double ap = choice.figures.v[PQ_FIG_AP];
    if (!json)
        printf("%s: AP %.4f (full precision %.4f, all-INT8 %.4f), %zu of %zu operators kept, "
               "%.1f%% of the "
               "arithmetic in INT8\n",
               path, ap, s->ap_base, s->ap_int8, choice.n_kept, choice.n,
               100 * choice.int8_mac_share);
    else if (!cJSON_AddStringToObject(json, "plan", path) ||
             !cJSON_AddNumberToObject(json, "AP", ap) ||
             !cJSON_AddNumberToObject(json, "AP_base", s->ap_base) ||
             !cJSON_AddNumberToObject(json, "kept", (double)choice.n_kept) ||
             !cJSON_AddNumberToObject(json, "int8_mac_share", choice.int8_mac_share))
        st = pq_json_check(ctx, NULL);
out:
    pq_free(path);
    pq_plan_free(plan);
    pq_choice_clear(&choice);
    pq_scores_free(s);
    cli_work_close(&w);
    return st;
}

int cmd_select(int argc, char **argv)
{
    cli_common c;
    const char *out = ".", *word[1];
    double max_drop = 0.3;
    size_t n_words;
    cli_common_init(&c);
    const cli_opt opt[] = {
        {"--output,-o", CLI_TEXT, &out, "OUT",
         "folder of sensitivity.jsonl and plan.json (default .)"},
        {"--max-drop", CLI_REAL, &max_drop, "POINTS", "largest loss of AP in points (default 0.3)"},
        CLI_OPT_DATA(c),
        CLI_OPT_CALIB(c),
        CLI_OPT_ENGINE(c),
        CLI_OPT_HEAD(c),
        CLI_OPT_MODEL(c),
        CLI_OPT_JSON(c)};
    int rc = cli_parse("select", "MODEL --data IMAGES --ann COCO.json --calib-data IMAGES [-o OUT]",
                       opt, sizeof opt / sizeof *opt, argc, argv, word, 1, &n_words);
    if (rc >= 0) return rc;
    if (n_words != 1) return cli_usage("select", "no MODEL given");
    if ((rc = cli_need_data("select", &c)) >= 0) return rc;
    pq_ctx *ctx;
    bool within = false;
    if (cli_context_for(&ctx, &c) != PQ_OK) return CLI_FAILED;
    cJSON *json = c.json ? cJSON_CreateObject() : NULL;
    pq_status st = select_plan(ctx, word[0], &c, out, max_drop / 100, json, &within);
    if (st != PQ_OK) {
        cJSON_Delete(json);
        rc = cli_fail(ctx, st);
    } else {
        rc = c.json ? cli_print_json(ctx, json) : CLI_DONE;
        if (rc == CLI_DONE && !within) rc = CLI_NOT_WORTH;
    }
    pq_ctx_free(ctx);
    return rc;
}
