/* A sweep by several ranks gives what one gives, whatever happens to the others; so do shards whose
 * journals are merged. Ranks are threads here. */
#include <pquant/pquant.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "network.h"
#include "support/tiny.h"

enum { N_PICTURES = 4 };

static struct {
    pq_ctx *ctx;
    char dir[64];
    pq_graph *g;
    pq_ranges *ranges;
    pq_coco *coco;
    pq_dataset *data;
    pq_prep prep;
    pq_head head;
    const pq_engine *engine;
} w;

static void in_folder(char out[128], const char *name) { snprintf(out, 128, "%s/%s", w.dir, name); }

static int set_up(void **state)
{
    char images[128], ann[128];
    (void)state;
    strcpy(w.dir, "/tmp/pquant-crew-XXXXXX");
    if (!mkdtemp(w.dir) || pq_ctx_new(&w.ctx) != PQ_OK) return 1;
    w.g = tiny_detector(w.ctx, TINY_YOLOX);
    tiny_data(w.ctx, w.dir, w.g, 1, N_PICTURES);
    in_folder(images, "images");
    in_folder(ann, "ann.json");
    PQ_CHECK(w.ctx, pq_coco_load(w.ctx, &w.coco, ann));
    PQ_CHECK(w.ctx, pq_dataset_from_coco(w.ctx, &w.data, w.coco, images, 0));
    PQ_CHECK(w.ctx, pq_head_detect(w.ctx, &w.head, w.g));
    pq_head_prep(&w.prep, &w.head);
    PQ_CHECK(w.ctx, pq_engine_find(w.ctx, &w.engine, "cpu"));
    PQ_CHECK(w.ctx, pq_calibrate(w.ctx, &w.ranges, w.engine, w.g, w.data, &w.prep,
                                 &(pq_calibrate_opts){.calibrator = PQ_CALIB_MAX, .threads = 1}));
    return 0;
}

static void remove_files(const char *dir)
{
    char **name, path[256];
    size_t n;
    if (pq_dir_list(w.ctx, &name, &n, dir) != PQ_OK) return;
    for (size_t i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, name[i]);
        unlink(path);
        pq_free(name[i]);
    }
    pq_free(name);
    rmdir(dir);
}

static int tear_down(void **state)
{
    char images[128];
    (void)state;
    in_folder(images, "images");
    remove_files(images);
    remove_files(w.dir);
    pq_dataset_free(w.data);
    pq_coco_free(w.coco);
    pq_ranges_free(w.ranges);
    pq_graph_free(w.g);
    pq_ctx_free(w.ctx);
    return 0;
}

static pq_status new_meter(pq_ctx *ctx, pq_meter **m, const char *journal, pq_head *head)
{
    const pq_meter_opts o = {.engine = w.engine,
                             .graph = w.g,
                             .ranges = w.ranges,
                             .scheme = PQ_SCHEME_U8,
                             .data = w.data,
                             .coco = w.coco,
                             .prep = &w.prep,
                             .head = head,
                             .threads = 1,
                             .journal = journal};
    return pq_meter_new(ctx, m, &o);
}

/* ---- the other ranks ---- */

typedef enum nature {
    GOOD,
    SILENT,   /* says hello, and nothing from then on */
    GONE,     /* likewise, and cannot be reached */
    TARDY,    /* gives its first answer when nobody waits for it any more */
    UNFIT,    /* cannot work */
    DIFFERENT /* has another idea of what a detection is */
} nature;

typedef struct rank {
    network *net;
    int number;
    nature nature;
    bool slept;
    bool (*send)(void *user, int to, const char *text);
    pq_crew crew;
    pq_status st;
} rank;

static bool send_late(void *user, int to, const char *text)
{
    rank *r = user;
    if (strncmp(text, "done", 4) == 0 && !r->slept) {
        r->slept = true;
        nanosleep(&(struct timespec){.tv_nsec = 400000000}, NULL);
    }
    const pq_crew *c = network_crew(r->net, r->number);
    return c->send(c->user, to, text);
}

static int receive_late(void *user, char *text, size_t room, double seconds)
{
    const rank *r = user;
    const pq_crew *c = network_crew(r->net, r->number);
    return c->receive(c->user, text, room, seconds);
}

/* Says hello and never another word, until it is sent home. */
static void be_silent(rank *r, const pq_meter *m)
{
    const pq_crew *c = network_crew(r->net, r->number);
    char text[256];
    snprintf(text, sizeof text, "hello %s", m->journal.context);
    c->send(c->user, 0, text);
    if (r->nature == GONE) {
        while (c->receive(c->user, text, sizeof text, 0.05) < 0) {
        }
        network_cut(r->net, r->number);
        return;
    }
    while (strcmp(text, "stop") != 0) c->receive(c->user, text, sizeof text, 1);
}

static void *work(void *user)
{
    rank *r = user;
    const pq_crew *c = network_crew(r->net, r->number);
    pq_meter *m = NULL;
    pq_ctx *ctx;
    pq_head head = w.head;
    if (r->nature == DIFFERENT) head.conf = 0.5;
    if ((r->st = pq_ctx_new(&ctx)) != PQ_OK) return NULL;
    r->st = new_meter(ctx, &m, NULL, &head);
    if (r->st == PQ_OK && r->nature == UNFIT)
        pq_crew_decline(c, "no reason");
    else if (r->st == PQ_OK && (r->nature == SILENT || r->nature == GONE))
        be_silent(r, m);
    else if (r->st == PQ_OK && r->nature == TARDY) {
        r->crew = *c;
        r->crew.user = r;
        r->crew.send = send_late;
        r->crew.receive = receive_late;
        r->st = pq_crew_work(ctx, &r->crew, m);
    } else if (r->st == PQ_OK)
        r->st = pq_crew_work(ctx, c, m);
    pq_meter_free(m);
    pq_ctx_free(ctx);
    return NULL;
}

/* ---- sweeps ---- */

static pq_scores *sweep_with(pq_sweep_kind kind, const nature *other, int n_others,
                             const char *journal, bool all_come_home)
{
    network *net = network_new(n_others + 1, 0.1);
    rank r[MOST_RANKS] = {0};
    pthread_t thread[MOST_RANKS];
    pq_meter *m;
    pq_scores *s = NULL;
    for (int i = 0; i < n_others; i++) {
        r[i] = (rank){.net = net, .number = i + 1, .nature = other[i]};
        assert_int_equal(pthread_create(&thread[i], NULL, work, &r[i]), 0);
    }
    PQ_CHECK(w.ctx, new_meter(w.ctx, &m, journal, &w.head));
    pq_crew *crew = network_crew(net, 0);
    network_wait(net, (size_t)n_others); /* what each begins with */
    const pq_status st = pq_sweep_with(w.ctx, &s, m, &(pq_sweep_opts){.kind = kind, .crew = crew});
    const bool all = pq_crew_dismiss(w.ctx, crew);
    for (int i = 0; i < n_others; i++) {
        assert_int_equal(pthread_join(thread[i], NULL), 0);
        assert_int_equal(r[i].st, PQ_OK);
    }
    PQ_CHECK(w.ctx, st);
    assert_int_equal(all, all_come_home);
    pq_meter_free(m);
    network_free(net);
    return s;
}

static pq_scores *sweep_alone(pq_sweep_kind kind, const char *journal, size_t *n_measured)
{
    pq_meter *m;
    pq_scores *s;
    PQ_CHECK(w.ctx, new_meter(w.ctx, &m, journal, &w.head));
    PQ_CHECK(w.ctx, pq_sweep(w.ctx, &s, m, kind));
    if (n_measured) *n_measured = pq_meter_count(m);
    pq_meter_free(m);
    return s;
}

static void assert_same(const pq_scores *a, const pq_scores *b)
{
    assert_int_equal(a->units.n, b->units.n);
    for (size_t u = 0; u < a->units.n; u++) {
        const pq_score *x = &a->unit[u], *y = &b->unit[u];
        assert_int_equal(x->measured, y->measured);
        assert_int_equal(x->screened, y->screened);
        assert_true(x->measured || x->screened);
        assert_true(x->error == y->error && x->error_alone == y->error_alone);
        assert_true(x->ap_quantized == y->ap_quantized && x->ap_reverted == y->ap_reverted);
        assert_true(x->damage == y->damage && x->low == y->low && x->high == y->high);
    }
    assert_true(a->error_far == b->error_far && a->int8.drop == b->int8.drop);
}

/* Scores and journal of a crew against those of one. */
static void compare(pq_sweep_kind kind, const nature *other, int n_others, bool all_come_home)
{
    char journal[128];
    size_t n = 0;
    in_folder(journal, "crew.jsonl");
    unlink(journal);
    pq_scores *one = sweep_alone(kind, NULL, &n);
    assert_true(n > one->units.n);
    pq_scores *many = sweep_with(kind, other, n_others, journal, all_come_home);
    pq_scores *again = sweep_alone(kind, journal, &n);
    assert_same(one, many);
    assert_same(one, again);
    assert_int_equal(n, 0); /* the journal has everything */
    pq_scores_free(one);
    pq_scores_free(many);
    pq_scores_free(again);
}

static void any_number_gives_the_same(void **state)
{
    static const nature good[MOST_RANKS] = {GOOD, GOOD, GOOD, GOOD};
    (void)state;
    for (int n = 1; n < MOST_RANKS; n++) {
        compare(PQ_SWEEP_AP, good, n, true);
        compare(PQ_SWEEP_SCREEN, good, n, true);
    }
}

static void who_does_not_answer_is_replaced(void **state)
{
    (void)state;
    compare(PQ_SWEEP_AP, (nature[]){SILENT, GOOD}, 2, false);
    compare(PQ_SWEEP_AP, (nature[]){GONE, GOOD}, 2, false);
    compare(PQ_SWEEP_AP, (nature[]){SILENT, GONE, SILENT}, 3, false);
}

static void who_is_late_is_welcome(void **state)
{
    (void)state;
    compare(PQ_SWEEP_AP, (nature[]){TARDY, GOOD}, 2, true);
}

static void who_cannot_or_differs_is_left_out(void **state)
{
    (void)state;
    compare(PQ_SWEEP_AP, (nature[]){UNFIT, GOOD, DIFFERENT}, 3, true);
}

/* ---- shards ---- */

static void shards_make_a_whole(void **state)
{
    enum { SHARDS = 3 };
    char path[SHARDS][128], whole[128];
    const char *from[SHARDS];
    pq_merged count;
    size_t n;
    (void)state;
    for (size_t i = 0; i < SHARDS; i++) {
        char name[32];
        pq_meter *m;
        pq_scores *s;
        snprintf(name, sizeof name, "shard%zu.jsonl", i);
        in_folder(path[i], name);
        from[i] = path[i];
        PQ_CHECK(w.ctx, new_meter(w.ctx, &m, path[i], &w.head));
        PQ_CHECK(w.ctx, pq_sweep_shard(w.ctx, &s, m, PQ_SWEEP_AP, i + 1, SHARDS));
        for (size_t u = 0; u < s->units.n; u++)
            assert_int_equal(s->unit[u].measured, u % SHARDS == i && !s->units.fixed[u]);
        pq_scores_free(s);
        pq_meter_free(m);
    }
    in_folder(whole, "whole.jsonl");
    PQ_CHECK(w.ctx, pq_journal_merge(w.ctx, &count, whole, from, SHARDS));
    assert_int_equal(count.n_repeated, 2 * (SHARDS - 1)); /* both ends, which each measured */
    assert_int_equal(count.n_new, count.n_lines);
    pq_scores *one = sweep_alone(PQ_SWEEP_AP, NULL, NULL);
    pq_scores *merged = sweep_alone(PQ_SWEEP_AP, whole, &n);
    assert_same(one, merged);
    assert_int_equal(n, 0);
    pq_scores_free(one);
    pq_scores_free(merged);
}

static void no_such_shard(void **state)
{
    pq_meter *m;
    pq_scores *s;
    (void)state;
    PQ_CHECK(w.ctx, new_meter(w.ctx, &m, NULL, &w.head));
    PQ_CHECK_FAILS(w.ctx, pq_sweep_shard(w.ctx, &s, m, PQ_SWEEP_AP, 0, 2), PQ_E_INVALID,
                   "shard 0 of 2");
    PQ_CHECK_FAILS(w.ctx, pq_sweep_shard(w.ctx, &s, m, PQ_SWEEP_AP, 3, 2), PQ_E_INVALID,
                   "expected 1 to 2");
    pq_meter_free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_number_gives_the_same),
        cmocka_unit_test(who_does_not_answer_is_replaced),
        cmocka_unit_test(who_is_late_is_welcome),
        cmocka_unit_test(who_cannot_or_differs_is_left_out),
        cmocka_unit_test(shards_make_a_whole),
        cmocka_unit_test(no_such_shard),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
