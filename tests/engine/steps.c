/* Step by step, slot by slot. */
#include "steps.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <omp.h>

#include "base/mem.h"
#include "engine/cpu/cpu.h"
#include "engine/engines.h"

static size_t at_last(const pq_shape *s, size_t i)
{
    const size_t c = (size_t)s->dim[1], area = (size_t)(s->dim[2] * s->dim[3]);
    return (i / area / c * area + i % area) * c + i / area % c;
}

/* Where element i (NCHW) of a slot lies. */
static size_t place(const pq_stepped *s, pq_slot_id id, size_t i)
{
    const pq_slot *slot = &s->program->slot[id];
    return slot->shape.rank == 4 && s->channels_last(s, slot) ? at_last(&slot->shape, i) : i;
}

static void copy_slot(pq_stepped *to, const pq_stepped *from, pq_slot_id id)
{
    const pq_slot *slot = &to->program->slot[id];
    const size_t e = pq_dtype_size(slot->dtype);
    if (slot->constant) return;
    for (size_t i = 0; i < (size_t)pq_shape_count(&slot->shape); i++)
        memcpy((char *)to->ptr[id] + place(to, id, i) * e,
               (const char *)from->ptr[id] + place(from, id, i) * e, e);
}

static void compare_integers(steps_tally *t, const pq_stepped *a, const pq_stepped *b,
                             pq_slot_id id, const char *name)
{
    const pq_slot *slot = &a->program->slot[id];
    for (size_t i = 0; i < (size_t)pq_shape_count(&slot->shape); i++) {
        const double x = pq_element(slot->dtype, a->ptr[id], place(a, id, i));
        const int d = (int)fabs(x - pq_element(slot->dtype, b->ptr[id], place(b, id, i)));
        t->elements++;
        t->unequal += d > 0;
        if (d > t->worst) {
            t->worst = d;
            snprintf(t->where, sizeof t->where, "%s (%d levels)", name, d);
        }
    }
}

static void compare_reals(steps_tally *t, const pq_stepped *a, const pq_stepped *b, pq_slot_id id,
                          const char *name)
{
    const pq_slot *slot = &a->program->slot[id];
    double top = 1e-6, worst = 0;
    for (size_t i = 0; i < (size_t)pq_shape_count(&slot->shape); i++) {
        const double x = pq_element(slot->dtype, a->ptr[id], place(a, id, i));
        const double y = pq_element(slot->dtype, b->ptr[id], place(b, id, i));
        top = fmax(top, fabs(x));
        worst = pq_check_worse(worst, fabs(x - y));
    }
    double *to = slot->dtype == PQ_BF16 ? &t->bfloat : &t->real;
    if (worst / top <= *to) return;
    *to = worst / top;
    if (slot->dtype != PQ_BF16)
        snprintf(t->where, sizeof t->where, "%s (%.3g of the largest)", name, *to);
}

static void compare_outputs(steps_tally *t, const pq_stepped *a, const pq_stepped *b, size_t i)
{
    const pq_step *step = &a->program->step[i];
    const pq_graph *g = a->program->graph;
    const char *impl = ((const cpu_session *)b)->step[i].impl;
    char name[128];
    for (int k = 0; k < step->n_out; k++) {
        const pq_slot *slot = &a->program->slot[step->out[k]];
        snprintf(name, sizeof name, "%.40s %.40s",
                 step->convert ? "convert" : g->node[step->node].name, impl);
        if (slot->form == PQ_FORM_QUANTIZED)
            compare_integers(t, a, b, step->out[k], name);
        else
            compare_reals(t, a, b, step->out[k], name);
    }
}

void steps_compare(steps_tally *t, pq_ctx *ctx, const pq_graph *g, const pq_plan *plan,
                   const pq_tensor *in)
{
    pq_session *sa, *sb;
    const pq_compile_opts opts = {.threads = 2};
    PQ_CHECK(ctx, pq_compile(ctx, &sa, &pq_engine_ref, g, plan, &opts));
    PQ_CHECK(ctx, pq_compile(ctx, &sb, &pq_engine_cpu, g, plan, &opts));
    pq_stepped *a = (pq_stepped *)sa, *b = (pq_stepped *)sb;
    assert_int_equal(a->program->n_steps, b->program->n_steps);
    assert_int_equal(a->program->n_slots, b->program->n_slots);
    /* A cpu step may do an earlier one's work and read what that one read: keep all of ref's slots.
     */
    for (size_t i = 0; i < a->program->n_slots; i++)
        a->program->slot[i].last = (int)a->program->n_steps;
    pq_free(a->arena);
    PQ_CHECK(ctx, pq_stepped_allocate(ctx, a));
    omp_set_num_threads(2);
    pq_stepped_bind(a, in, NULL);
    pq_stepped_bind(b, NULL, NULL);
    for (size_t i = 0; i < a->program->n_steps; i++) {
        const pq_step *step = &b->program->step[i], *plain = &a->program->step[i];
        PQ_CHECK(ctx, a->run_step(ctx, a, i));
        for (int k = 0; k < step->n_in; k++) /* another slot: a later step does the work of one
                                                passed by, at which its input was copied */
            if (step->in[k] != PQ_NONE && step->in[k] == plain->in[k]) copy_slot(b, a, step->in[k]);
        if (!((cpu_session *)b)->step[i].run) continue;
        if (step->residual != PQ_NONE) copy_slot(b, a, step->residual);
        PQ_CHECK(ctx, b->run_step(ctx, b, i));
        compare_outputs(t, a, b, i);
    }
    pq_session_free(sa);
    pq_session_free(sb);
}
