/* Coarse data parallelism on plain threads. */
#define _GNU_SOURCE
#include "base/parallel.h"

#include <omp.h>
#include <pthread.h>
#include <sched.h>

#include "base/mem.h"

struct job {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    size_t next, done, n;
    int active; /* workers that have not left yet */
    pq_status st;
    pq_work_fn fn;
    void *user;
};
struct worker {
    struct job *job;
    pq_ctx *ctx;
    pthread_t thread;
    int index;
    bool started;
};

int pq_cpu_count(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    int n = CPU_COUNT(&set);
    return n > 0 ? n : 1;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct job *j = w->job;
    omp_set_num_threads(1); /* per-thread: engines called from here stay on this thread */
    pthread_mutex_lock(&j->lock);
    while (j->st == PQ_OK && j->next < j->n) {
        size_t item = j->next++;
        pthread_mutex_unlock(&j->lock);
        pq_status st = j->fn(w->ctx, j->user, item, w->index);
        pthread_mutex_lock(&j->lock);
        if (st != PQ_OK && j->st == PQ_OK) {
            j->st = st;
            j->next = j->n + (size_t)w->index; /* whose message it is */
        }
        j->done++;
        pthread_cond_signal(&j->moved);
    }
    j->active--;
    pthread_cond_signal(&j->moved);
    pthread_mutex_unlock(&j->lock);
    return NULL;
}

static pq_status serial(pq_ctx *ctx, const char *stage, size_t n, pq_work_fn fn, void *user)
{
    pq_status st = PQ_OK;
    for (size_t i = 0; i < n && st == PQ_OK; i++) {
        st = fn(ctx, user, i, 0);
        if (st == PQ_OK && stage) st = pq_progress(ctx, stage, i + 1, n);
    }
    return st;
}

pq_status pq_parallel(pq_ctx *ctx, const char *stage, int n_threads, size_t n, pq_work_fn fn,
                      void *user)
{
    if (n_threads > 1 && (size_t)n_threads > n) n_threads = (int)n;
    if (n_threads <= 1) return serial(ctx, stage, n, fn, user);

    struct worker *w;
    struct job j = {.n = n, .fn = fn, .user = user, .st = PQ_OK};
    pq_status st = pq_alloc(ctx, &w, (size_t)n_threads, sizeof *w);
    if (st != PQ_OK) return st;
    pthread_mutex_init(&j.lock, NULL);
    pthread_cond_init(&j.moved, NULL);
    pthread_mutex_lock(&j.lock);
    for (int i = 0; i < n_threads; i++) {
        w[i].job = &j;
        w[i].index = i;
        if (pq_ctx_new(&w[i].ctx) != PQ_OK) break;
        if (pthread_create(&w[i].thread, NULL, work, &w[i]) != 0) break;
        w[i].started = true;
        j.active++;
    }
    if (!j.active) j.st = pq_fail(ctx, PQ_E_NOMEM, "cannot start a thread");
    size_t told = 0;
    while (j.active) {
        pthread_cond_wait(&j.moved, &j.lock);
        if (stage && j.done != told && j.st == PQ_OK) {
            told = j.done;
            pthread_mutex_unlock(&j.lock);
            st = pq_progress(ctx, stage, told, n);
            pthread_mutex_lock(&j.lock);
            if (st != PQ_OK && j.st == PQ_OK) {
                j.st = st;
                j.next = SIZE_MAX;
            }
        }
    }
    pthread_mutex_unlock(&j.lock);
    st = j.st;
    for (int i = 0; i < n_threads; i++) {
        if (w[i].started) pthread_join(w[i].thread, NULL);
        if (st != PQ_OK && w[i].ctx && j.next == n + (size_t)i)
            (void)pq_merge_error(ctx, w[i].ctx, st);
        pq_ctx_free(w[i].ctx);
    }
    pthread_cond_destroy(&j.moved);
    pthread_mutex_destroy(&j.lock);
    pq_free(w);
    return st;
}
