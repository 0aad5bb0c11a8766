/* Two branches. At batch 1 a launch fills a fraction of the GPU, and a network is as long as its
 * longest path: what is not on it (the head of one level while the neck makes the next,
 * convolutions beside a stage) runs on a second stream. The main branch keeps the order of the
 * steps, the side takes its own in the order in which they become ready. Between branches a step
 * waits for the last one it needs. */
#include <math.h>
#include <stdlib.h>

#include "engine/cuda/cuda.h"

/* Microseconds: of a launch, of a million products, and of waiting for the other branch; of an H200
 * at batch 1. Only their proportions count. */
static const double launch_us = 3.5, mega_us = 0.012, wait_us = 1.0;

/* A step as branches see it. */
typedef struct item {
    int *needs; /* [n_needs] the steps that it reads from, all before it */
    int n_needs;
    double slack;     /* how much longer it could take if all ran side by side */
    double cost, end; /* microseconds; end: when, of a simulation */
    bool launched;    /* it is a launch of its own */
    bool fixed; /* to the main branch: gives an output of the network, or needs the image alone */
    int ready, due; /* steps of the main branch: the last it needs, the first that needs it */
} item;

typedef struct plan {
    cu_session *s;
    int n, n_side;
    item *item;  /* [n] */
    item **side; /* [n_side], in their order */
    int *needs;  /* what the items' lie in */
} plan;

/* ---- what reads from whom ---- */

typedef struct writers {
    int *step;
    pq_slot_id *into; /* root */
    size_t n;
} writers;

static void add_writer(plan *p, writers *w, size_t step, pq_slot_id id)
{
    const pq_program *q = p->s->program;
    int unused;
    const pq_slot_id root = cu_root_of(p->s, id, &unused);
    if (q->slot[id].last == p->n || q->slot[root].last == p->n) p->item[step].fixed = true;
    w->step[w->n] = (int)step;
    w->into[w->n++] = root;
}

static void find_writers(plan *p, writers *w)
{
    const cu_session *s = p->s;
    const pq_program *q = s->program;
    for (size_t i = 0; i < q->n_slots; i++)
        if (s->slot[i].owner >= 0 && s->slot[i].needed)
            add_writer(p, w, s->step[s->slot[i].owner].leader, (pq_slot_id)i);
    for (size_t i = 0; i < s->n_extra; i++)
        add_writer(p, w, s->step[s->slot[s->extra[i].from].owner].leader, s->extra[i].to);
    for (size_t i = 0; i < q->n_steps; i++)
        for (int k = 0; k < q->step[i].n_out && !s->step[i].skip; k++)
            if (s->slot[q->step[i].out[k]].owner < 0)
                add_writer(p, w, s->step[i].leader, q->step[i].out[k]);
}

/* Step j reads `id`: from everything before that writes into the same bytes. */
static void need(plan *p, size_t j, pq_slot_id id, const writers *w)
{
    item *x = &p->item[j];
    int unused;
    if (id == PQ_NONE || p->s->program->slot[id].constant) return;
    const pq_slot_id root = cu_root_of(p->s, id, &unused);
    for (size_t k = 0; k < w->n; k++) {
        bool known = w->into[k] != root || w->step[k] >= (int)j;
        for (int i = 0; i < x->n_needs && !known; i++) known = x->needs[i] == w->step[k];
        if (!known) x->needs[x->n_needs++] = w->step[k];
    }
}

static void find_needs(plan *p, const writers *w)
{
    const cu_session *s = p->s;
    const pq_program *q = s->program;
    int room = 0;
    for (int j = 0; j < p->n; room += j++) p->item[j].needs = p->needs + room;
    for (size_t i = 0; i < q->n_steps; i++) {
        const size_t j = s->step[i].leader;
        item *x = &p->item[j];
        if (s->step[i].skip) continue;
        x->launched = true;
        for (int k = 0; k < q->step[i].n_in; k++) need(p, j, q->step[i].in[k], w);
        need(p, j, q->step[i].residual, w);
        if (i == j) x->cost += launch_us;
        if (cu_is_weighted(s, i))
            x->cost += mega_us * 1e-6 * (double)pq_node_macs(q->graph, cu_node_of(s, i));
    }
    for (int j = 0; j < p->n; j++) p->item[j].fixed |= !p->item[j].launched || !p->item[j].n_needs;
}

/* ---- choosing ---- */

static bool on_side(const plan *p, const item *x) { return p->s->step[x - p->item].side; }

static int by_readiness(const void *a, const void *b)
{
    const item *x = *(item *const *)a, *y = *(item *const *)b;
    if (x->ready != y->ready) return x->ready < y->ready ? -1 : 1;
    if (x->due != y->due) return x->due < y->due ? -1 : 1;
    return x < y ? -1 : x > y;
}

/* The side's order. Who needs another of the side is ready no sooner and due no sooner. */
static void order(plan *p)
{
    p->n_side = 0;
    for (int j = 0; j < p->n; j++) {
        item *x = &p->item[j];
        x->ready = -1;
        x->due = p->n;
        for (int k = 0; k < x->n_needs; k++) {
            const item *y = &p->item[x->needs[k]];
            const int ready = on_side(p, y) ? y->ready : x->needs[k];
            if (ready > x->ready) x->ready = ready;
        }
        if (on_side(p, x)) p->side[p->n_side++] = x;
    }
    for (int j = p->n; j-- > 0;) {
        item *x = &p->item[j];
        const int due = on_side(p, x) ? x->due : j;
        for (int k = 0; k < x->n_needs; k++)
            if (due < p->item[x->needs[k]].due) p->item[x->needs[k]].due = due;
    }
    qsort(p->side, (size_t)p->n_side, sizeof *p->side, by_readiness);
}

static double run(plan *p, item *x, double free_at)
{
    const bool side = on_side(p, x);
    double start = free_at;
    for (int k = 0; k < x->n_needs; k++) {
        const item *y = &p->item[x->needs[k]];
        const double ready = y->end + (on_side(p, y) != side ? wait_us : 0);
        if (ready > start) start = ready;
    }
    x->end = start + x->cost;
    return x->end;
}

/* When all is done. A step of the side has what it needs once the main branch is past `ready`. */
static double simulate(plan *p)
{
    double free_at[2] = {0, 0};
    int next = 0;
    order(p);
    for (int j = 0; j < p->n; j++) {
        item *x = &p->item[j];
        while (next < p->n_side && p->side[next]->ready < j) {
            free_at[1] = run(p, p->side[next], free_at[1]);
            next++;
        }
        if (x->launched && !on_side(p, x)) free_at[0] = run(p, x, free_at[0]);
    }
    return free_at[0];
}

static int by_slack(const void *a, const void *b)
{
    const item *x = *(item *const *)a, *y = *(item *const *)b;
    if (x->slack != y->slack) return x->slack > y->slack ? -1 : 1;
    return x > y ? -1 : x < y;
}

/* In `to`, those that may move; what is farthest off the longest path comes first. */
static int find_slack(plan *p, item **to)
{
    double longest = 0;
    int n = 0;
    for (int j = 0; j < p->n; j++) {
        item *x = &p->item[j];
        x->end = x->cost;
        for (int k = 0; k < x->n_needs; k++)
            x->end = fmax(x->end, p->item[x->needs[k]].end + x->cost);
        longest = fmax(longest, x->end);
    }
    for (int j = 0; j < p->n; j++) p->item[j].slack = longest; /* when it must end */
    for (int j = p->n; j-- > 0;) {
        item *x = &p->item[j];
        for (int k = 0; k < x->n_needs; k++) {
            item *y = &p->item[x->needs[k]];
            y->slack = fmin(y->slack, x->slack - x->cost);
        }
    }
    for (int j = 0; j < p->n; j++) {
        p->item[j].slack -= p->item[j].end;
        if (!p->item[j].fixed) to[n++] = &p->item[j];
    }
    qsort(to, (size_t)n, sizeof *to, by_slack);
    return n;
}

/* Each moves where all is done sooner then. */
static void choose(plan *p, item **candidate)
{
    const int n = find_slack(p, candidate);
    double least = simulate(p);
    for (int i = 0; i < n; i++) {
        bool *side = &p->s->step[candidate[i] - p->item].side;
        *side = true;
        const double t = simulate(p);
        if (t < least - wait_us / 2)
            least = t;
        else
            *side = false;
    }
    order(p);
}

/* Whom each waits for, and between which steps of the main branch a step of the side may run. */
static void find_waits(plan *p)
{
    cu_step *const step = p->s->step;
    int joined = 0, from = -1;
    for (int j = 0; j < p->n; j++) {
        step[j].from = step[j].to = j;
        step[j].wait = -1;
    }
    for (int i = 0; i < p->n_side; i++) {
        cu_step *x = &step[p->side[i] - p->item];
        x->place = i;
        x->from = p->side[i]->ready;
        if (x->from > from) x->wait = from = x->from;
    }
    for (int j = 0; j < p->n; j++) {
        const item *x = &p->item[j];
        int last = -1;
        if (!x->launched || step[j].side) continue;
        for (int k = 0; k < x->n_needs; k++)
            if (step[x->needs[k]].side && step[x->needs[k]].place > last)
                last = step[x->needs[k]].place;
        if (last < joined) continue;
        step[j].wait = (int)(p->side[last] - p->item);
        for (; joined <= last; joined++) step[p->side[joined] - p->item].to = j;
    }
}

pq_status cu_branch(pq_ctx *ctx, cu_session *s)
{
    const size_t n = s->program->n_steps;
    size_t most = s->program->n_slots + s->n_extra;
    plan p = {.s = s, .n = (int)n};
    item **candidate = NULL;
    writers w = {0};
    pq_status st;
    for (size_t i = 0; i < n; i++) most += (size_t)s->program->step[i].n_out;
    PQ_TRY(pq_alloc(ctx, &p.item, n, sizeof *p.item));
    PQ_TRY(pq_alloc(ctx, &p.side, n, sizeof(item *)));
    PQ_TRY(pq_alloc(ctx, &candidate, n, sizeof(item *)));
    PQ_TRY(pq_alloc(ctx, &p.needs, n * n / 2 + 1, sizeof *p.needs));
    PQ_TRY(pq_alloc(ctx, &w.step, most, sizeof *w.step));
    PQ_TRY(pq_alloc(ctx, &w.into, most, sizeof *w.into));
    find_writers(&p, &w);
    find_needs(&p, &w);
    choose(&p, candidate);
    find_waits(&p);
out:
    pq_free(p.item);
    pq_free(p.side);
    pq_free(candidate);
    pq_free(p.needs);
    pq_free(w.step);
    pq_free(w.into);
    return st;
}
