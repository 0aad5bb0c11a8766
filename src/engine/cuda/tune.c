/* Launching, and how conv_mma runs a layer: measured on the device while compiling, alone here,
 * what came near in the network (settle.c). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/cuda/cuda.h"

enum { REPEATS = 16, ROUNDS = 5, MOST_CANDIDATES = 320, SPLITS = 6, WAVES = 4 };
static const float FAR_BEHIND = 1.5f, NEAR = 1.35f;

const pq_cu_variant *cu_variants(int kind, int *n)
{
    return kind == PQ_CU_KIND_F16  ? pq_cu_variants_f16(n)
           : kind == PQ_CU_KIND_S8 ? pq_cu_variants_s8(n)
                                   : pq_cu_variants_f32(n);
}

bool cu_fits(const cu_device *d, const pq_cu_variant *v)
{
    return (size_t)v->smem <= d->smem && (v->wk > 0 || d->groups);
}

static bool may_in_registers(const cu_node *n, const pq_cu_variant *v, int split)
{
    return n->p.conv.plain && split == 1 && v->wk <= 1;
}

/* The place of a persistent block's results is as wide as the type that is multiplied. */
static bool may_persist(const cu_node *n, const pq_cu_variant *v, int split)
{
    return may_in_registers(n, v, split) && !n->p.conv.mixed;
}

/* With the place of results behind the tiles. */
static int persistent_smem(int kind, const pq_cu_variant *v)
{
    return v->smem + PQ_CU_STAGING(v->bm, v->bn, kind == PQ_CU_KIND_S8 ? 1 : 2);
}

/* Blocks along x that take several tiles, or 0 where they would take fewer than two. WAVES as many
 * as fit the device: they end one after the other, so that others come in, the next node's and
 * those of the other branch, and one that began late has little left to do. */
static int persistent_blocks(const cu_session *s, const cu_node *n, int variant)
{
    int unused;
    const pq_cu_variant *v = &cu_variants(n->kind, &unused)[variant];
    const int tiles = pq_cu_ceil(n->p.conv.m, v->bm), columns = pq_cu_ceil(n->p.conv.n, v->bn);
    const int fit = s->resident[n->kind][variant] * s->device.sms / columns;
    const int blocks = s->blocks ? s->blocks : WAVES * fit;
    return 2 * blocks <= tiles ? blocks : 0;
}

void cu_choose(const cu_session *s, cu_node *n, cu_choice c)
{
    int unused;
    const pq_cu_variant *v = &cu_variants(n->kind, &unused)[c.variant];
    pq_cu_conv *p = &n->p.conv;
    const int blocks = c.finish == CU_PERSISTENT && may_persist(n, v, c.split)
                           ? persistent_blocks(s, n, c.variant)
                           : 0;
    p->split = c.split;
    p->steps = pq_cu_ceil(pq_cu_ceil(p->k_chunks, v->row / PQ_CU_CHUNK), c.split);
    p->in_registers = c.finish != CU_IN_SHARED && may_in_registers(n, v, c.split);
    p->staging = blocks ? v->smem : 0;
    n->how = (cu_choice){c.variant, c.split,
                         blocks            ? CU_PERSISTENT
                         : p->in_registers ? CU_IN_REGISTERS
                                           : CU_IN_SHARED};
    n->kernel = v->kernel;
    n->block = (unsigned)v->threads;
    n->smem = (unsigned)(blocks ? persistent_smem(n->kind, v) : v->smem);
    n->grid[0] = (unsigned)(blocks ? blocks : pq_cu_ceil(p->m, v->bm));
    n->grid[1] = (unsigned)pq_cu_ceil(p->n, v->bn);
    n->grid[2] = (unsigned)c.split;
    n->cluster = c.split > 1 ? (unsigned)c.split : 0;
}

cudaError_t cu_launch(const cu_session *s, const cu_node *n, cudaStream_t stream)
{
    cudaLaunchAttribute attr[3];
    unsigned n_attr = 0;
    union {
        const void *in;
        void *out;
    } params = {&n->p};
    void *args[1] = {params.out};
    if (s->device.dependent) {
        attr[n_attr].id = cudaLaunchAttributeProgrammaticStreamSerialization;
        attr[n_attr++].val.programmaticStreamSerializationAllowed = 1;
    }
    if (n->cluster) {
        attr[n_attr].id = cudaLaunchAttributeClusterDimension;
        attr[n_attr].val.clusterDim.x = attr[n_attr].val.clusterDim.y = 1;
        attr[n_attr++].val.clusterDim.z = n->cluster;
    }
    attr[n_attr].id = cudaLaunchAttributePriority; /* the main branch is the longest path */
    attr[n_attr++].val.priority = n->side ? 0 : -1;
    const cudaLaunchConfig_t config = {.gridDim = {n->grid[0], n->grid[1], n->grid[2]},
                                       .blockDim = {n->block, 1, 1},
                                       .dynamicSmemBytes = n->smem,
                                       .stream = stream,
                                       .attrs = attr,
                                       .numAttrs = n_attr};
    return cudaLaunchKernelExC(&config, n->kernel, args);
}

typedef struct candidate {
    cu_choice how;
    double score; /* estimated, of those worth measuring the lowest are taken */
} candidate;

/* Microseconds, roughly: what a multiprocessor must load, or the latency of its stages. Only to
 * leave hopeless ones out. */
static double estimate(const cu_session *s, const cu_node *n, const pq_cu_variant *v, int split)
{
    const pq_cu_conv *p = &n->p.conv;
    const double blocks = (double)pq_cu_ceil(p->m, v->bm) * pq_cu_ceil(p->n, v->bn) * split;
    const int fit = 220 * 1024 / v->smem, by_threads = 1536 / v->threads;
    const int resident = fit < by_threads ? fit : by_threads;
    const double each = ceil(blocks / s->device.sms), together = each < resident ? each : resident;
    const int steps = pq_cu_ceil(pq_cu_ceil(p->k_chunks, v->row / PQ_CU_CHUNK), split);
    const double load = together * v->row * (v->bm + v->bn) / 60e3;
    return 2 + ceil(each / resident) * (steps * (load > 0.12 ? load : 0.12) + 0.8) +
           (split > 1 ? 0.8 : 0);
}

/* Timed alone a layer runs its code again and again; in a network it has to be fetched, and ref's
 * SiLU for every sum is much of it: there it pays where a multiprocessor runs several blocks. */
static bool worth_registers(const cu_session *s, const cu_node *n, int blocks)
{
    const pq_cu_conv *p = &n->p.conv;
    const bool silu = p->act.act == PQ_ACT_SILU || (p->residual && p->sum_act.act == PQ_ACT_SILU);
    return !silu || n->kind != PQ_CU_KIND_S8 || p->tie > 0 || blocks >= 3 * s->device.sms;
}

static int candidates_of(const cu_session *s, const cu_node *n, candidate c[MOST_CANDIDATES])
{
    static const int splits[SPLITS] = {1, 2, 3, 4, 6, CU_MOST_SPLIT};
    int n_variants, count = 0;
    const pq_cu_variant *v = cu_variants(n->kind, &n_variants);
    const pq_cu_conv *p = &n->p.conv;
    double best = 1e30;
    for (int i = 0; i < n_variants; i++) {
        const int steps = pq_cu_ceil(p->k_chunks, v[i].row / PQ_CU_CHUNK);
        const int blocks = pq_cu_ceil(p->m, v[i].bm) * pq_cu_ceil(p->n, v[i].bn);
        if (!cu_fits(&s->device, &v[i]) || pq_cu_ceil(p->n, v[i].bn) > 65535) continue;
        for (int k = 0; k < SPLITS && count < MOST_CANDIDATES; k++) {
            if (splits[k] > 1 &&
                (!s->device.dependent || steps < 2 * splits[k] || blocks > 2 * s->device.sms))
                break;
            c[count] = (candidate){{i, splits[k], CU_IN_SHARED}, estimate(s, n, &v[i], splits[k])};
            if (c[count].score < best) best = c[count].score;
            count++;
            if (!may_in_registers(n, &v[i], splits[k]) || !worth_registers(s, n, blocks)) continue;
            for (int f = CU_IN_REGISTERS; f <= CU_PERSISTENT && count < MOST_CANDIDATES; f++) {
                if (f == CU_PERSISTENT && !(may_persist(n, &v[i], 1) && persistent_blocks(s, n, i)))
                    break;
                c[count] = c[count - 1];
                c[count++].how.finish = (cu_finish)f;
            }
        }
    }
    int kept = 0;
    for (int i = 0; i < count; i++)
        if (c[i].score <= 2.5 * best) c[kept++] = c[i];
    return kept;
}

bool cu_same_shape(const cu_node *a, const cu_node *b)
{
    const pq_cu_conv *x = &a->p.conv, *y = &b->p.conv;
    return a->kind == b->kind && x->m == y->m && x->n == y->n && x->k_chunks == y->k_chunks &&
           x->chunks == y->chunks && x->h == y->h && x->w == y->w && x->sh == y->sh &&
           x->kh == y->kh && x->dh == y->dh && x->n_dest == y->n_dest &&
           !x->residual == !y->residual && x->plain == y->plain &&
           x->dest[0].form.dtype == y->dest[0].form.dtype;
}

/* Launches of a candidate: many of short ones, which only then show as part of a network. */
static int repeats_of(const candidate *c, int count)
{
    double least = 1e30;
    for (int i = 0; i < count; i++) least = fmin(least, c[i].score);
    return (int)fmax(2, fmin(REPEATS, 200 / least));
}

/* The fastest, and what came near: of each way to end the four fastest. */
static void find_rivals(cu_fresh *fresh, const candidate *c, const float *ms, int count)
{
    bool taken[MOST_CANDIDATES] = {false};
    int of[3] = {0};
    float least = 1e30f;
    for (int i = 0; i < count; i++) least = fminf(least, ms[i]);
    for (fresh->n = 0; fresh->n < CU_RIVALS; fresh->n++) {
        int best = -1;
        for (int i = 0; i < count; i++)
            if (!taken[i] && ms[i] <= NEAR * least && of[c[i].how.finish] < 4 &&
                (best < 0 || ms[i] < ms[best]))
                best = i;
        if (best < 0) break;
        taken[best] = true;
        of[c[best].how.finish]++;
        fresh->rival[fresh->n] = c[best].how;
    }
}

/* Each candidate as a graph of launches in a row, in turn; those that a first round shows far
 * behind take no part in the others. */
static pq_status measure(pq_ctx *ctx, cu_session *s, cu_node *n, cu_fresh *fresh)
{
    candidate c[MOST_CANDIDATES];
    cudaEvent_t event[MOST_CANDIDATES + 1] = {NULL};
    cudaGraphExec_t graph[MOST_CANDIDATES] = {NULL};
    float ms[MOST_CANDIDATES] = {0}, least = 1e30f;
    pq_status st = PQ_OK;
    const int count = candidates_of(s, n, c), repeats = repeats_of(c, count);
    PQ_ASSERT(ctx, count > 0);
    for (int i = 0; i <= count; i++) CU_TRY(ctx, cudaEventCreate(&event[i]));
    for (int i = 0; i < count; i++) {
        cu_choose(s, n, c[i].how);
        PQ_TRY(cu_repeat(ctx, &graph[i], s, n, repeats));
    }
    for (int round = 0; round < ROUNDS; round++) { /* the first warms up */
        const float most = round ? FAR_BEHIND * least : 1e30f;
        least = 1e30f;
        for (int i = 0; i < count; i++) {
            CU_TRY(ctx, cudaEventRecord(event[i], s->stream));
            if (ms[i] <= most) CU_TRY(ctx, cudaGraphLaunch(graph[i], s->stream));
        }
        CU_TRY(ctx, cudaEventRecord(event[count], s->stream));
        CU_TRY(ctx, cudaStreamSynchronize(s->stream));
        for (int i = 0; i < count; i++) {
            float now;
            if (ms[i] > most) continue;
            CU_TRY(ctx, cudaEventElapsedTime(&now, event[i], event[i + 1]));
            ms[i] = round > 1 && ms[i] < now ? ms[i] : now;
            least = fminf(least, ms[i]);
        }
    }
    find_rivals(fresh, c, ms, count);
    cu_choose(s, n, fresh->rival[0]);
out:
    for (int i = 0; i < count; i++)
        if (graph[i]) cudaGraphExecDestroy(graph[i]);
    for (int i = 0; i <= count; i++)
        if (event[i]) cudaEventDestroy(event[i]);
    return st;
}

static void take(const cu_session *s, cu_node *n, const cu_force *f)
{
    int count;
    const pq_cu_variant *v = cu_variants(n->kind, &count);
    const int i = cu_fits(&s->device, &v[f->variant % count]) ? f->variant % count : 0;
    cu_choose(s, n, (cu_choice){i, s->device.dependent ? f->split : 1, f->finish});
}

/* What a node like it has, what is known, or what measuring finds, which is added to `fresh`. */
static pq_status choose(pq_ctx *ctx, cu_session *s, size_t i, const cu_tuned *tuned,
                        cu_fresh *fresh, size_t *n_fresh)
{
    cu_node *n = &s->node[i];
    for (size_t j = 0; j < i; j++)
        if (cu_same_shape(&s->node[j], n)) {
            cu_choose(s, n, s->node[j].how);
            return PQ_OK;
        }
    if (cu_tuned_find(tuned, s, n)) return PQ_OK;
    fresh[*n_fresh].node = i;
    return pq_prefix(ctx, measure(ctx, s, n, &fresh[(*n_fresh)++]),
                     "node '%s' (%d pixels, %d channels)", cu_node_of(s, n->step)->name,
                     n->p.conv.m, n->p.conv.n);
}

/* What is not known yet is measured, in the network too where that is much of it: in a sweep each
 * session has few layers that are new. */
static pq_status choose_all(pq_ctx *ctx, cu_session *s)
{
    cu_tuned tuned;
    cu_fresh *fresh = NULL;
    size_t n_fresh = 0, n_layers = 0;
    pq_status st = cu_tuned_open(ctx, &tuned);
    if (st != PQ_OK) return st;
    PQ_TRY(pq_alloc(ctx, &fresh, s->n_nodes, sizeof *fresh));
    for (size_t i = 0; i < s->n_nodes; i++) {
        if (s->node[i].kind < 0) continue;
        n_layers++;
        PQ_TRY(choose(ctx, s, i, &tuned, fresh, &n_fresh));
    }
    if (n_fresh > 0 && 4 * n_fresh >= n_layers) PQ_TRY(cu_settle(ctx, s, fresh, n_fresh));
    for (size_t i = 0; i < n_fresh; i++)
        PQ_TRY(cu_tuned_add(ctx, &tuned, s, &s->node[fresh[i].node]));
out:
    cu_tuned_close(&tuned);
    pq_free(fresh);
    return st;
}

/* What launches of each variant may take, and how many blocks fit when they are persistent. */
static pq_status prepare(pq_ctx *ctx, cu_session *s)
{
    bool used[PQ_CU_KINDS] = {false};
    pq_status st = PQ_OK;
    for (size_t i = 0; i < s->n_nodes; i++)
        if (s->node[i].kind >= 0) used[s->node[i].kind] = true;
    for (int kind = 0; kind < PQ_CU_KINDS; kind++) {
        int n;
        const pq_cu_variant *v = cu_variants(kind, &n);
        PQ_ASSERT(ctx, n <= CU_MOST_VARIANTS);
        if (!used[kind]) continue;
        for (int i = 0; i < n; i++) {
            const int smem = persistent_smem(kind, &v[i]);
            const bool persistent = v[i].wk <= 1 && (size_t)smem <= s->device.smem;
            if (!cu_fits(&s->device, &v[i])) continue;
            CU_TRY(ctx,
                   cudaFuncSetAttribute(v[i].kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                        persistent ? smem : v[i].smem));
            if (persistent)
                CU_TRY(ctx, cudaOccupancyMaxActiveBlocksPerMultiprocessor(
                                &s->resident[kind][i], v[i].kernel, v[i].threads, (size_t)smem));
        }
    }
out:
    return st;
}

pq_status cu_tune(pq_ctx *ctx, cu_session *s, const cu_force *force)
{
    const pq_status st = prepare(ctx, s);
    s->blocks = force ? force->blocks : 0;
    if (st != PQ_OK || !force) return st == PQ_OK ? choose_all(ctx, s) : st;
    for (size_t i = 0; i < s->n_nodes; i++)
        if (s->node[i].kind >= 0) take(s, &s->node[i], force);
    return PQ_OK;
}
