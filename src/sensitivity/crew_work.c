/* The other ranks of a crew: they measure what they are given. */
#include "sensitivity/crew.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static const double most_silence = 3600; /* seconds */

typedef struct worker {
    const pq_crew *crew;
    pq_meter *m;
    pq_units units;
    pq_runner runner;
    size_t n_done;
    double began, idle;
} worker;

static bool number(const char **text, size_t *out)
{
    char *end;
    const unsigned long long v = strtoull(*text, &end, 10);
    if (end == *text) return false;
    *out = (size_t)v;
    *text = end;
    return true;
}

/* "task I SCREEN INT8 UNIT PREFIX" */
static pq_status read_task(pq_ctx *ctx, const worker *w, const char *text, size_t *i, pq_task *t)
{
    const char *p = text + 5;
    size_t screen, int8;
    if (strncmp(text, "task ", 5) != 0 || !number(&p, i) || !number(&p, &screen) ||
        !number(&p, &int8) || !number(&p, &t->unit) || !number(&p, &t->prefix) || screen > 1 ||
        int8 > 1 || t->unit >= w->units.n || w->units.fixed[t->unit])
        return pq_fail(ctx, PQ_E_FORMAT, "'%.40s', expected a task", text);
    t->screen = screen;
    t->int8 = int8;
    return PQ_OK;
}

static pq_status run(pq_ctx *ctx, worker *w, const char *text)
{
    char *line = NULL, *answer = NULL;
    pq_task t;
    pq_entry e;
    size_t i = 0;
    pq_status st;
    PQ_TRY(read_task(ctx, w, text, &i, &t));
    PQ_TRY(pq_runner_run(ctx, &e, &w->runner, &t));
    PQ_TRY(pq_entry_print(ctx, &line, w->m->journal.context, &e));
    PQ_TRY(pq_asprintf(ctx, &answer, "done %zu %s", i, line));
    w->n_done++;
    if (!w->crew->send(w->crew->user, 0, answer))
        st = pq_fail(ctx, PQ_E_ENGINE, "rank %d: the leader cannot be reached", w->crew->rank);
out:
    cJSON_free(line);
    pq_free(answer);
    return st;
}

static pq_status serve(pq_ctx *ctx, worker *w)
{
    const pq_crew *crew = w->crew;
    char text[256];
    double heard = pq_meter_now();
    for (;;) {
        const double began = pq_meter_now();
        const int from = crew->receive(crew->user, text, sizeof text, 1);
        const double now = pq_meter_now();
        w->idle += now - began;
        if (from < 0) {
            if (now - heard > most_silence)
                return pq_fail(ctx, PQ_E_ENGINE, "rank %d: no word from the leader in an hour",
                               crew->rank);
            continue;
        }
        if (from != 0) continue;
        if (strcmp(text, "stop") == 0) break;
        const pq_status st = run(ctx, w, text);
        if (st != PQ_OK) return st;
        heard = pq_meter_now();
    }
    snprintf(text, sizeof text, "bye %zu %.3f %.3f", w->n_done, w->idle, pq_meter_now() - w->began);
    (void)crew->send(crew->user, 0, text); /* who is gone needs no goodbye */
    return PQ_OK;
}

pq_status pq_crew_work(pq_ctx *ctx, const pq_crew *crew, pq_meter *m)
{
    worker w = {.crew = crew, .m = m};
    char text[64];
    pq_status st;
    PQ_TRY(pq_units_find(ctx, &w.units, m->o.graph, m->o.engine));
    PQ_TRY(pq_runner_init(ctx, &w.runner, m, &w.units, NULL));
    if (m->o.head) PQ_TRY(pq_meter_need_base(ctx, m));
    snprintf(text, sizeof text, "hello %s", m->journal.context);
    w.began = pq_meter_now();
    if (!crew->send(crew->user, 0, text))
        st = pq_fail(ctx, PQ_E_ENGINE, "rank %d: the leader cannot be reached", crew->rank);
    else
        st = serve(ctx, &w);
out:
    pq_runner_clear(&w.runner);
    pq_units_clear(&w.units);
    return st;
}

void pq_crew_decline(const pq_crew *crew, const char *why)
{
    char text[256];
    const double until = pq_meter_now() + most_silence;
    snprintf(text, sizeof text, "fail %s", why);
    if (!crew->send(crew->user, 0, text)) return;
    while (pq_meter_now() < until)
        if (crew->receive(crew->user, text, sizeof text, 1) == 0 && strcmp(text, "stop") == 0)
            break;
    (void)crew->send(crew->user, 0, "bye 0 0 0");
}
