/* Who is fastest alone, run again and again, need not be in the network: there code is fetched anew
 * and the other branch wants its share. So what came near is tried there, one layer after the
 * other. */
#include <math.h>
#include <stdlib.h>

#include "base/rng.h"
#include "engine/cuda/cuda.h"

enum { RUNS = 21 };
static const float WORTH = 0.001f; /* of the network's time */
static const float LONGEST_MS = 2; /* longer networks fill the GPU by themselves: nothing is won */

typedef struct trial {
    cu_session *s;
    cudaGraphExec_t exec, other; /* of what is chosen, of a rival */
    cudaEvent_t event[2 * RUNS + 1];
} trial;

/* Levels of a picture without a picture: times may go by the numbers. */
static pq_status fill_inputs(pq_ctx *ctx, const cu_session *s)
{
    float *noise = NULL;
    pq_rng rng = {1};
    pq_status st = PQ_OK;
    for (size_t i = 0; i < s->base.n_inputs; i++) {
        const size_t n = (size_t)pq_shape_count(&s->base.input_shape[i]);
        PQ_TRY(pq_alloc(ctx, &noise, n, sizeof *noise));
        for (size_t k = 0; k < n; k++) noise[k] = (float)pq_rng_below(&rng, 256);
        CU_TRY(ctx, cudaMemcpy(s->input[i], noise, n * sizeof *noise, cudaMemcpyHostToDevice));
        pq_free(noise);
        noise = NULL;
    }
out:
    pq_free(noise);
    return st;
}

static int by_size(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static float median(float *x, int n)
{
    qsort(x, (size_t)n, sizeof *x, by_size);
    return x[n / 2];
}

/* Both in pairs, either first in turn; *saved: the median of what the rival takes less,
 * milliseconds; *each: of a run. */
static pq_status compare(pq_ctx *ctx, const trial *t, float *saved, float *each)
{
    float difference[RUNS], ms[RUNS], first, second;
    cudaStream_t stream = t->s->stream;
    pq_status st = PQ_OK;
    for (int i = 0; i < 2 * RUNS; i++) {
        CU_TRY(ctx, cudaEventRecord(t->event[i], stream));
        CU_TRY(ctx, cudaGraphLaunch(i % 4 % 3 ? t->other : t->exec, stream));
    }
    CU_TRY(ctx, cudaEventRecord(t->event[2 * RUNS], stream));
    CU_TRY(ctx, cudaStreamSynchronize(stream));
    for (int i = 0; i < RUNS; i++) {
        CU_TRY(ctx, cudaEventElapsedTime(&first, t->event[2 * i], t->event[2 * i + 1]));
        CU_TRY(ctx, cudaEventElapsedTime(&second, t->event[2 * i + 1], t->event[2 * i + 2]));
        ms[i] = i % 2 ? second : first;
        difference[i] = i % 2 ? second - first : first - second;
    }
    *saved = median(difference, RUNS);
    *each = median(ms, RUNS);
out:
    return st;
}

static void choose(const trial *t, const cu_node *like, cu_choice c)
{
    for (size_t i = 0; i < t->s->n_nodes; i++) {
        cu_node *n = &t->s->node[i];
        if (n->kind >= 0 && cu_same_shape(n, like)) cu_choose(t->s, n, c);
    }
}

static pq_status try_rivals(pq_ctx *ctx, trial *t, const cu_fresh *fresh)
{
    const cu_node *n = &t->s->node[fresh->node];
    float saved, each;
    pq_status st = PQ_OK;
    for (int i = 1; i < fresh->n; i++) {
        const cu_choice before = n->how;
        choose(t, n, fresh->rival[i]);
        PQ_TRY(cu_capture(ctx, &t->other, t->s));
        PQ_TRY(compare(ctx, t, &saved, &each));
        if (saved > WORTH * each) {
            cudaGraphExec_t slower = t->exec;
            t->exec = t->other;
            t->other = slower;
        } else
            choose(t, n, before);
        cudaGraphExecDestroy(t->other);
        t->other = NULL;
    }
out:
    return st;
}

pq_status cu_settle(pq_ctx *ctx, cu_session *s, const cu_fresh *fresh, size_t n)
{
    trial t = {.s = s};
    float unused, each;
    pq_status st;
    PQ_TRY(fill_inputs(ctx, s));
    for (int i = 0; i <= 2 * RUNS; i++) CU_TRY(ctx, cudaEventCreate(&t.event[i]));
    PQ_TRY(cu_capture(ctx, &t.exec, s));
    t.other = t.exec; /* against itself: how long it takes */
    st = compare(ctx, &t, &unused, &each);
    t.other = NULL;
    for (size_t i = 0; i < n && st == PQ_OK && each < LONGEST_MS; i++)
        st = try_rivals(ctx, &t, &fresh[i]);
out:
    if (t.exec) cudaGraphExecDestroy(t.exec);
    if (t.other) cudaGraphExecDestroy(t.other);
    for (int i = 0; i <= 2 * RUNS; i++)
        if (t.event[i]) cudaEventDestroy(t.event[i]);
    return st;
}
