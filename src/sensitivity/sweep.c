/* Every unit from both ends: alone in INT8, and alone out of it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "sensitivity/meter.h"

/* One variant of an end: the unit that differs, and where its network starts to differ. */
struct variant {
    size_t unit, prefix;
};

static int by_prefix(const void *a, const void *b)
{
    const struct variant *x = a, *y = b;
    if (x->prefix != y->prefix) return x->prefix < y->prefix ? -1 : 1;
    return x->unit < y->unit ? -1 : x->unit > y->unit;
}

/* What one variant gave; a screening fills error alone. */
typedef struct result {
    bool known;
    double error;
    pq_measured measured;
} result;

typedef struct end {
    pq_meter *m;
    const pq_units *units;
    bool screen;
    const bool *wanted; /* per unit */
    bool *int8;         /* the end itself; one element is flipped for each variant */
    uint8_t *label;
    char *bits;
    pq_start prefix;
    struct variant *variant;
    result *result; /* per unit */
    size_t *done, total;
} end;

static void set_variant(end *e, size_t unit)
{
    e->int8[unit] = !e->int8[unit];
    pq_units_label(e->units, e->int8, e->label);
    pq_meter_bits(e->m, e->label, e->bits);
    e->int8[unit] = !e->int8[unit];
}

static bool known(end *e, size_t unit)
{
    set_variant(e, unit);
    const pq_entry *x = e->screen ? pq_journal_find_screen(&e->m->journal, e->bits)
                                  : pq_journal_find(&e->m->journal, e->bits, INFINITY);
    if (x) e->result[unit] = (result){true, x->error, x->measured};
    return x != NULL;
}

/* Variants that are not in the journal, those that share the longest part with the end last. */
static pq_status list_variants(pq_ctx *ctx, end *e, size_t *n)
{
    const pq_engine *engine = e->m->o.engine;
    pq_status st = PQ_OK;
    *n = 0;
    for (size_t u = 0; u < e->units->n && st == PQ_OK; u++) {
        if (!e->wanted[u] || e->units->fixed[u]) continue;
        if (known(e, u)) {
            (*e->done)++;
            continue;
        }
        struct variant v = {u, 0};
        if (engine->run_part) {
            pq_session *s;
            if (!e->prefix.session) {
                pq_units_label(e->units, e->int8, e->label);
                st = pq_meter_compile(ctx, &e->prefix.session, e->m, e->label, false);
            }
            set_variant(e, u);
            if (st == PQ_OK) st = pq_meter_compile(ctx, &s, e->m, e->label, true);
            if (st != PQ_OK) break;
            v.prefix = engine->common_prefix(e->prefix.session, s);
            pq_session_free(s);
        }
        e->variant[(*n)++] = v;
    }
    qsort(e->variant, *n, sizeof *e->variant, by_prefix);
    return st;
}

static pq_status run_variant(pq_ctx *ctx, end *e, const struct variant *v)
{
    pq_session *s = NULL;
    result *r = &e->result[v->unit];
    pq_status st = PQ_OK;
    if (e->prefix.session) PQ_TRY(pq_start_advance(ctx, e->m, &e->prefix, v->prefix));
    set_variant(e, v->unit);
    PQ_TRY(pq_meter_compile(ctx, &s, e->m, e->label, false));
    /* The outline may have promised more than the session shares: then it starts at the image. */
    const bool shares =
        e->prefix.session && e->m->o.engine->common_prefix(e->prefix.session, s) >= e->prefix.at;
    const pq_start *from = shares ? &e->prefix : NULL;
    if (e->screen)
        PQ_TRY(pq_screen_run(ctx, &r->error, e->m, s, from, e->bits));
    else
        PQ_TRY(pq_meter_run(ctx, &r->measured, e->m, s, from, e->bits, INFINITY));
    r->known = true;
out:
    pq_session_free(s);
    return st;
}

static pq_status sweep_end(pq_ctx *ctx, end *e)
{
    size_t n;
    if (e->screen) e->prefix.n_places = e->m->n_screened;
    pq_status st = list_variants(ctx, e, &n);
    for (size_t i = 0; i < n && st == PQ_OK && !pq_meter_late(e->m); i++) {
        st = pq_progress(ctx, e->screen ? "screen" : "sweep", *e->done, e->total);
        if (st == PQ_OK) st = run_variant(ctx, e, &e->variant[i]);
        if (st == PQ_OK) (*e->done)++;
    }
    pq_start_clear(&e->prefix);
    return st;
}

static pq_status run_end(pq_ctx *ctx, end *e, bool int8, result *r)
{
    e->result = r;
    for (size_t u = 0; u < e->units->n; u++) e->int8[u] = int8;
    return sweep_end(ctx, e);
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

static pq_status sweep(pq_ctx *ctx, pq_scores *s, pq_meter *m, const bool *wanted, bool screen)
{
    size_t done = 0, n_wanted = 0;
    end e = {.m = m, .units = &s->units, .screen = screen, .wanted = wanted, .done = &done};
    const size_t n = s->units.n;
    result *one = NULL, *rest = NULL;
    pq_status st;
    for (size_t u = 0; u < n; u++) n_wanted += wanted[u] && !s->units.fixed[u];
    e.total = 2 * n_wanted;
    PQ_TRY(pq_alloc(ctx, &one, n, sizeof *one));
    PQ_TRY(pq_alloc(ctx, &rest, n, sizeof *rest));
    PQ_TRY(pq_alloc(ctx, &e.int8, n, 1));
    PQ_TRY(pq_alloc(ctx, &e.label, m->n_ops, 1));
    PQ_TRY(pq_alloc(ctx, &e.bits, m->n_ops + 1, 1));
    PQ_TRY(pq_alloc(ctx, &e.variant, n, sizeof *e.variant));
    PQ_TRY(run_end(ctx, &e, false, one));
    PQ_TRY(run_end(ctx, &e, true, rest));
    if (done == e.total) PQ_TRY(pq_progress(ctx, screen ? "screen" : "sweep", done, e.total));
    fill(s, one, rest, screen);
out:
    pq_free(one);
    pq_free(rest);
    pq_free(e.int8);
    pq_free(e.label);
    pq_free(e.bits);
    pq_free(e.variant);
    return st;
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
    return sweep(ctx, s, m, wanted, false);
}

pq_status pq_sweep(pq_ctx *ctx, pq_scores **out, pq_meter *m, pq_sweep_kind kind)
{
    pq_scores *s = NULL;
    bool *all = NULL;
    pq_status st;
    *out = NULL;
    PQ_TRY(pq_alloc(ctx, &s, 1, sizeof *s));
    PQ_TRY(list_units(ctx, s, m));
    PQ_TRY(measure_ends(ctx, s, m, kind == PQ_SWEEP_SCREEN));
    PQ_TRY(pq_alloc(ctx, &all, s->units.n, 1));
    memset(all, 1, s->units.n);
    if (kind != PQ_SWEEP_NONE) PQ_TRY(sweep(ctx, s, m, all, kind == PQ_SWEEP_SCREEN));
    *out = s;
    s = NULL;
out:
    pq_free(all);
    pq_scores_free(s);
    return st;
}

void pq_scores_free(pq_scores *s)
{
    if (!s) return;
    pq_units_clear(&s->units);
    pq_free(s->unit);
    pq_free(s);
}
