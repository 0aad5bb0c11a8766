/* Pictures to boxes on the device: uploads, launches around the network, what comes back. */
#include <string.h>

#include "engine/cuda/cuda.h"

void cu_around_free(cu_around *a)
{
    cudaFree(a->pixels);
    cudaFree(a->table);
    cudaFree(a->key);
    cudaFree(a->count);
    cudaFree(a->found);
    cudaFreeHost(a->host_table);
    cudaFreeHost(a->host_found);
    cudaFreeHost(a->host_count);
    memset(a, 0, sizeof *a);
}

static pq_status host_memory(pq_ctx *ctx, void *out, size_t bytes)
{
    void *p = NULL;
    pq_status st = PQ_OK;
    CU_TRY(ctx, cudaHostAlloc(&p, bytes, cudaHostAllocDefault));
out:
    memcpy(out, &p, sizeof p);
    return st;
}

/* Bytes of a picture, from its first to its last. */
static size_t picture_bytes(const pq_picture *p)
{
    return (size_t)(p->w - 1) * p->pixel + (size_t)(p->h - 1) * p->row +
           (size_t)(p->channels - 1) * p->plane + 1;
}

static size_t taps_of(const pq_picture *p)
{
    return p->across ? (size_t)p->fit_w + (size_t)p->fit_h : 0;
}

static size_t aligned(size_t bytes) { return (bytes + 255) / 256 * 256; }

/* Device memory for n elements, page-locked memory beside it unless host is NULL; what was too
 * small goes. device, host: of the pointers to them. */
static pq_status room(pq_ctx *ctx, void *device, void *host, size_t *have, size_t n, size_t each,
                      const char *what)
{
    void *old;
    pq_status st = PQ_OK;
    if (*have >= n) return PQ_OK;
    *have = 0;
    memcpy(&old, device, sizeof old);
    cudaFree(old);
    memset(device, 0, sizeof old);
    if (host) {
        memcpy(&old, host, sizeof old);
        cudaFreeHost(old);
        memset(host, 0, sizeof old);
    }
    PQ_TRY(cu_alloc(ctx, device, n * each, what));
    if (host) PQ_TRY(host_memory(ctx, host, n * each));
    *have = n;
out:
    return st;
}

static pq_status room_for_pictures(pq_ctx *ctx, cu_around *a, const pq_pictures *in)
{
    size_t pixels = 0, table = in->n * sizeof *in->at;
    for (size_t i = 0; i < in->n; i++) {
        pixels += aligned(picture_bytes(&in->at[i]));
        table += taps_of(&in->at[i]) * sizeof(pq_tap);
    }
    pq_status st = room(ctx, &a->pixels, NULL, &a->n_pixels, pixels, 1, "pictures");
    if (st != PQ_OK) return st;
    return room(ctx, &a->table, &a->host_table, &a->n_table, table, 1, "places of pictures");
}

static pq_status room_for_boxes(pq_ctx *ctx, cu_around *a, size_t batch, const pq_suppression *how)
{
    const size_t candidates = batch * (size_t)how->anchors * (size_t)how->n_classes;
    const size_t found = batch * (size_t)how->max_det;
    pq_status st = PQ_OK;
    if (!a->host_count) PQ_TRY(host_memory(ctx, &a->host_count, batch * sizeof *a->host_count));
    if (!a->count)
        PQ_TRY(cu_alloc(ctx, &a->count, 2 * batch * sizeof *a->count, "counts of boxes"));
    PQ_TRY(room(ctx, &a->key, NULL, &a->n_candidates, candidates, sizeof *a->key, "candidates"));
    st = room(ctx, &a->found, &a->host_found, &a->n_found, found, sizeof *a->found, "boxes");
out:
    return st;
}

/* Pixels, places and taps to the device; the table there speaks of what is there. */
static pq_status send_pictures(pq_ctx *ctx, cu_session *s, const pq_pictures *in)
{
    cu_around *a = &s->around;
    pq_picture *p = (pq_picture *)(void *)a->host_table;
    size_t pixels = 0, table = in->n * sizeof *p;
    pq_status st = PQ_OK;
    for (size_t i = 0; i < in->n; i++) {
        const size_t n = picture_bytes(&in->at[i]), taps = taps_of(&in->at[i]);
        CU_TRY(ctx, cudaMemcpyAsync(a->pixels + pixels, in->at[i].data, n, cudaMemcpyHostToDevice,
                                    s->stream));
        p[i] = in->at[i];
        p[i].data = a->pixels + pixels;
        pixels += aligned(n);
        if (!taps) continue;
        pq_tap *to = (pq_tap *)(void *)(a->host_table + table);
        memcpy(to, in->at[i].across, (size_t)p[i].fit_w * sizeof *to);
        memcpy(to + p[i].fit_w, in->at[i].down, (size_t)p[i].fit_h * sizeof *to);
        p[i].across = (pq_tap *)(void *)(a->table + table);
        p[i].down = p[i].across + p[i].fit_w;
        table += taps * sizeof *to;
    }
    CU_TRY(ctx, cudaMemcpyAsync(a->table, a->host_table, table, cudaMemcpyHostToDevice, s->stream));
out:
    return st;
}

static pq_status launch(pq_ctx *ctx, const cu_session *s, const char *what, const void *kernel,
                        void *params, unsigned x, unsigned y, unsigned threads, unsigned smem)
{
    const cudaLaunchConfig_t config = {.gridDim = {x, y, 1},
                                       .blockDim = {threads, 1, 1},
                                       .dynamicSmemBytes = smem,
                                       .stream = s->stream};
    const cudaError_t rc = cudaLaunchKernelExC(&config, kernel, (void *[]){params});
    return rc == cudaSuccess ? PQ_OK
                             : pq_prefix(ctx, cu_failed(ctx, "cudaLaunchKernelExC", rc),
                                         "%s (grid %u x %u, %u threads, %u bytes shared)", what, x,
                                         y, threads, smem);
}

static unsigned blocks(int64_t threads)
{
    return (unsigned)((threads + PQ_CU_THREADS - 1) / PQ_CU_THREADS);
}

/* Images that no picture fills are zero, as the host leaves them. */
static pq_status prepare(pq_ctx *ctx, cu_session *s, const pq_pictures *in)
{
    const int64_t *dim = s->base.input_shape[0].dim;
    const size_t each = (size_t)(dim[1] * dim[2] * dim[3]);
    pq_cu_prepare p = {
        .in = *in, .x = s->input[0], .c = (int)dim[1], .h = (int)dim[2], .w = (int)dim[3]};
    p.in.at = (const pq_picture *)(const void *)s->around.table;
    pq_status st = PQ_OK;
    CU_TRY(ctx, cudaMemsetAsync(s->input[0] + in->n * each, 0,
                                ((size_t)dim[0] - in->n) * each * sizeof(float), s->stream));
    if (in->n)
        st = launch(ctx, s, "preparing pictures", pq_cu_detect_kernels_get()->prepare, &p,
                    blocks(dim[2] * dim[3]), (unsigned)in->n, PQ_CU_THREADS, 0);
out:
    return st;
}

static pq_status suppress(pq_ctx *ctx, cu_session *s, const pq_suppression *how, size_t n)
{
    const pq_cu_detect_kernels *k = pq_cu_detect_kernels_get();
    const int64_t *dim = s->base.input_shape[0].dim;
    cu_around *a = &s->around;
    pq_cu_suppress p = {.how = *how,
                        .scores = cu_output(s, (size_t)how->scores_at),
                        .boxes = how->yolox ? NULL : cu_output(s, (size_t)how->boxes_at),
                        .h = (int)dim[2],
                        .w = (int)dim[3],
                        .by_classes = pq_cu_div_by(how->n_classes),
                        .key = a->key,
                        .count = a->count,
                        .found = a->found,
                        .n_found = a->count + dim[0]};
    pq_status st = PQ_OK;
    CU_TRY(ctx, cudaMemsetAsync(a->count, 0, n * sizeof *a->count, s->stream));
    PQ_TRY(launch(ctx, s, "collecting candidates", k->collect, &p,
                  blocks(how->anchors * how->n_classes), (unsigned)n, PQ_CU_THREADS, 0));
    st = launch(ctx, s, "suppressing boxes", k->suppress, &p, (unsigned)n, 1,
                PQ_CU_SUPPRESS_THREADS, sizeof(pq_cu_suppress_block));
out:
    return st;
}

static pq_status receive(pq_ctx *ctx, cu_session *s, const pq_suppression *how, size_t n,
                         pq_found *out, uint32_t *n_out)
{
    cu_around *a = &s->around;
    const size_t most = (size_t)how->max_det;
    pq_status st = PQ_OK;
    CU_TRY(ctx, cudaMemcpyAsync(a->host_count, a->count + s->base.input_shape[0].dim[0],
                                n * sizeof *a->host_count, cudaMemcpyDeviceToHost, s->stream));
    CU_TRY(ctx, cudaMemcpyAsync(a->host_found, a->found, n * most * sizeof *a->found,
                                cudaMemcpyDeviceToHost, s->stream));
    CU_TRY(ctx, cudaStreamSynchronize(s->stream));
    memcpy(n_out, a->host_count, n * sizeof *n_out);
    for (size_t i = 0; i < n; i++)
        memcpy(out + i * most, a->host_found + i * most, n_out[i] * sizeof *out);
out:
    return st;
}

pq_status cu_pictures(pq_ctx *ctx, pq_session *session, const pq_pictures *in,
                      const pq_suppression *how, pq_found *out, uint32_t *n_out)
{
    cu_session *s = (cu_session *)session;
    float ms = 0;
    pq_status st = PQ_OK;
    if (!in->n) return PQ_OK;
    CU_TRY(ctx, cudaSetDevice(s->device.id));
    PQ_TRY(room_for_pictures(ctx, &s->around, in));
    PQ_TRY(room_for_boxes(ctx, &s->around, (size_t)session->input_shape[0].dim[0], how));
    PQ_TRY(send_pictures(ctx, s, in));
    CU_TRY(ctx, cudaEventRecord(s->begin, s->stream));
    PQ_TRY(prepare(ctx, s, in));
    PQ_TRY(cu_run_network(ctx, s));
    PQ_TRY(suppress(ctx, s, how, in->n));
    CU_TRY(ctx, cudaEventRecord(s->end, s->stream));
    PQ_TRY(receive(ctx, s, how, in->n, out, n_out));
    CU_TRY(ctx, cudaEventElapsedTime(&ms, s->begin, s->end));
    s->device_ms = (double)ms;
out:
    return st;
}
