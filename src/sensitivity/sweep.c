/* Every unit from both ends: alone in INT8, and alone out of it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "sensitivity/crew.h"
#include "sensitivity/task.h"

/* What one variant gave; a screening fills error alone. */
typedef struct result {
    bool known;
    double error;
    pq_measured measured;
} result;

typedef struct job {
    pq_meter *m;
    const pq_units *units;
    bool screen;
    size_t shard, n_shards; /* units u with u % n_shards == shard are measured */
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
    const pq_entry *x = t->screen ? pq_journal_find_screen(journal, j->runner.bits)
                                  : pq_journal_find(journal, j->runner.bits, INFINITY);
    if (x) put(j, t, x);
    return x != NULL;
}

/* What is not in the journal, an end after the other; what shares the longest part with its end
 * comes last. */
static pq_status list_tasks(pq_ctx *ctx, job *j, const bool *wanted)
{
    pq_status st = PQ_OK;
    for (int int8 = 0; int8 < 2; int8++)
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
    PQ_TRY(pq_runner_init(ctx, &j->runner, j->m, units));
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

static void fill(pq_scores *s, const result *one, const result *rest, bool screen)
{
    for (size_t u = 0; u < s->units.n; u++) {
        pq_score *x = &s->unit[u];
        if (!one[u].known || !rest[u].known) continue;
        if (screen) {
            x->screened = true;
            x->error_alone = one[u].error;
            x->error_reverted = rest[u].error;
            x->error = fmax(0, (one[u].error + (s->error_int8 - rest[u].error)) / 2);
            continue;
        }
        const pq_measured *a = &one[u].measured, *b = &rest[u].measured;
        const pq_measured *all = &s->int8;
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
}

static pq_status list_units(pq_ctx *ctx, pq_scores *s, const pq_meter *m)
{
    const pq_graph *g = m->o.graph;
    double macs = 0;
    pq_status st = pq_units_find(ctx, &s->units, g, m->o.engine);
    if (st == PQ_OK) st = pq_alloc(ctx, &s->unit, s->units.n, sizeof *s->unit);
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

static pq_status measure_ends(pq_ctx *ctx, pq_scores *s, pq_meter *m, bool screen)
{
    bool *int8 = NULL;
    uint8_t *label = NULL;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &int8, s->units.n, 1));
    PQ_TRY(pq_alloc(ctx, &label, m->n_ops, 1));
    PQ_TRY(pq_meter_measure(ctx, &s->base, m, label, INFINITY));
    memset(int8, 1, s->units.n);
    pq_units_label(&s->units, int8, label);
    PQ_TRY(pq_meter_measure(ctx, &s->int8, m, label, INFINITY));
    if (screen) st = pq_meter_screen(ctx, &s->error_int8, m, label);
out:
    pq_free(int8);
    pq_free(label);
    return st;
}

pq_status pq_sweep_more(pq_ctx *ctx, pq_scores *s, pq_meter *m, const bool *wanted)
{
    job j = {.m = m, .n_shards = 1};
    pq_status st;
    PQ_TRY(open_job(ctx, &j, &s->units, wanted));
    PQ_TRY(run_alone(ctx, &j));
    fill(s, j.one, j.rest, false);
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
    fill(s, j->one, j->rest, j->screen);
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
    pq_free(s);
}
