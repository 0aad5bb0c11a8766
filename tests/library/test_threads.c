/* What the headers promise of threads: contexts, sessions and loaders in different threads do not
 * meet, and graphs, plans, heads and annotations may be shared where nobody writes to them. Under
 * the thread sanitizer (make tsan) this finds races; everywhere it compares results bit for bit. */
#include "support/tiny.h"

#include <pquant/pquant.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { THREADS = 2, RUNS = 4, PICTURES = 3 };

/* Written before the threads start, only read from then on. */
typedef struct shared {
    const pq_engine *engine;
    pq_graph *graph;
    pq_plan *plan;
    pq_head head;
    pq_image picture[PICTURES];
} shared;

typedef struct worker {
    const shared *common;
    pthread_t thread;
    pq_status st;
    char text[256];
    pq_detections found[PICTURES];
} worker;

/* Compile, and find boxes on every picture, several times over. */
static pq_status work(pq_ctx *ctx, worker *w)
{
    const shared *c = w->common;
    const pq_compile_opts opts = {.threads = 1};
    pq_session *s = NULL;
    pq_tensor input = {0}, *output = NULL;
    pq_prep prep;
    pq_geometry geo;
    pq_status st = pq_compile(ctx, &s, c->engine, c->graph, c->plan, &opts);
    if (st == PQ_OK) st = pq_session_outputs(ctx, &output, s);
    if (st == PQ_OK) st = pq_tensor_new(ctx, &input, PQ_F32, &s->input_shape[0]);
    pq_head_prep(&prep, &c->head);
    for (int i = 0; st == PQ_OK && i < RUNS * PICTURES; i++) {
        pq_detections *found = &w->found[i % PICTURES];
        const int64_t id = i % PICTURES;
        found->n = 0;
        st = pq_preprocess(ctx, pq_tensor_data(&input), &geo, &c->picture[id], &prep);
        if (st == PQ_OK) st = pq_run(ctx, s, &input, 1, output, s->n_outputs);
        if (st == PQ_OK)
            st = pq_head_decode(ctx, found, &c->head, output, s->n_outputs, 1, &geo, &id);
    }
    pq_tensor_clear(&input);
    pq_session_outputs_free(output, s);
    pq_session_free(s);
    return st;
}

/* Ends with a failure that names the thread, so that mixed-up texts would be seen. */
static void *in_thread(void *user)
{
    worker *w = user;
    pq_ctx *ctx;
    pq_image none = {0};
    char name[32];
    if ((w->st = pq_ctx_new(&ctx)) != PQ_OK) return NULL;
    pq_ctx_set_threads(ctx, 1);
    w->st = work(ctx, w);
    snprintf(name, sizeof name, "picture of %p", (void *)w);
    if (w->st == PQ_OK && pq_image_decode(ctx, &none, "text", 4, name) == PQ_OK)
        w->st = PQ_E_INTERNAL;
    snprintf(w->text, sizeof w->text, "%s", pq_ctx_error(ctx));
    if (w->st == PQ_OK && !strstr(w->text, name)) w->st = PQ_E_INTERNAL;
    pq_ctx_free(ctx);
    return NULL;
}

static void clear(worker *w)
{
    for (int i = 0; i < PICTURES; i++) pq_detections_clear(&w->found[i]);
}

static void same(const pq_detections *a, const pq_detections *b)
{
    assert_int_equal(a->n, b->n);
    for (size_t i = 0; i < a->n; i++) {
        const pq_detection *p = &a->at[i], *q = &b->at[i];
        assert_int_equal(p->cls, q->cls);
        assert_true(p->score == q->score && p->x == q->x && p->y == q->y && p->w == q->w &&
                    p->h == q->h);
    }
}

static void run(const char *engine, tiny_family family, bool int8)
{
    pq_ctx *ctx;
    shared c = {0};
    assert_int_equal(pq_ctx_new(&ctx), PQ_OK);
    pq_ctx_set_threads(ctx, 1);
    PQ_CHECK(ctx, pq_engine_find(ctx, &c.engine, engine));
    c.graph = tiny_detector(ctx, family);
    if (int8)
        c.plan = tiny_int8_plan(ctx, c.graph, PQ_SCHEME_U8, PICTURES);
    else
        PQ_CHECK(ctx, pq_plan_float(ctx, &c.plan, c.graph, PQ_PREC_FP32));
    PQ_CHECK(ctx, pq_head_detect(ctx, &c.head, c.graph));
    for (int i = 0; i < PICTURES; i++) tiny_picture(ctx, &c.picture[i], i);

    worker alone = {.common = &c}, together[THREADS];
    in_thread(&alone);
    assert_int_equal(alone.st, PQ_OK);
    assert_true(alone.found[0].n > 0);
    for (int t = 0; t < THREADS; t++) together[t] = (worker){.common = &c};
    for (int t = 0; t < THREADS; t++)
        assert_int_equal(pthread_create(&together[t].thread, NULL, in_thread, &together[t]), 0);
    for (int t = 0; t < THREADS; t++) {
        pthread_join(together[t].thread, NULL);
        assert_int_equal(together[t].st, PQ_OK);
        for (int i = 0; i < PICTURES; i++) same(&together[t].found[i], &alone.found[i]);
        clear(&together[t]);
    }
    clear(&alone);
    for (int i = 0; i < PICTURES; i++) pq_image_clear(&c.picture[i]);
    pq_plan_free(c.plan);
    pq_graph_free(c.graph);
    pq_ctx_free(ctx);
}

static void test_ref(void **state)
{
    (void)state;
    run("ref", TINY_DAMO, true);
    run("ref", TINY_YOLOX, false);
}

static void test_cpu_float(void **state)
{
    (void)state;
    run("cpu", TINY_DAMO, false);
    run("cpu", TINY_YOLOX, false);
}

static void test_cpu_int8(void **state)
{
    (void)state;
    run("cpu", TINY_DAMO, true);
    run("cpu", TINY_YOLOX, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ref),
        cmocka_unit_test(test_cpu_float),
        cmocka_unit_test(test_cpu_int8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
