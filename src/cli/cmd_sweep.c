/* pquant sweep and pquant select: the two middle stages on their own. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "cli/crew.h"
#include "cli/jobs.h"
#include "cli/work.h"

static bool add_score(cJSON *list, const pq_score *x)
{
    cJSON *o = cJSON_CreateObject();
    bool ok = cJSON_AddItemToArray(list, o) && cli_add_number(o, "index", x->index) &&
              cJSON_AddStringToObject(o, "name", x->name) &&
              cJSON_AddStringToObject(o, "type", x->type) &&
              cli_add_number(o, "mac_share", x->mac_share);
    if (ok && x->screened)
        ok = cli_add_number(o, "error_alone", x->error_alone) &&
             cli_add_number(o, "error_reverted", x->error_reverted) &&
             cli_add_number(o, "error", x->error);
    if (ok && x->measured)
        ok = cli_add_number(o, "AP_quantized", x->ap_quantized) &&
             cli_add_number(o, "AP_reverted", x->ap_reverted) &&
             cli_add_number(o, "damage", x->damage) && cli_add_number(o, "damage_low", x->low) &&
             cli_add_number(o, "damage_high", x->high) &&
             cJSON_AddBoolToObject(o, "noise", x->low <= 0 && x->high >= 0);
    return ok;
}

static bool add_scores(cJSON *to, const pq_scores *s)
{
    cJSON *list;
    bool ok = cli_add_number(to, "AP_base", s->base.figures.v[PQ_FIG_AP]) &&
              cli_add_number(to, "AP_int8", s->int8.figures.v[PQ_FIG_AP]) &&
              cli_add_number(to, "drop_low", s->int8.low) &&
              cli_add_number(to, "drop_high", s->int8.high) &&
              (list = cJSON_AddArrayToObject(to, "operators")) != NULL;
    for (size_t u = 0; ok && u < s->units.n; u++) ok = add_score(list, &s->unit[u]);
    return ok;
}

static double rank(const pq_score *x) { return x->measured ? x->damage : x->error; }

static int most_damage_first(const void *a, const void *b)
{
    const pq_score *x = *(const pq_score *const *)a, *y = *(const pq_score *const *)b;
    if (rank(x) != rank(y)) return rank(x) < rank(y) ? 1 : -1;
    return x->index - y->index;
}

static void print_score(const pq_score *x)
{
    if (x->measured)
        printf("%+8.4f %+8.4f .. %+7.4f %-5s %10.4f %10.4f", x->damage, x->low, x->high,
               x->low <= 0 && x->high >= 0 ? "noise" : "", x->ap_quantized, x->ap_reverted);
    else if (x->screened)
        printf("%8.4f %10.4f %10.4f", x->error, x->error_alone, x->error_reverted);
    else
        printf("%8s", "?");
    printf(" %6.2f%%  %4d %s\n", 100 * x->mac_share, x->index, x->name);
}

static pq_status print_scores(pq_ctx *ctx, const pq_scores *s, bool screen)
{
    const size_t n = s->units.n;
    const pq_score **order;
    pq_status st = pq_alloc(ctx, &order, n, sizeof *order);
    if (st != PQ_OK) return st;
    for (size_t u = 0; u < n; u++) order[u] = &s->unit[u];
    qsort(order, n, sizeof *order, most_damage_first);
    printf("AP %.4f in full precision, %.4f all-INT8, drop %+.4f, 95 %% interval %+.4f .. %+.4f\n",
           s->base.figures.v[PQ_FIG_AP], s->int8.figures.v[PQ_FIG_AP], s->int8.drop, s->int8.low,
           s->int8.high);
    if (screen)
        printf("%8s %10s %10s %7s  %4s %s\n", "error", "alone", "reverted", "MACs", "op", "name");
    else
        printf("%8s %19s %5s %10s %10s %7s  %4s %s\n", "damage", "95 % interval", "", "AP alone",
               "reverted", "MACs", "op", "name");
    for (size_t u = 0; u < n; u++) print_score(order[u]);
    pq_free(order);
    return PQ_OK;
}

typedef struct request {
    const char *model, *out;
    bool screen;
    const char *time_budget, *shard;
    size_t of_shard, n_shards; /* 0: all */
    int64_t jobs;
} request;

/* "2/4" */
static bool parse_shard(request *r)
{
    char *end;
    const unsigned long long i = strtoull(r->shard, &end, 10);
    if (end == r->shard || *end != '/') return false;
    const char *of = end + 1;
    const unsigned long long n = strtoull(of, &end, 10);
    r->of_shard = (size_t)i;
    r->n_shards = (size_t)n;
    return end != of && !*end && !strpbrk(r->shard, "+- ") && i >= 1 && i <= n && n <= 1 << 20;
}

static pq_status sweep(pq_ctx *ctx, const request *r, const cli_common *c,
                       const cli_work_opts *opts, cJSON *json)
{
    cli_work w = {0};
    pq_scores *s = NULL;
    pq_status st;
    const pq_sweep_opts o = {.kind = r->screen ? PQ_SWEEP_SCREEN : PQ_SWEEP_AP,
                             .shard = r->of_shard,
                             .n_shards = r->n_shards,
                             .crew = opts->crew ? &opts->crew->crew : NULL};
    PQ_TRY(cli_work_open(ctx, &w, r->model, c, r->out, opts));
    PQ_TRY(pq_sweep_with(ctx, &s, w.meter, &o));
    if (json)
        st = add_scores(json, s) ? PQ_OK : pq_json_check(ctx, NULL);
    else
        st = print_scores(ctx, s, r->screen);
out:
    pq_scores_free(s);
    cli_work_close(&w);
    return st;
}

/* Alone, or as rank 0, which alone prints and keeps the journal, or as another one. Shards know
 * nothing of each other, whoever started them. */
static int sweep_in_crew(pq_ctx *ctx, const request *r, const cli_common *c, cli_work_opts *opts)
{
    cli_crew crew = {.crew = {.size = 1}};
    pq_status st = r->n_shards ? PQ_OK : cli_crew_open(ctx, &crew);
    if (st != PQ_OK) return cli_crew_rank() == 0 ? cli_fail(ctx, st) : CLI_FAILED;
    int rc = CLI_DONE;
    if (!c->threads) opts->meter_threads = crew.threads;
    if (crew.crew.size > 1) opts->crew = &crew;
    if (crew.crew.rank > 0) {
        cli_crew_member(ctx, &crew, r->model, c, r->out);
    } else {
        cJSON *json = c->json ? cJSON_CreateObject() : NULL;
        st = sweep(ctx, r, c, opts, json);
        if (st != PQ_OK) {
            cJSON_Delete(json);
            rc = cli_fail(ctx, st);
        } else
            rc = c->json ? cli_print_json(ctx, json) : CLI_DONE;
    }
    cli_crew_close(ctx, &crew, rc);
    return rc;
}

int cmd_sweep(int argc, char **argv)
{
    cli_common c;
    request r = {.out = ".", .jobs = 1};
    cli_work_opts opts = {.began = cli_now()};
    const char *word[1];
    size_t n_words;
    cli_common_init(&c);
    const cli_opt opt[] = {
        {"--output,-o", CLI_TEXT, &r.out, "OUT", "folder of sensitivity.jsonl (default .)"},
        {"--screen", CLI_FLAG, &r.screen, NULL,
         "how far detections move on 32 images, in place of AP: a tenth of the time"},
        {"--time-budget", CLI_TEXT, &r.time_budget, "TIME",
         "end by then, operators left over are not measured: 90s, 10m, 2h"},
        {"--shard", CLI_TEXT, &r.shard, "I/N",
         "one N-th of the operators, the I-th from 1 on; pquant merge puts the parts together"},
        {"--jobs", CLI_INT, &r.jobs, "N",
         "measure in N processes, which share the processors and the GPU (default 1)"},
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
    if (r.time_budget && !cli_parse_seconds(r.time_budget, &opts.budget))
        return cli_usage("sweep", "--time-budget '%s', expected 90s, 10m or 2h", r.time_budget);
    if (r.shard && !parse_shard(&r))
        return cli_usage("sweep", "--shard '%s', expected I/N with I from 1 to N", r.shard);
    if (r.jobs < 1 || r.jobs > CLI_MOST_JOBS)
        return cli_usage("sweep", "--jobs %" PRId64 ", expected 1 to %d", r.jobs, CLI_MOST_JOBS);
    if (r.jobs > 1 && (r.shard || cli_crew_started()))
        return cli_usage("sweep", "--jobs goes with neither --shard nor mpirun");
    if ((rc = cli_need_data("sweep", &c)) >= 0) return rc;
    r.model = word[0];
    pq_ctx *ctx;
    const int no_jobs = cli_jobs_start((int)r.jobs);
    c.quiet = c.quiet || (!r.shard && cli_crew_rank() > 0);
    if (cli_context_for(&ctx, &c) != PQ_OK) return CLI_FAILED;
    rc = no_jobs ? cli_fail(ctx, pq_fail(ctx, PQ_E_IO, "--jobs %" PRId64 ": %s", r.jobs,
                                         strerror(no_jobs)))
                 : sweep_in_crew(ctx, &r, &c, &opts);
    pq_ctx_free(ctx);
    return rc;
}

static bool add_choice(cJSON *json, const char *path, const pq_choice *c, const pq_scores *s)
{
    return cJSON_AddStringToObject(json, "plan", path) &&
           cli_add_number(json, "AP", c->measured.figures.v[PQ_FIG_AP]) &&
           cli_add_number(json, "AP_base", s->base.figures.v[PQ_FIG_AP]) &&
           cli_add_number(json, "drop", c->measured.drop) &&
           cli_add_number(json, "drop_low", c->measured.low) &&
           cli_add_number(json, "drop_high", c->measured.high) &&
           cli_add_number(json, "kept", (double)c->n_kept) &&
           cli_add_number(json, "int8_mac_share", c->int8_mac_share);
}

static void print_choice(const char *path, const pq_choice *c, const pq_scores *s)
{
    printf("%s: AP %.4f (full precision %.4f, all-INT8 %.4f), drop %+.4f, 95 %% interval %+.4f .. "
           "%+.4f; %zu of %zu operators kept, %.1f%% of the arithmetic in INT8\n",
           path, c->measured.figures.v[PQ_FIG_AP], s->base.figures.v[PQ_FIG_AP],
           s->int8.figures.v[PQ_FIG_AP], c->measured.drop, c->measured.low, c->measured.high,
           c->n_kept, c->n, 100 * c->int8_mac_share);
}

static pq_status select_plan(pq_ctx *ctx, const char *model, const cli_common *c, const char *out,
                             const cli_budget *budget, cJSON *json, bool *within)
{
    cli_work w = {0};
    cli_decision d = {0};
    pq_plan *plan = NULL;
    char *path = NULL;
    pq_status st;
    PQ_TRY(cli_work_open(ctx, &w, model, c, out, NULL));
    PQ_TRY(cli_decide(&w, &d, budget));
    PQ_TRY(pq_meter_plan(ctx, &plan, w.meter, d.choice.label));
    PQ_TRY(pq_path_join(ctx, &path, out, "plan.json"));
    PQ_TRY(pq_plan_save(ctx, plan, path));
    *within = d.choice.within;
    if (!json)
        print_choice(path, &d.choice, d.scores);
    else if (!add_choice(json, path, &d.choice, d.scores))
        st = pq_json_check(ctx, NULL);
out:
    pq_free(path);
    pq_plan_free(plan);
    cli_decision_clear(&d);
    cli_work_close(&w);
    return st;
}

int cmd_select(int argc, char **argv)
{
    cli_common c;
    const char *out = ".", *word[1];
    cli_budget budget = {.max_drop = 0.3};
    size_t n_words;
    cli_common_init(&c);
    const cli_opt opt[] = {{"--output,-o", CLI_TEXT, &out, "OUT",
                            "folder of sensitivity.jsonl and plan.json (default .)"},
                           {"--max-drop", CLI_REAL, &budget.max_drop, "POINTS",
                            "largest loss of AP in points (default 0.3)"},
                           {"--every", CLI_FLAG, &budget.every, NULL,
                            "measure AP of every operator, not of the doubtful alone"},
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
    budget.max_drop /= 100;
    if (cli_context_for(&ctx, &c) != PQ_OK) return CLI_FAILED;
    cJSON *json = c.json ? cJSON_CreateObject() : NULL;
    pq_status st = select_plan(ctx, word[0], &c, out, &budget, json, &within);
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
