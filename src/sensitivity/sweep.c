/* Every unit from both ends: alone in INT8, and alone out of it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "sensitivity/crew.h"
#include "sensitivity/task.h"

static const size_t every_unit = SIZE_MAX;

/* What one variant gave; a screening fills error alone. */
typedef struct result {
    bool known;
    double error;
    pq_measured measured;
} result;

typedef struct job {
    pq_meter *m;
    const pq_units *units;
    const bool *aside;
    bool screen;
    bool done_one, done_rest; /* ends that are not asked for */
    size_t shard, n_shards;   /* units u with u % n_shards == shard are measured */
    pq_runner runner;
    pq_task *task; /* [n] not in the journal yet */
    size_t n;
    result *one, *rest; /* per unit: alone in INT8, alone out of it */
    size_t done, total;
} job;

static int by_prefix(const void *a, const void *b)
{
    const pq_task *x = a, *y = b;
    if (x->int8 != y->int8) return x->int8 ? 1 : -1;
    if (x->prefix != y->prefix) return x->prefix < y->prefix ? -1 : 1;
    return x->unit < y->unit ? -1 : x->unit > y->unit;
}

static void put(job *j, const pq_task *t, const pq_entry *e)
{
    result *r = t->int8 ? &j->rest[t->unit] : &j->one[t->unit];
    *r = (result){true, e->error, e->measured};
    j->done++;
}

static bool known(job *j, const pq_task *t)
{
    pq_runner_set(&j->runner, t);
    const pq_journal *journal = &j->m->journal;
    const size_t n = pq_meter_images(j->m, j->m->n_screened);
    const pq_entry *x = t->screen ? pq_journal_find_screen(journal, j->runner.bits, n)
                                  : pq_journal_find(journal, j->runner.bits, INFINITY);
    if (x) put(j, t, x);
    return x != NULL;
}

/* What is not in the journal, an end after the other; what shares the longest part with its end
 * comes last. */
static pq_status list_tasks(pq_ctx *ctx, job *j, const bool *wanted)
{
    pq_status st = PQ_OK;
    for (int int8 = j->done_one; int8 < 2 - j->done_rest; int8++)
        for (size_t u = 0; u < j->units->n; u++) {
            pq_task t = {.screen = j->screen, .int8 = int8, .unit = u};
            if (!wanted[u] || j->units->fixed[u] || known(j, &t)) continue;
            if (u % j->n_shards != j->shard) continue;
            PQ_TRY(pq_runner_prefix(ctx, &j->runner, &t));
            j->task[j->n++] = t;
        }
    j->total = j->done + j->n;
    qsort(j->task, j->n, sizeof *j->task, by_prefix);
out:
    pq_start_clear(&j->runner.prefix);
    return st;
}

static pq_status open_job(pq_ctx *ctx, job *j, const pq_units *units, const bool *wanted)
{
    pq_status st;
    j->units = units;
    PQ_TRY(pq_alloc(ctx, &j->one, units->n, sizeof *j->one));
    PQ_TRY(pq_alloc(ctx, &j->rest, units->n, sizeof *j->rest));
    PQ_TRY(pq_alloc(ctx, &j->task, 2 * units->n, sizeof *j->task));
    PQ_TRY(pq_runner_init(ctx, &j->runner, j->m, units, j->aside));
    st = list_tasks(ctx, j, wanted);
out:
    return st;
}

static void close_job(job *j)
{
    pq_runner_clear(&j->runner);
    pq_free(j->one);
    pq_free(j->rest);
    pq_free(j->task);
}

static pq_status say(pq_ctx *ctx, const job *j)
{
    return pq_progress(ctx, j->screen ? "screen" : "sweep", j->done, j->total);
}

static pq_status run_alone(pq_ctx *ctx, job *j)
{
    pq_status st = PQ_OK;
    for (size_t i = 0; i < j->n && !pq_meter_late(j->m); i++) {
        pq_entry e;
        PQ_TRY(say(ctx, j));
        PQ_TRY(pq_runner_run(ctx, &e, &j->runner, &j->task[i]));
        put(j, &j->task[i], &e);
    }
    if (j->done == j->total) st = say(ctx, j);
out:
    return st;
}

static pq_status put_by_crew(pq_ctx *ctx, void *user, const pq_task *t, const pq_entry *e)
{
    put(user, t, e);
    return say(ctx, user);
}

/* ---- scores ---- */

static int rising(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* What a unit does to the others: what it adds at the far end less what it adds alone, in squares.
 */
static double interaction(const pq_scores *s, const pq_score *x)
{
    return s->error_far * s->error_far - x->error_reverted * x->error_reverted -
           x->error_alone * x->error_alone;
}

/* Errors of units are as good as independent, so their squares add (measured: docs/decisions.md).
 * At the far end a unit is the small difference of two large squares: most of what it says is
 * chance, and what does not stand out of that (twice the median over units, as a deviation) is
 * shrunk away. */
static pq_status combine_ends(pq_ctx *ctx, pq_scores *s)
{
    double *size;
    size_t n = 0;
    pq_status st = pq_alloc(ctx, &size, s->units.n, sizeof *size);
    if (st != PQ_OK) return st;
    for (size_t u = 0; u < s->units.n; u++)
        if (s->unit[u].screened) size[n++] = fabs(interaction(s, &s->unit[u]));
    qsort(size, n, sizeof *size, rising);
    const double chance = n ? 2 * 1.4826 * size[(n - 1) / 2] : 0;
    for (size_t u = 0; u < s->units.n; u++) {
        pq_score *x = &s->unit[u];
        if (!x->screened) continue;
        const double i = interaction(s, x),
                     sure = fabs(i) > chance ? 1 - chance * chance / (i * i) : 0;
        x->error = sqrt(fmax(0, x->error_alone * x->error_alone + sure * i / 2));
    }
    pq_free(size);
    return PQ_OK;
}

static pq_status fill(pq_ctx *ctx, pq_scores *s, const result *one, const result *rest, bool screen)
{
    for (size_t u = 0; u < s->units.n; u++) {
        pq_score *x = &s->unit[u];
        if (!one[u].known || !rest[u].known) continue;
        if (screen) {
            x->screened = true;
            x->error_alone = one[u].error;
            x->error_reverted = rest[u].error;
            continue;
        }
        const pq_measured *a = &one[u].measured, *b = &rest[u].measured;
        const pq_measured *all = &s->far;
        x->measured = true;
        x->ap_quantized = a->figures.v[PQ_FIG_AP];
        x->ap_reverted = b->figures.v[PQ_FIG_AP];
        x->damage = (a->drop + (all->drop - b->drop)) / 2;
        /* The unit alone moves few detections and the interval of its drop is narrow; the other end
         * says the same of a difference of two drops, whose common part cancels. So the interval is
         * that of the first end, moved. */
        const double half = (a->high - a->low) / 2;
        x->low = x->damage - half;
        x->high = x->damage + half;
    }
    return screen ? combine_ends(ctx, s) : PQ_OK;
}

static pq_status list_units(pq_ctx *ctx, pq_scores *s, const pq_meter *m)
{
    const pq_graph *g = m->o.graph;
    double macs = 0;
    pq_status st = pq_units_find(ctx, &s->units, g, m->o.engine);
    if (st == PQ_OK) st = pq_alloc(ctx, &s->unit, s->units.n, sizeof *s->unit);
    if (st == PQ_OK) st = pq_alloc(ctx, &s->aside, s->units.n, sizeof *s->aside);
    for (size_t k = 0; st == PQ_OK && k < m->n_ops; k++) {
        const pq_node *n = &g->node[pq_graph_quantizable(g, (int)k)];
        pq_score *x = &s->unit[s->units.of[k]];
        if (!x->name) *x = (pq_score){.index = (int)k, .name = n->name, .type = n->type};
        x->mac_share += (double)pq_node_macs(g, n);
        macs += (double)pq_node_macs(g, n);
    }
    for (size_t u = 0; st == PQ_OK && u < s->units.n && macs > 0; u++) s->unit[u].mac_share /= macs;
    return st;
}

/* INT8 for one unit, or, with every_unit, for each that is not set aside. Memory: pq_free. */
static pq_status label_of(pq_ctx *ctx, uint8_t **out, const pq_scores *s, const pq_meter *m,
                          size_t unit)
{
    bool *int8 = NULL;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, out, m->n_ops, 1));
    PQ_TRY(pq_alloc(ctx, &int8, s->units.n, 1));
    for (size_t u = 0; u < s->units.n; u++) int8[u] = unit == every_unit ? !s->aside[u] : u == unit;
    pq_units_label(&s->units, int8, *out);
out:
    pq_free(int8);
    return st;
}

static pq_status measure_ends(pq_ctx *ctx, pq_scores *s, pq_meter *m, bool screen)
{
    uint8_t *none = NULL, *label = NULL;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &none, m->n_ops, 1));
    PQ_TRY(pq_meter_measure(ctx, &s->base, m, none, INFINITY));
    PQ_TRY(label_of(ctx, &label, s, m, every_unit));
    PQ_TRY(pq_meter_measure(ctx, &s->int8, m, label, INFINITY));
    s->far = s->int8;
    if (screen) st = pq_meter_screen(ctx, &s->error_far, m, label);
out:
    pq_free(none);
    pq_free(label);
    return st;
}

pq_status pq_sweep_more(pq_ctx *ctx, pq_scores *s, pq_meter *m, const bool *wanted)
{
    job j = {.m = m, .aside = s->aside, .n_shards = 1};
    pq_status st;
    PQ_TRY(open_job(ctx, &j, &s->units, wanted));
    PQ_TRY(run_alone(ctx, &j));
    st = fill(ctx, s, j.one, j.rest, false);
out:
    close_job(&j);
    return st;
}

/* The others of a crew begin before the ends are measured: they need full precision alone, which
 * each measures for itself. */
static pq_status sweep_all(pq_ctx *ctx, pq_scores *s, job *j, const pq_crew *crew)
{
    pq_leader *leader = NULL;
    bool *all = NULL;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &all, s->units.n, 1));
    memset(all, 1, s->units.n);
    PQ_TRY(open_job(ctx, j, &s->units, all));
    if (crew) {
        const pq_lead lead = {crew, &j->runner, j->task, j->n, put_by_crew, j};
        PQ_TRY(pq_leader_start(ctx, &leader, &lead));
    }
    PQ_TRY(measure_ends(ctx, s, j->m, j->screen));
    PQ_TRY(leader ? pq_leader_run(ctx, leader) : run_alone(ctx, j));
    st = fill(ctx, s, j->one, j->rest, j->screen);
out:
    pq_leader_free(leader);
    pq_free(all);
    return st;
}

pq_status pq_sweep_with(pq_ctx *ctx, pq_scores **out, pq_meter *m, const pq_sweep_opts *o)
{
    pq_scores *s = NULL;
    job j = {.m = m,
             .screen = o->kind == PQ_SWEEP_SCREEN,
             .shard = o->n_shards ? o->shard - 1 : 0,
             .n_shards = o->n_shards ? o->n_shards : 1};
    pq_status st;
    *out = NULL;
    PQ_TRY(pq_alloc(ctx, &s, 1, sizeof *s));
    PQ_TRY(list_units(ctx, s, m));
    if (o->kind == PQ_SWEEP_NONE)
        PQ_TRY(measure_ends(ctx, s, m, false));
    else
        PQ_TRY(sweep_all(ctx, s, &j, o->crew));
    *out = s;
    s = NULL;
out:
    close_job(&j);
    pq_scores_free(s);
    return st;
}

/* ---- screening for a budget ---- */

static pq_status screen_end(pq_ctx *ctx, pq_scores *s, job *j)
{
    bool *wanted = NULL;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &wanted, s->units.n, 1));
    for (size_t u = 0; u < s->units.n; u++) wanted[u] = !(j->done_one && s->aside[u]);
    PQ_TRY(open_job(ctx, j, &s->units, wanted));
    st = run_alone(ctx, j);
out:
    pq_free(wanted);
    return st;
}

/* Does a unit alone surely lose more than the budget? The images of screening say so at a fraction
 * of the cost; where they leave it open, all do. */
static pq_status judge(pq_ctx *ctx, pq_scores *s, pq_meter *m, size_t unit, double max_drop,
                       pq_measured *d)
{
    uint8_t *label = NULL;
    pq_status st;
    PQ_TRY(label_of(ctx, &label, s, m, unit));
    PQ_TRY(pq_meter_measure_screened(ctx, d, m, label));
    if (d->drop > max_drop && !(d->low > max_drop))
        st = pq_meter_measure(ctx, d, m, label, max_drop);
out:
    pq_free(label);
    return st;
}

/* In order of their errors, up to where several did not. */
static pq_status set_aside(pq_ctx *ctx, pq_scores *s, pq_meter *m, const result *one,
                           double max_drop)
{
    enum { MOST_OPEN = 2 };
    bool *seen;
    pq_status st = pq_alloc(ctx, &seen, s->units.n, 1);
    for (int open = 0; st == PQ_OK && s->int8.drop > max_drop && open < MOST_OPEN;) {
        size_t worst = s->units.n;
        pq_measured d;
        for (size_t u = 0; u < s->units.n; u++)
            if (one[u].known && !seen[u] &&
                (worst == s->units.n || one[u].error > one[worst].error))
                worst = u;
        if (worst == s->units.n || pq_meter_late(m)) break;
        seen[worst] = true;
        PQ_TRY(judge(ctx, s, m, worst, max_drop, &d));
        if (!(d.low > max_drop)) {
            open++;
            continue;
        }
        pq_score *x = &s->unit[worst];
        x->aside = s->aside[worst] = true;
        x->error_alone = x->error = one[worst].error;
        x->damage = d.drop;
        x->low = d.low;
        x->high = d.high;
    }
out:
    pq_free(seen);
    return st;
}

static pq_status measure_far(pq_ctx *ctx, pq_scores *s, pq_meter *m)
{
    uint8_t *label = NULL;
    pq_status st;
    PQ_TRY(label_of(ctx, &label, s, m, every_unit));
    PQ_TRY(pq_meter_measure(ctx, &s->far, m, label, INFINITY));
    st = pq_meter_screen(ctx, &s->error_far, m, label);
out:
    pq_free(label);
    return st;
}

/* Where time ran out: an end that is missing says what the other one says, a unit of which nothing
 * is known is taken for an average one. */
static pq_status fill_for_budget(pq_ctx *ctx, pq_scores *s, const result *one, const result *rest)
{
    const double far = s->error_far;
    double sum = 0;
    size_t n = 0;
    for (size_t u = 0; u < s->units.n; u++) {
        pq_score *x = &s->unit[u];
        if (!one[u].known || s->aside[u]) continue;
        x->screened = true;
        x->error_alone = one[u].error;
        x->error_reverted =
            rest[u].known ? rest[u].error : sqrt(fmax(0, far * far - one[u].error * one[u].error));
    }
    const pq_status st = combine_ends(ctx, s);
    for (size_t u = 0; u < s->units.n; u++) {
        if (!s->unit[u].screened) continue;
        sum += s->unit[u].error;
        n++;
    }
    for (size_t u = 0; u < s->units.n; u++)
        if (!one[u].known && !s->units.fixed[u]) s->unit[u].error = n ? sum / (double)n : 1;
    return st;
}

static pq_status screen_for(pq_ctx *ctx, pq_scores *s, pq_meter *m, double max_drop, job *one,
                            job *rest)
{
    pq_status st;
    PQ_TRY(screen_end(ctx, s, one));
    PQ_TRY(set_aside(ctx, s, m, one->one, max_drop));
    PQ_TRY(measure_far(ctx, s, m));
    PQ_TRY(screen_end(ctx, s, rest));
    st = fill_for_budget(ctx, s, one->one, rest->rest);
out:
    return st;
}

pq_status pq_sweep_for(pq_ctx *ctx, pq_scores **out, pq_meter *m, double max_drop, double share)
{
    pq_scores *s = NULL;
    job one = {.m = m, .screen = true, .done_rest = true, .n_shards = 1},
        rest = {.m = m, .screen = true, .done_one = true, .n_shards = 1};
    const double deadline = m->o.deadline;
    pq_status st;
    *out = NULL;
    if (!(max_drop > 0))
        return pq_fail(ctx, PQ_E_INVALID, "a drop of %g, expected more than 0", max_drop);
    PQ_TRY(pq_alloc(ctx, &s, 1, sizeof *s));
    PQ_TRY(list_units(ctx, s, m));
    PQ_TRY(measure_ends(ctx, s, m, false));
    rest.aside = s->aside;
    if (deadline > 0) {
        const double seconds = share * (deadline - pq_meter_now());
        pq_meter_plan_screening(m, &s->base, &s->int8, s->units.n, seconds);
        m->o.deadline = fmin(deadline, pq_meter_now() + 1.25 * seconds);
    }
    PQ_TRY(screen_for(ctx, s, m, max_drop, &one, &rest));
    *out = s;
    s = NULL;
out:
    m->o.deadline = deadline;
    close_job(&one);
    close_job(&rest);
    pq_scores_free(s);
    return st;
}

pq_status pq_sweep(pq_ctx *ctx, pq_scores **out, pq_meter *m, pq_sweep_kind kind)
{
    return pq_sweep_with(ctx, out, m, &(pq_sweep_opts){.kind = kind});
}

pq_status pq_sweep_shard(pq_ctx *ctx, pq_scores **out, pq_meter *m, pq_sweep_kind kind,
                         size_t shard, size_t n_shards)
{
    if (shard < 1 || shard > n_shards)
        return pq_fail(ctx, PQ_E_INVALID, "shard %zu of %zu, expected 1 to %zu", shard, n_shards,
                       n_shards);
    const pq_sweep_opts o = {.kind = kind, .shard = shard, .n_shards = n_shards};
    return pq_sweep_with(ctx, out, m, &o);
}

void pq_scores_free(pq_scores *s)
{
    if (!s) return;
    pq_units_clear(&s->units);
    pq_free(s->unit);
    pq_free(s->aside);
    pq_free(s);
}
