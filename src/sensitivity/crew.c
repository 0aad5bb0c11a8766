/* The leader of a crew. Messages are lines: "task I SCREEN INT8 UNIT PREFIX" and "stop" from it,
 * "hello CONTEXT", "done I ENTRY", "fail WHY" and "bye TASKS IDLE SECONDS" to it. */
#include "sensitivity/crew.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { QUEUE = 2 }; /* tasks a rank holds: one it works on, one so that it need not wait */

/* A rank: it has not said hello, works, does not answer, or has said that it cannot. */
typedef enum standing { AWAY, READY, LOST, UNFIT } standing;

typedef struct member {
    standing standing;
    size_t held[QUEUE], n_held;
    double since; /* when it last answered, or was given something while it had nothing */
} member;

typedef enum progress { OPEN, GIVEN, DONE } progress;

struct pq_leader {
    pq_ctx *ctx;
    pq_lead o;
    pq_meter *m;
    pq_runner names;   /* what tasks are called in the journal, while the other one is at work */
    member *member;    /* [size] */
    uint8_t *progress; /* [n] */
    size_t n_open;
    double longest; /* seconds from giving a task to its answer */
    double began, idle;
    size_t n_own;
    char *text;
    size_t room;
    pq_status st; /* of what happened between two images */
};

/* The open task that comes first. */
static size_t take(pq_leader *l)
{
    size_t i = 0;
    while (i < l->o.n && l->progress[i] != OPEN) i++;
    if (i < l->o.n) {
        l->progress[i] = GIVEN;
        l->n_open--;
    }
    return i;
}

static void give_back(pq_leader *l, size_t i)
{
    if (l->progress[i] != GIVEN) return;
    l->progress[i] = OPEN;
    l->n_open++;
}

static void give_up(pq_leader *l, int rank, standing s, const char *why)
{
    member *x = &l->member[rank];
    for (size_t k = 0; k < x->n_held; k++) give_back(l, x->held[k]);
    pq_log(l->ctx, PQ_LOG_WARN, "sweep", "rank %d %s; its work (%zu) goes to others", rank, why,
           x->n_held);
    x->n_held = 0;
    x->standing = s;
    l->o.crew->lost[rank] = s == LOST;
}

static void hand_to(pq_leader *l, int rank)
{
    member *x = &l->member[rank];
    char text[128];
    const size_t i = take(l);
    if (i == l->o.n) return;
    const pq_task *t = &l->o.task[i];
    snprintf(text, sizeof text, "task %zu %d %d %zu %zu", i, t->screen, t->int8, t->unit,
             t->prefix);
    if (!x->n_held) x->since = pq_meter_now();
    x->held[x->n_held++] = i;
    if (!l->o.crew->send(l->o.crew->user, rank, text)) give_up(l, rank, LOST, "cannot be reached");
}

/* To everyone one, then to everyone another while that leaves enough for the rest of the time. */
static void hand_out(pq_leader *l)
{
    const size_t size = (size_t)l->o.crew->size;
    for (size_t depth = 1; depth <= QUEUE; depth++)
        for (int r = 1; r < l->o.crew->size; r++) {
            const member *x = &l->member[r];
            if (x->standing != READY || x->n_held >= depth) continue;
            if (depth > 1 && l->n_open <= size) continue;
            if (!pq_meter_late(l->m)) hand_to(l, r);
        }
}

/* An answer counts when it is to this task in this context, whoever gives it, however late. */
static pq_status take_result(pq_leader *l, size_t i, const char *line)
{
    const pq_task *t = &l->o.task[i];
    const char *context = NULL;
    pq_entry e;
    pq_status st = PQ_OK;
    cJSON *doc = pq_entry_parse(&e, &context, line, strlen(line));
    if (!doc) return pq_fail(l->ctx, PQ_E_FORMAT, "task %zu: the answer is no measurement", i);
    pq_runner_set(&l->names, t);
    if (strcmp(context, l->m->journal.context) != 0 || strcmp(e.bits, l->names.bits) != 0 ||
        e.screen != t->screen || (!e.screen && !e.measured.whole)) {
        st = pq_fail(l->ctx, PQ_E_FORMAT, "task %zu: the answer is to another task", i);
    } else if (l->progress[i] != DONE) {
        l->n_open -= l->progress[i] == OPEN;
        l->progress[i] = DONE;
        l->m->n_measured++;
        l->m->seconds += e.measured.seconds;
        st = pq_journal_add(l->ctx, &l->m->journal, &e);
        if (st == PQ_OK) st = l->o.put(l->ctx, l->o.user, t, &e);
    }
    cJSON_Delete(doc);
    return st;
}

static pq_status on_done(pq_leader *l, int rank, const char *rest)
{
    member *x = &l->member[rank];
    char *line;
    const unsigned long long i = strtoull(rest, &line, 10);
    const double now = pq_meter_now();
    if (line == rest || i >= l->o.n)
        return pq_fail(l->ctx, PQ_E_FORMAT, "rank %d: an answer to task '%.20s' of %zu", rank, rest,
                       l->o.n);
    for (size_t k = 0; k < x->n_held; k++) {
        if (x->held[k] != i) continue;
        memmove(x->held + k, x->held + k + 1, (--x->n_held - k) * sizeof *x->held);
        if (now - x->since > l->longest) l->longest = now - x->since;
        break;
    }
    x->since = now;
    if (x->standing == LOST) {
        pq_log(l->ctx, PQ_LOG_INFO, "sweep", "rank %d answers again", rank);
        x->standing = READY;
        l->o.crew->lost[rank] = false;
    }
    return pq_prefix(l->ctx, take_result(l, (size_t)i, line), "rank %d", rank);
}

static pq_status on_message(pq_leader *l, int rank)
{
    member *x = &l->member[rank];
    const char *text = l->text;
    if (strncmp(text, "done ", 5) == 0) return on_done(l, rank, text + 5);
    if (strncmp(text, "fail ", 5) == 0) {
        char why[256];
        snprintf(why, sizeof why, "cannot work: %s", text + 5);
        give_up(l, rank, UNFIT, why);
    } else if (strncmp(text, "hello ", 6) == 0 && x->standing == AWAY) {
        x->standing = READY;
        if (strcmp(text + 6, l->m->journal.context) != 0)
            give_up(l, rank, UNFIT,
                    "has another model, ranges, images or processor: it would measure other "
                    "figures");
    } else
        return pq_fail(l->ctx, PQ_E_FORMAT, "rank %d: unexpected message '%.20s'", rank, text);
    return PQ_OK;
}

/* Someone who takes eight times as long as anyone has taken is not waited for. */
static void look_for_lost(pq_leader *l)
{
    const double now = pq_meter_now();
    const double most = 8 * l->longest > l->o.crew->patience ? 8 * l->longest : l->o.crew->patience;
    for (int r = 1; l->longest > 0 && r < l->o.crew->size; r++) {
        const member *x = &l->member[r];
        if (x->standing == READY && x->n_held && now - x->since > most)
            give_up(l, r, LOST, "does not answer");
    }
}

/* Everything that has arrived, after waiting for the first for so long, and what follows from it.
 */
static void serve(pq_leader *l, double seconds)
{
    const pq_crew *crew = l->o.crew;
    for (int from; l->st == PQ_OK; seconds = 0) {
        from = crew->receive(crew->user, l->text, l->room, seconds);
        if (from < 1 || from >= crew->size) break;
        l->st = on_message(l, from);
    }
    if (l->st != PQ_OK) return;
    look_for_lost(l);
    hand_out(l);
}

static void between_images(void *user) { serve(user, 0); }

pq_status pq_leader_start(pq_ctx *ctx, pq_leader **out, const pq_lead *lead)
{
    pq_leader *l = NULL;
    pq_status st;
    *out = NULL;
    PQ_TRY(pq_alloc(ctx, &l, 1, sizeof *l));
    l->ctx = ctx;
    l->o = *lead;
    l->m = lead->runner->m;
    l->n_open = lead->n;
    l->room = l->m->n_ops + 4096;
    PQ_TRY(pq_alloc(ctx, &l->member, (size_t)lead->crew->size, sizeof *l->member));
    PQ_TRY(pq_alloc(ctx, &l->progress, lead->n, 1));
    PQ_TRY(pq_alloc(ctx, &l->text, l->room, 1));
    PQ_TRY(pq_runner_init(ctx, &l->names, l->m, lead->runner->units, NULL));
    l->began = pq_meter_now();
    l->m->between = between_images;
    l->m->between_user = l;
    *out = l;
    l = NULL;
out:
    pq_leader_free(l);
    return st;
}

void pq_leader_free(pq_leader *l)
{
    if (!l) return;
    if (l->m) l->m->between = NULL;
    pq_runner_clear(&l->names);
    pq_free(l->member);
    pq_free(l->progress);
    pq_free(l->text);
    pq_free(l);
}

static pq_status run_own(pq_ctx *ctx, pq_leader *l, size_t i)
{
    const double began = pq_meter_now();
    pq_entry e;
    pq_status st = pq_runner_run(ctx, &e, l->o.runner, &l->o.task[i]);
    if (st == PQ_OK) st = l->st;
    if (st != PQ_OK) return st;
    const double took = pq_meter_now() - began;
    if (took > l->longest) l->longest = took;
    l->n_own++;
    if (l->progress[i] == DONE) return PQ_OK;
    l->progress[i] = DONE;
    return l->o.put(ctx, l->o.user, &l->o.task[i], &e);
}

static bool any_given(const pq_leader *l)
{
    for (size_t i = 0; i < l->o.n; i++)
        if (l->progress[i] == GIVEN) return true;
    return false;
}

pq_status pq_leader_run(pq_ctx *ctx, pq_leader *l)
{
    pq_status st = l->st;
    while (st == PQ_OK) {
        serve(l, 0);
        if ((st = l->st) != PQ_OK) break;
        const size_t i = pq_meter_late(l->m) ? l->o.n : take(l);
        if (i < l->o.n) {
            st = run_own(ctx, l, i);
            continue;
        }
        if (!any_given(l)) break;
        const double began = pq_meter_now();
        serve(l, 0.05);
        l->idle += pq_meter_now() - began;
        st = l->st;
    }
    const double all = pq_meter_now() - l->began;
    if (st == PQ_OK)
        pq_log(ctx, PQ_LOG_INFO, "sweep", "rank 0: %zu measured, idle %.1f %% of %.1f s", l->n_own,
               all > 0 ? 100 * l->idle / all : 0, all);
    return st;
}

static bool said_goodbye(pq_ctx *ctx, int rank, const char *text)
{
    char *end;
    if (strncmp(text, "bye ", 4) != 0) return false;
    const unsigned long long n = strtoull(text + 4, &end, 10);
    const double idle = strtod(end, &end), all = strtod(end, &end);
    if (all > 0)
        pq_log(ctx, PQ_LOG_INFO, "sweep", "rank %d: %llu measured, idle %.1f %% of %.1f s", rank, n,
               100 * idle / all, all);
    return true;
}

bool pq_crew_dismiss(pq_ctx *ctx, const pq_crew *crew)
{
    /* Seconds: one may still be decoding its images; one that was lost may be there again. */
    static const double grace = 60, grace_lost = 2;
    const double began = pq_meter_now();
    char text[8192];
    int left = crew->size - 1, lost = 0;
    for (int r = 1; r < crew->size; r++) {
        if (!crew->send(crew->user, r, "stop")) crew->lost[r] = true;
        lost += crew->lost[r];
    }
    while (left > 0 && pq_meter_now() - began < (left > lost ? grace : grace_lost)) {
        const int from = crew->receive(crew->user, text, sizeof text, 0.1);
        if (from < 1 || from >= crew->size || !said_goodbye(ctx, from, text)) continue;
        left--;
        lost -= crew->lost[from];
        crew->lost[from] = false;
    }
    return left == 0;
}
