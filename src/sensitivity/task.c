/* Running one measurement of a sweep, from the prefix that it shares with its end. */
#include "sensitivity/task.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

pq_status pq_runner_init(pq_ctx *ctx, pq_runner *r, pq_meter *m, const pq_units *units,
                         const bool *aside)
{
    pq_status st;
    *r = (pq_runner){.m = m, .units = units, .aside = aside};
    PQ_TRY(pq_alloc(ctx, &r->on, units->n, 1));
    PQ_TRY(pq_alloc(ctx, &r->label, m->n_ops, 1));
    st = pq_alloc(ctx, &r->bits, m->n_ops + 1, 1);
out:
    return st;
}

void pq_runner_clear(pq_runner *r)
{
    pq_start_clear(&r->prefix);
    pq_free(r->on);
    pq_free(r->label);
    pq_free(r->bits);
    *r = (pq_runner){0};
}

void pq_runner_set(pq_runner *r, const pq_task *t)
{
    for (size_t u = 0; u < r->units->n; u++) r->on[u] = t->int8 && !(r->aside && r->aside[u]);
    if (t->unit < r->units->n) r->on[t->unit] = !t->int8;
    pq_units_label(r->units, r->on, r->label);
    pq_meter_bits(r->m, r->label, r->bits);
}

/* The session of the task's end, at its first step where another end or a later step was held. */
static pq_status hold_end(pq_ctx *ctx, pq_runner *r, const pq_task *t)
{
    pq_start *p = &r->prefix;
    const pq_task end = {.screen = t->screen, .int8 = t->int8, .unit = r->units->n};
    if (p->session && r->end.int8 == t->int8 && r->end.screen == t->screen && p->at <= t->prefix)
        return PQ_OK;
    pq_start_clear(p);
    if (t->screen) p->n_places = r->m->n_screened;
    r->end = end;
    pq_runner_set(r, &end);
    return pq_meter_compile(ctx, &p->session, r->m, r->label, false);
}

pq_status pq_runner_prefix(pq_ctx *ctx, pq_runner *r, pq_task *t)
{
    const pq_engine *engine = r->m->o.engine;
    pq_session *s;
    t->prefix = 0;
    if (!engine->run_part) return PQ_OK;
    pq_status st = hold_end(ctx, r, t);
    if (st != PQ_OK) return st;
    pq_runner_set(r, t);
    if ((st = pq_meter_compile(ctx, &s, r->m, r->label, true)) != PQ_OK) return st;
    t->prefix = engine->common_prefix(r->prefix.session, s);
    pq_session_free(s);
    return PQ_OK;
}

pq_status pq_runner_run(pq_ctx *ctx, pq_entry *out, pq_runner *r, const pq_task *t)
{
    const pq_engine *engine = r->m->o.engine;
    const pq_start *from = NULL;
    pq_session *s = NULL;
    pq_status st = PQ_OK;
    if (engine->run_part) {
        PQ_TRY(hold_end(ctx, r, t));
        if (t->prefix <= r->prefix.session->n_steps)
            PQ_TRY(pq_start_advance(ctx, r->m, &r->prefix, t->prefix));
    }
    pq_runner_set(r, t);
    *out = (pq_entry){.bits = r->bits, .screen = t->screen};
    if (t->screen) out->measured.n_images = pq_meter_images(r->m, r->m->n_screened);
    PQ_TRY(pq_meter_compile(ctx, &s, r->m, r->label, false));
    /* The outline may have promised more than the session shares: then it starts at the image. */
    if (engine->run_part && engine->common_prefix(r->prefix.session, s) >= r->prefix.at)
        from = &r->prefix;
    if (t->screen)
        st = pq_screen_run(ctx, &out->error, r->m, s, from, r->bits);
    else
        st = pq_meter_run(ctx, &out->measured, r->m, s, from, r->bits, INFINITY, r->m->n_groups);
out:
    pq_session_free(s);
    return st;
}
