/*
 * Decoding ahead of the network. Workers take images in order and write into a ring of batch
 * tensors; the caller takes whole batches in order. A worker may be at most `ring` batches ahead of
 * the caller, which bounds memory. Everything shared stands under one lock.
 */
#include <pquant/data.h>

#include <pthread.h>
#include <string.h>

#include "base/mem.h"

typedef struct slot {
    pq_tensor input;       /* [batch, channels, h, w] */
    pq_geometry *geometry; /* [batch] */
    pq_image *image;       /* [batch], where nothing is made of them; else NULL */
    size_t done;           /* images of the batch now in it that are decoded */
} slot;

struct pq_loader {
    const pq_dataset *data;
    bool prepares;
    pq_prep prep; /* if it does */
    size_t batch, ring;
    slot *slot; /* [ring] */

    pthread_mutex_t lock;
    pthread_cond_t room, ready; /* for workers, for the caller */
    bool stop;
    size_t next;      /* next image to hand out */
    size_t released;  /* batches that the caller has done with */
    size_t delivered; /* batches given to the caller */
    size_t running;   /* images being decoded */

    pq_status st;     /* of the first image, in order, that failed */
    size_t failed_at; /* its position */
    pq_ctx *error;    /* its message */

    pthread_t *thread;
    size_t n_threads;
};

/* One image into its place. Runs without the lock: nobody else touches that place. */
static pq_status decode(pq_ctx *ctx, pq_loader *l, size_t item)
{
    pq_image img = {0};
    slot *s = &l->slot[item / l->batch % l->ring];
    const size_t at = item % l->batch;
    if (!l->prepares) {
        pq_image_clear(&s->image[at]);
        return pq_image_load(ctx, &s->image[at], l->data->sample[item].path);
    }
    pq_status st = pq_image_load(ctx, &img, l->data->sample[item].path);
    if (st != PQ_OK) return st;
    const size_t n = (size_t)pq_prep_channels(&l->prep) * (size_t)l->prep.h * (size_t)l->prep.w;
    st = pq_preprocess(ctx, (float *)pq_tensor_data(&s->input) + at * n, &s->geometry[at], &img,
                       &l->prep);
    pq_image_clear(&img);
    return st;
}

static bool may_take(const pq_loader *l) { return l->next / l->batch < l->released + l->ring; }

static void *work(void *arg)
{
    pq_loader *l = arg;
    pq_ctx *ctx;
    const bool have_ctx = pq_ctx_new(&ctx) == PQ_OK;
    pthread_mutex_lock(&l->lock);
    while (!l->stop && l->st == PQ_OK && l->next < l->data->n) {
        if (!may_take(l)) {
            pthread_cond_wait(&l->room, &l->lock);
            continue;
        }
        const size_t item = l->next++;
        l->running++;
        pthread_mutex_unlock(&l->lock);
        pq_status st = have_ctx ? decode(ctx, l, item) : PQ_E_NOMEM;
        pthread_mutex_lock(&l->lock);
        l->running--;
        l->slot[item / l->batch % l->ring].done++;
        if (st != PQ_OK && (l->st == PQ_OK || item < l->failed_at)) {
            l->st = st;
            l->failed_at = item;
            if (have_ctx)
                (void)pq_merge_error(l->error, ctx, st);
            else
                (void)pq_fail(l->error, st, "no memory for a decoding thread");
            pthread_cond_broadcast(&l->room); /* the others stop */
        }
        pthread_cond_signal(&l->ready);
    }
    pthread_mutex_unlock(&l->lock);
    if (have_ctx) pq_ctx_free(ctx);
    return NULL;
}

static pq_status make_ring(pq_ctx *ctx, pq_loader *l)
{
    pq_status st;
    const pq_shape shape =
        PQ_SHAPE((int64_t)l->batch, pq_prep_channels(&l->prep), l->prep.h, l->prep.w);
    PQ_TRY(pq_alloc(ctx, &l->slot, l->ring, sizeof *l->slot));
    for (size_t i = 0; i < l->ring; i++) {
        if (!l->prepares) {
            PQ_TRY(pq_alloc(ctx, &l->slot[i].image, l->batch, sizeof *l->slot->image));
            continue;
        }
        PQ_TRY(pq_tensor_new(ctx, &l->slot[i].input, PQ_F32, &shape));
        PQ_TRY(pq_alloc(ctx, &l->slot[i].geometry, l->batch, sizeof *l->slot->geometry));
    }
out:
    return st;
}

pq_status pq_loader_open(pq_ctx *ctx, pq_loader **out, const pq_dataset *data, const pq_prep *prep,
                         size_t batch, int n_threads)
{
    pq_status st;
    pq_loader *l = NULL;
    *out = NULL;
    if (!batch || batch > INT32_MAX || (prep && (prep->h < 1 || prep->w < 1)))
        return pq_fail(ctx, PQ_E_INVALID, "loader of batch %zu, input %d x %d, expected 1 or more",
                       batch, prep ? prep->w : 1, prep ? prep->h : 1);
    if (n_threads <= 0) n_threads = pq_ctx_threads(ctx);
    if ((size_t)n_threads > data->n) n_threads = data->n ? (int)data->n : 1;
    PQ_TRY(pq_alloc(ctx, &l, 1, sizeof *l));
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->room, NULL);
    pthread_cond_init(&l->ready, NULL);
    l->data = data;
    l->prepares = prep != NULL;
    if (prep) l->prep = *prep;
    l->batch = batch;
    l->ring = 2 + ((size_t)n_threads - 1) / batch;
    if (pq_ctx_new(&l->error) != PQ_OK) {
        st = pq_fail(ctx, PQ_E_NOMEM, "no memory for the loader");
        goto out;
    }
    PQ_TRY(make_ring(ctx, l));
    PQ_TRY(pq_alloc(ctx, &l->thread, (size_t)n_threads, sizeof *l->thread));
    while (l->n_threads < (size_t)n_threads &&
           pthread_create(&l->thread[l->n_threads], NULL, work, l) == 0)
        l->n_threads++;
    if (!l->n_threads) st = pq_fail(ctx, PQ_E_NOMEM, "cannot start a decoding thread");
out:
    if (st == PQ_OK)
        *out = l;
    else
        pq_loader_close(l);
    return st;
}

/* With the lock held: give the batch delivered last back to the workers. */
static void release(pq_loader *l)
{
    if (l->released == l->delivered) return;
    slot *s = &l->slot[l->released % l->ring];
    s->done = 0;
    l->released++;
    pthread_cond_broadcast(&l->room);
}

pq_status pq_loader_next(pq_ctx *ctx, pq_batch *out, pq_loader *l)
{
    memset(out, 0, sizeof *out);
    pthread_mutex_lock(&l->lock);
    release(l);
    const size_t first = l->delivered * l->batch;
    out->first = first;
    if (first >= l->data->n) {
        pthread_mutex_unlock(&l->lock);
        return PQ_OK;
    }
    const size_t n = l->data->n - first < l->batch ? l->data->n - first : l->batch;
    slot *s = &l->slot[l->delivered % l->ring];
    while (s->done < n && !(l->st != PQ_OK && l->running == 0))
        pthread_cond_wait(&l->ready, &l->lock);
    pq_status st = l->st != PQ_OK && l->failed_at < first + n ? l->st : PQ_OK;
    if (st == PQ_OK) {
        l->delivered++;
        out->n = n;
        out->input = l->prepares ? &s->input : NULL;
        out->geometry = s->geometry;
        out->image = s->image;
    }
    pthread_mutex_unlock(&l->lock);
    if (st != PQ_OK) return pq_merge_error(ctx, l->error, st);
    if (l->prepares && n < l->batch) { /* this slot held an earlier batch */
        const size_t one =
            (size_t)l->prep.h * (size_t)l->prep.w * (size_t)pq_prep_channels(&l->prep);
        memset((float *)pq_tensor_data(&s->input) + n * one, 0,
               (l->batch - n) * one * sizeof(float));
    }
    return PQ_OK;
}

void pq_loader_close(pq_loader *l)
{
    if (!l) return;
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->room);
    pthread_mutex_unlock(&l->lock);
    for (size_t i = 0; i < l->n_threads; i++) pthread_join(l->thread[i], NULL);
    for (size_t i = 0; l->slot && i < l->ring; i++) {
        pq_tensor_clear(&l->slot[i].input);
        pq_free(l->slot[i].geometry);
        for (size_t k = 0; l->slot[i].image && k < l->batch; k++)
            pq_image_clear(&l->slot[i].image[k]);
        pq_free(l->slot[i].image);
    }
    pq_free(l->slot);
    pq_free(l->thread);
    pq_ctx_free(l->error);
    pthread_cond_destroy(&l->ready);
    pthread_cond_destroy(&l->room);
    pthread_mutex_destroy(&l->lock);
    pq_free(l);
}
