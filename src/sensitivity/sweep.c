/* Every operator from both ends: alone in INT8, and alone out of it. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "sensitivity/meter.h"

/* One variant of an end: the operator that differs, and where its network starts to differ. */
struct variant {
    size_t op, prefix;
};

static int by_prefix(const void *a, const void *b)
{
    const struct variant *x = a, *y = b;
    if (x->prefix != y->prefix) return x->prefix < y->prefix ? -1 : 1;
    return x->op < y->op ? -1 : x->op > y->op;
}

typedef struct end {
    pq_meter *m;
    bool *int8; /* the end itself; one element is flipped for each variant */
    char *bits;
    pq_start prefix;
    struct variant *variant;
    double *ap; /* per op */
    size_t *done, total;
} end;

static pq_status measure_base(pq_ctx *ctx, end *e, double *ap)
{
    pq_figures f;
    pq_status st = pq_meter_measure(ctx, &f, e->m, e->int8);
    *ap = st == PQ_OK ? f.v[PQ_FIG_AP] : 0;
    return st;
}

static bool known(end *e, size_t op, double *ap)
{
    e->int8[op] = !e->int8[op];
    pq_meter_bits(e->m, e->int8, e->bits);
    e->int8[op] = !e->int8[op];
    const pq_figures *f = pq_journal_find(&e->m->journal, e->bits);
    if (f) *ap = f->v[PQ_FIG_AP];
    return f != NULL;
}

static pq_status compile(pq_ctx *ctx, end *e, size_t op, bool outline, pq_session **s)
{
    e->int8[op] = !e->int8[op];
    pq_meter_bits(e->m, e->int8, e->bits);
    pq_status st = pq_meter_compile(ctx, s, e->m, e->int8, outline);
    e->int8[op] = !e->int8[op];
    return st;
}

/* Variants that are not in the journal, those that share the longest part with the end last. */
static pq_status list_variants(pq_ctx *ctx, end *e, size_t *n)
{
    const pq_engine *engine = e->m->o.engine;
    pq_status st = PQ_OK;
    *n = 0;
    for (size_t op = 0; op < e->m->n_ops && st == PQ_OK; op++) {
        if (known(e, op, &e->ap[op])) {
            (*e->done)++;
            continue;
        }
        struct variant v = {op, 0};
        if (engine->run_part) {
            pq_session *s;
            if (!e->prefix.session)
                st = pq_meter_compile(ctx, &e->prefix.session, e->m, e->int8, false);
            if (st == PQ_OK) st = compile(ctx, e, op, true, &s);
            if (st != PQ_OK) break;
            v.prefix = engine->common_prefix(e->prefix.session, s);
            pq_session_free(s);
        }
        e->variant[(*n)++] = v;
    }
    qsort(e->variant, *n, sizeof *e->variant, by_prefix);
    return st;
}

static pq_status sweep_end(pq_ctx *ctx, end *e)
{
    size_t n;
    pq_status st = list_variants(ctx, e, &n);
    for (size_t i = 0; i < n && st == PQ_OK; i++) {
        const struct variant *v = &e->variant[i];
        pq_session *s = NULL;
        pq_figures f;
        st = pq_progress(ctx, "sweep", *e->done, e->total);
        if (st == PQ_OK && e->prefix.session)
            st = pq_start_advance(ctx, e->m, &e->prefix, v->prefix);
        if (st == PQ_OK) st = compile(ctx, e, v->op, false, &s);
        /* The outline may have promised more than the session shares: then it starts at the image.
         */
        const bool shares = st == PQ_OK && e->prefix.session &&
                            e->m->o.engine->common_prefix(e->prefix.session, s) >= e->prefix.at;
        if (st == PQ_OK) st = pq_meter_run(ctx, &f, e->m, s, shares ? &e->prefix : NULL, e->bits);
        pq_session_free(s);
        if (st != PQ_OK) break;
        e->ap[v->op] = f.v[PQ_FIG_AP];
        (*e->done)++;
    }
    pq_start_clear(&e->prefix);
    return st;
}

static pq_status run_end(pq_ctx *ctx, pq_meter *m, bool int8, double *base, double *ap,
                         size_t *done)
{
    end e = {.m = m, .ap = ap, .done = done, .total = 2 * m->n_ops};
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &e.int8, m->n_ops, 1));
    PQ_TRY(pq_alloc(ctx, &e.bits, m->n_ops + 1, 1));
    PQ_TRY(pq_alloc(ctx, &e.variant, m->n_ops, sizeof *e.variant));
    memset(e.int8, int8, m->n_ops);
    PQ_TRY(measure_base(ctx, &e, base));
    st = sweep_end(ctx, &e);
out:
    pq_free(e.int8);
    pq_free(e.bits);
    pq_free(e.variant);
    return st;
}

static pq_status fill_scores(pq_ctx *ctx, pq_scores *s, const pq_meter *m, const double *one,
                             const double *rest)
{
    const pq_graph *g = m->o.graph;
    double macs = 0;
    pq_status st = pq_alloc(ctx, &s->op, m->n_ops, sizeof *s->op);
    if (st != PQ_OK) return st;
    s->n = m->n_ops;
    for (size_t i = 0; i < s->n; i++) {
        const pq_node *n = &g->node[pq_graph_quantizable(g, (int)i)];
        s->op[i] = (pq_score){(int)i,
                              n->name,
                              n->type,
                              one[i],
                              rest[i],
                              ((s->ap_base - one[i]) + (rest[i] - s->ap_int8)) / 2,
                              (double)pq_node_macs(g, n)};
        macs += s->op[i].mac_share;
    }
    for (size_t i = 0; i < s->n && macs > 0; i++) s->op[i].mac_share /= macs;
    return PQ_OK;
}

pq_status pq_sweep(pq_ctx *ctx, pq_scores **out, pq_meter *m)
{
    pq_scores *s = NULL;
    double *one = NULL, *rest = NULL;
    size_t done = 0;
    pq_status st;
    *out = NULL;
    PQ_TRY(pq_alloc(ctx, &s, 1, sizeof *s));
    PQ_TRY(pq_alloc(ctx, &one, m->n_ops, sizeof *one));
    PQ_TRY(pq_alloc(ctx, &rest, m->n_ops, sizeof *rest));
    PQ_TRY(run_end(ctx, m, false, &s->ap_base, one, &done));
    PQ_TRY(run_end(ctx, m, true, &s->ap_int8, rest, &done));
    PQ_TRY(pq_progress(ctx, "sweep", 2 * m->n_ops, 2 * m->n_ops));
    PQ_TRY(fill_scores(ctx, s, m, one, rest));
    *out = s;
    s = NULL;
out:
    pq_free(one);
    pq_free(rest);
    pq_scores_free(s);
    return st;
}

void pq_scores_free(pq_scores *s)
{
    if (!s) return;
    pq_free(s->op);
    pq_free(s);
}
