/* Layer-wise reconstruction.
 *
 * With x^ the quantized inputs of an operator (patches of its window, centred), y its exact outputs
 * and H = E[x^ x^'], C = E[y x^'], an output's error is w'Hw - 2 c'w + const. Integers near a
 * target are improved one at a time, each to the best value given all others, until none moves:
 * rounding errors of correlated inputs then cancel. The bias takes up the means. Two targets are
 * tried: the given weights, and the real minimum of the error, held near them by a ridge, which
 * makes up for what quantization did to the inputs, but where there are many weights also fits the
 * samples by chance. So every fourth image is kept out of H and C, and of these two and the nearest
 * integers a row takes what has the least error there.
 *
 * Sums, factor and search are per group of the convolution, rows are independent: the result does
 * not depend on the number of threads. */
#include "correct/rebuild.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/parallel.h"
#include "correct/grid.h"
#include "correct/linear.h"

enum { POSITIONS = 128, SWEEPS = 8, SHRINKS = 26, HELD = 4, FEWEST = 16 };
static const double ridge = 0.01; /* of the mean variance of the inputs */

typedef struct layer {
    const pq_graph *g;
    const pq_node *n;
    const pq_rebuild_opts *o;
    size_t m, groups, outputs, k;                /* samples; per group: rows, inputs times window */
    size_t fit;                                  /* of the samples, those in front are fitted on */
    uint32_t *at;                                /* [m]: output position */
    size_t *image;                               /* [n_images]: in the order of samples */
    float *weight, *scale, *bias;                /* results */
    double *before, *by_bias, *after, *variance; /* per output channel */
    int threads;                                 /* inside one group */
} layer;

/* Moments over a part of the samples. */
typedef struct moments {
    double *h, *c; /* [k][k], [outputs][k] */
    double *mean_x,
        *mean;      /* [k], [outputs]: of what is centred on the samples that are fitted on */
    double *square; /* [outputs] */
} moments;

/* One group's problem. */
typedef struct group {
    const layer *l;
    size_t index;
    float *x, *y; /* [k][m], [outputs][m], centred */
    double *mean_x, *mean_y;
    moments fit, held; /* held: without arrays where there are too few images */
    double *factor;    /* of fit.h with the ridge */
    double damp;
} group;

/* ---- samples ---- */

/* Every fourth image goes to the end. */
static void order_images(layer *l)
{
    const size_t n = l->o->n_images;
    size_t at = 0;
    for (size_t i = 0; i < n; i++)
        if (n < FEWEST || i % HELD != HELD - 1) l->image[at++] = i;
    l->fit = at * POSITIONS;
    for (size_t i = HELD - 1; i < n && at < n; i += HELD) l->image[at++] = i;
}

static void draw(layer *l)
{
    const pq_shape *out = &pq_out_value(l->g, l->n, 0)->shape;
    pq_rng rng = {l->o->seed};
    for (size_t i = 0; i < l->m; i++)
        l->at[i] = (uint32_t)pq_spots_draw(l->o->spots, &rng, l->image[i / POSITIONS],
                                           (size_t)out->dim[2], (size_t)out->dim[3]);
}

/* Row of one input channel and window position over all samples. */
static void gather_row(float *to, const layer *l, size_t channel, int64_t ky, int64_t kx)
{
    const pq_shape *in = &pq_in(l->g, l->n, 0)->shape, *out = &pq_out_value(l->g, l->n, 0)->shape;
    const pq_window *w = &l->n->attr.window;
    const pq_steps steps = pq_steps_of(l->o->t);
    const size_t area = (size_t)(in->dim[2] * in->dim[3]);
    for (size_t i = 0; i < l->m; i++) {
        const int64_t p = (int64_t)l->at[i];
        const int64_t y = p / out->dim[3] * w->stride[0] - w->pad[0] + ky * w->dilation[0];
        const int64_t x = p % out->dim[3] * w->stride[1] - w->pad[1] + kx * w->dilation[1];
        const float *map =
            l->o->x + (l->image[i / POSITIONS] * (size_t)in->dim[1] + channel) * area;
        const bool inside = y >= 0 && y < in->dim[2] && x >= 0 && x < in->dim[3];
        to[i] = inside ? pq_steps_round(map[y * in->dim[3] + x], steps) : 0;
    }
}

static double mean_of(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i];
    return n ? sum / (double)n : 0;
}

/* On the mean of those fitted on, which is returned. */
static double centre(float *x, const layer *l)
{
    const double mean = mean_of(x, l->fit);
    for (size_t i = 0; i < l->m; i++) x[i] = (float)((double)x[i] - mean);
    return mean;
}

static double square_of(const float *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * (double)x[i];
    return n ? sum / (double)n : 0;
}

static pq_status gather_input(pq_ctx *ctx, void *user, size_t j, int worker)
{
    const group *p = user;
    const layer *l = p->l;
    const int64_t *kernel = l->n->attr.window.kernel;
    const size_t window = (size_t)(kernel[0] * kernel[1]);
    float *to = p->x + j * l->m;
    (void)ctx;
    (void)worker;
    gather_row(to, l, p->index * (l->k / window) + j / window, (int64_t)(j % window) / kernel[1],
               (int64_t)(j % window) % kernel[1]);
    p->mean_x[j] = centre(to, l);
    if (p->held.h) p->held.mean_x[j] = mean_of(to + l->fit, l->m - l->fit);
    return PQ_OK;
}

static void gather_outputs(group *p)
{
    const layer *l = p->l;
    const pq_shape *out = &pq_out_value(l->g, l->n, 0)->shape;
    const size_t area = (size_t)(out->dim[2] * out->dim[3]);
    for (size_t r = 0; r < l->outputs; r++) {
        const size_t o = p->index * l->outputs + r;
        const pq_encoding *e = l->o->coded;
        const float gain = e ? e->gain[o] : 1, shift = e ? e->shift[o] : 0;
        float *to = p->y + r * l->m;
        for (size_t i = 0; i < l->m; i++)
            to[i] =
                gain *
                    l->o->z[(l->image[i / POSITIONS] * (size_t)out->dim[1] + o) * area + l->at[i]] +
                shift;
        p->mean_y[r] = centre(to, l);
        l->variance[o] = p->fit.square[r] = square_of(to, l->fit);
        if (!p->held.h) continue;
        p->held.square[r] = square_of(to + l->fit, l->m - l->fit);
        p->held.mean[r] = mean_of(to + l->fit, l->m - l->fit);
    }
}

/* ---- one row ---- */

typedef struct row {
    const group *p;
    size_t o;           /* output channel */
    const float *w0;    /* as given */
    double *w, *d, *hd; /* target; rounded minus it; H times that */
    double scale;
    double *best, best_scale; /* whole steps of it */
} row;

static double clamp127(double q) { return q < -127 ? -127 : q > 127 ? 127 : q; }

/* Mean squared error of weights v over a part of the samples, where the bias misses `offset`. */
static double error_over(const row *r, const moments *m, const double *v, double offset)
{
    const size_t k = r->p->l->k, own = r->o % r->p->l->outputs;
    const double *c = m->c + own * k;
    double e = m->square[own] + offset * offset + 2 * offset * m->mean[own];
    for (size_t j = 0; j < k; j++)
        e += v[j] * (pq_linear_dot(m->h + j * k, v, k) - 2 * c[j] - 2 * offset * m->mean_x[j]);
    return e > 0 ? e : 0;
}

static double error_of(const row *r, const double *v, double offset)
{
    return error_over(r, &r->p->fit, v, offset);
}

static double offset_of(const row *r, const double *v, double bias)
{
    return r->p->mean_y[r->o % r->p->l->outputs] - bias -
           pq_linear_dot(v, r->p->mean_x, r->p->l->k);
}

/* The step with the least error where inputs count by their variance alone. */
static double find_scale(const row *r)
{
    const size_t k = r->p->l->k;
    double most = 0, least = INFINITY, best = 1;
    for (size_t j = 0; j < k; j++) most = fmax(most, fabs(r->w[j]));
    if (!(most > 0)) return 1;
    for (int i = 0; i < SHRINKS; i++) {
        const double s = most / 127 * (1 - 0.5 * i / (SHRINKS - 1));
        double e = 0;
        for (size_t j = 0; j < k; j++) {
            const double x = clamp127(rint(r->w[j] / s)) * s - r->w[j];
            e += x * x * (r->p->fit.h[j * k + j] + r->p->damp);
        }
        if (e < least) {
            least = e;
            best = s;
        }
    }
    return best;
}

/* Integers one at a time, each the best given the others, until none moves. */
static void descend(row *r)
{
    const size_t k = r->p->l->k;
    const double s = r->scale, damp = r->p->damp;
    for (size_t j = 0; j < k; j++) r->d[j] = clamp127(rint(r->w[j] / s)) * s - r->w[j];
    for (size_t j = 0; j < k; j++)
        r->hd[j] = pq_linear_dot(r->p->fit.h + j * k, r->d, k) + damp * r->d[j];
    for (int sweep = 0; sweep < SWEEPS; sweep++) {
        bool moved = false;
        for (size_t j = 0; j < k; j++) {
            const double *h = r->p->fit.h + j * k, own = h[j] + damp;
            const double now = rint((r->w[j] + r->d[j]) / s);
            const double q = clamp127(rint((r->w[j] + r->d[j] - r->hd[j] / own) / s));
            if (q == now) continue;
            const double step = (q - now) * s;
            r->d[j] += step;
            for (size_t i = 0; i < k; i++) r->hd[i] += step * h[i];
            r->hd[j] += step * damp;
            moved = true;
        }
        if (!moved) break;
    }
}

/* Returns the scale. */
static double nearest(const row *r, double *v)
{
    const size_t k = r->p->l->k;
    double most = 0;
    for (size_t j = 0; j < k; j++) most = fmax(most, fabs((double)r->w0[j]));
    const double s = most > 0 ? (double)((float)most / 127.0f) : 1;
    for (size_t j = 0; j < k; j++) v[j] = clamp127(rint((double)r->w0[j] / s)) * s;
    return s;
}

/* Rounds r->w, the target, and takes the outcome as r->best if it is. */
static void try_target(row *r, double bias, double *least)
{
    const group *p = r->p;
    const size_t k = p->l->k;
    r->scale = (double)(float)find_scale(r);
    descend(r);
    for (size_t j = 0; j < k; j++) r->d[j] = rint((r->w[j] + r->d[j]) / r->scale) * r->scale;
    const double offset = p->l->bias ? 0 : offset_of(r, r->d, bias);
    const double e = error_over(r, p->held.h ? &p->held : &p->fit, r->d, offset);
    if (!(e < *least)) return;
    *least = e;
    memcpy(r->best, r->d, k * sizeof *r->best);
    r->best_scale = r->scale;
}

static pq_status do_row(pq_ctx *ctx, void *user, size_t index, int worker)
{
    const group *p = user;
    const layer *l = p->l;
    const size_t k = l->k;
    row r = {.p = p, .o = p->index * l->outputs + index};
    double *room = NULL;
    pq_status st = pq_alloc(ctx, &room, 4 * k, sizeof *room);
    (void)worker;
    if (st != PQ_OK) return st;
    r.w = room;
    r.d = room + k;
    r.hd = room + 2 * k;
    r.best = room + 3 * k;
    r.w0 = l->o->w + r.o * k;
    const double bias = l->o->bias ? (double)l->o->bias[r.o] : 0;
    r.best_scale = nearest(&r, r.best);
    double offset = offset_of(&r, r.best, bias);
    l->before[r.o] = error_of(&r, r.best, offset);
    l->by_bias[r.o] = error_of(&r, r.best, 0);
    if (l->o->round) {
        const double *c = p->fit.c + index * k;
        double least = error_over(&r, p->held.h ? &p->held : &p->fit, r.best, l->bias ? 0 : offset);
        for (size_t j = 0; j < k; j++) r.w[j] = (double)r.w0[j];
        try_target(&r, bias, &least);
        for (size_t j = 0; j < k; j++) r.w[j] = c[j] + p->damp * (double)r.w0[j];
        pq_linear_solve(r.w, p->factor, k);
        try_target(&r, bias, &least);
        for (size_t j = 0; j < k; j++) l->weight[r.o * k + j] = (float)r.best[j];
        l->scale[r.o] = (float)r.best_scale;
    }
    offset = offset_of(&r, r.best, bias);
    if (l->bias) {
        l->bias[r.o] = (float)(bias + offset);
        offset = 0;
    }
    l->after[r.o] = error_of(&r, r.best, offset);
    pq_free(room);
    return PQ_OK;
}

/* ---- a group, a layer ---- */

static pq_status moments_new(pq_ctx *ctx, moments *m, const layer *l)
{
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &m->h, l->k * l->k, sizeof *m->h));
    PQ_TRY(pq_alloc(ctx, &m->c, l->outputs * l->k, sizeof *m->c));
    PQ_TRY(pq_alloc(ctx, &m->mean_x, l->k, sizeof *m->mean_x));
    PQ_TRY(pq_alloc(ctx, &m->mean, l->outputs, sizeof *m->mean));
    st = pq_alloc(ctx, &m->square, l->outputs, sizeof *m->square);
out:
    return st;
}

static void moments_clear(moments *m)
{
    pq_free(m->h);
    pq_free(m->c);
    pq_free(m->mean_x);
    pq_free(m->mean);
    pq_free(m->square);
}

/* Over n samples from `first` on. */
static pq_status multiply(pq_ctx *ctx, moments *m, const group *p, size_t first, size_t n)
{
    const layer *l = p->l;
    pq_status st = pq_linear_gram(ctx, m->h, p->x + first, l->k, n, l->m, l->threads);
    if (st != PQ_OK) return st;
    return pq_linear_cross(ctx, m->c, p->y + first, l->outputs, p->x + first, l->k, n, l->m,
                           l->threads);
}

static pq_status factor(pq_ctx *ctx, group *p)
{
    const size_t k = p->l->k;
    double trace = 0;
    for (size_t j = 0; j < k; j++) trace += p->fit.h[j * k + j];
    p->damp = ridge * trace / (double)k + 1e-12;
    if (!p->l->o->round) return PQ_OK;
    pq_status st = pq_alloc(ctx, &p->factor, k * k, sizeof *p->factor);
    if (st != PQ_OK) return st;
    memcpy(p->factor, p->fit.h, k * k * sizeof *p->factor);
    for (size_t j = 0; j < k; j++) p->factor[j * k + j] += p->damp;
    return pq_linear_factor(ctx, p->factor, k, p->l->threads);
}

static pq_status do_group(pq_ctx *ctx, void *user, size_t index, int worker)
{
    layer *l = user;
    group p = {.l = l, .index = index};
    pq_status st;
    (void)worker;
    PQ_TRY(pq_alloc(ctx, &p.x, l->k * l->m, sizeof *p.x));
    PQ_TRY(pq_alloc(ctx, &p.y, l->outputs * l->m, sizeof *p.y));
    PQ_TRY(pq_alloc(ctx, &p.mean_x, l->k, sizeof *p.mean_x));
    PQ_TRY(pq_alloc(ctx, &p.mean_y, l->outputs, sizeof *p.mean_y));
    PQ_TRY(moments_new(ctx, &p.fit, l));
    if (l->o->round && l->fit < l->m) PQ_TRY(moments_new(ctx, &p.held, l));
    PQ_TRY(pq_parallel(ctx, NULL, l->threads, l->k, gather_input, &p));
    gather_outputs(&p);
    PQ_TRY(multiply(ctx, &p.fit, &p, 0, l->fit));
    if (p.held.h) PQ_TRY(multiply(ctx, &p.held, &p, l->fit, l->m - l->fit));
    PQ_TRY(factor(ctx, &p));
    st = pq_parallel(ctx, NULL, l->threads, l->outputs, do_row, &p);
out:
    pq_free(p.x);
    pq_free(p.y);
    pq_free(p.mean_x);
    pq_free(p.mean_y);
    moments_clear(&p.fit);
    moments_clear(&p.held);
    pq_free(p.factor);
    return st;
}

static pq_status results(pq_ctx *ctx, layer *l, pq_fix *out)
{
    const pq_shape *shape = &pq_in(l->g, l->n, 1)->shape;
    const pq_shape channels = PQ_SHAPE(shape->dim[0]);
    const pq_value *bias = pq_in(l->g, l->n, 2);
    pq_status st = PQ_OK;
    if (l->o->round) {
        PQ_TRY(pq_tensor_new(ctx, &out->weight.data, PQ_F32, shape));
        PQ_TRY(pq_tensor_new(ctx, &out->weight.scale, PQ_F32, &channels));
        l->weight = pq_tensor_data(&out->weight.data);
        l->scale = pq_tensor_data(&out->weight.scale);
    }
    if (l->o->correct_bias && bias) {
        PQ_TRY(pq_tensor_new(ctx, &out->bias.data, PQ_F32, &bias->shape));
        l->bias = pq_tensor_data(&out->bias.data);
    }
out:
    return st;
}

pq_status pq_rebuild(pq_ctx *ctx, pq_fix *out, const pq_graph *g, const pq_node *n,
                     const pq_rebuild_opts *o)
{
    const pq_shape *shape = &pq_in(g, n, 1)->shape;
    const size_t channels = (size_t)shape->dim[0];
    layer l = {.g = g,
               .n = n,
               .o = o,
               .m = o->n_images * POSITIONS,
               .groups = (size_t)n->attr.window.groups,
               .outputs = channels / (size_t)n->attr.window.groups,
               .k = (size_t)(shape->dim[1] * shape->dim[2] * shape->dim[3])};
    double before = 0, by_bias = 0, after = 0, variance = 0;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &l.at, l.m, sizeof *l.at));
    PQ_TRY(pq_alloc(ctx, &l.image, o->n_images, sizeof *l.image));
    PQ_TRY(pq_alloc(ctx, &l.before, channels, sizeof *l.before));
    PQ_TRY(pq_alloc(ctx, &l.by_bias, channels, sizeof *l.by_bias));
    PQ_TRY(pq_alloc(ctx, &l.after, channels, sizeof *l.after));
    PQ_TRY(pq_alloc(ctx, &l.variance, channels, sizeof *l.variance));
    PQ_TRY(results(ctx, &l, out));
    order_images(&l);
    draw(&l);
    const int threads = pq_ctx_threads(ctx);
    l.threads = l.groups > 1 ? 1 : threads;
    PQ_TRY(pq_parallel(ctx, NULL, l.groups > 1 ? threads : 1, l.groups, do_group, &l));
    for (size_t c = 0; c < channels; c++) {
        before += l.before[c];
        by_bias += l.by_bias[c];
        after += l.after[c];
        variance += l.variance[c];
    }
    out->error_before = variance > 0 ? before / variance : 0;
    out->error_bias = variance > 0 ? by_bias / variance : 0;
    out->error = variance > 0 ? after / variance : 0;
out:
    pq_free(l.at);
    pq_free(l.image);
    pq_free(l.before);
    pq_free(l.by_bias);
    pq_free(l.after);
    pq_free(l.variance);
    return st;
}
