/* Re-encoding of channels.
 *
 * A tensor has one scale, and where a few channels reach a hundred times as far as the others,
 * these drown in its step. Behind ReLU the weights would share that out exactly; SiLU lets no
 * factor pass. But f(gain z + shift) is often nearly an affine function of f(z) on what z really
 * is: a channel far from zero is nearly linear for any gain; one that stays within half a unit of
 * zero may be turned around and spread over a wide range (gain -32, say). So every channel tries a
 * table of gains and shifts, each with the least-squares way back, and is judged by the error
 * behind the operators that read it, rounding to the grid included, on sampled positions: all of
 * the table on a few, the best of these on all. The grid is the one with the least sum. */
#include "correct/encode.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/parallel.h"
#include "base/rng.h"
#include "calibrate/layout.h"
#include "correct/grid.h"
#include "graph/eval.h"

enum { SAMPLES = 2048, FEW = 256, FINALISTS = 4, GRIDS = 12, MOST_READERS = 8, MOST_WINDOW = 25 };
static const float gains[] = {0.125f, 0.18f, 0.25f, 0.35f, 0.5f, 0.7f, 1,  1.4f, 2,
                              2.8f,   4,     5.6f,  8,     11,   16,   22, 32};
static const float shifts[] = {0, -1, -0.5f, 0.5f, 1, 2, 3, 4};
enum { N_GAINS = sizeof gains / sizeof *gains, N_SHIFTS = sizeof shifts / sizeof *shifts };
/* A tensor whose error is below this share of what is computed from it is left alone. */
static const double least_error = 1e-3;
/* A channel leaves its plain form, and a tensor its plain channels, for at least this. */
static const double channel_gain = 0.9, tensor_gain = 0.7;

typedef struct reader {
    const pq_node *node;
    size_t window;   /* kernel positions */
    int32_t *at;     /* [SAMPLES][window]: place in a channel's map, -1 for padding */
    uint32_t *image; /* [SAMPLES] */
} reader;

typedef struct candidate {
    double error;
    float gain, shift, back, level;
} candidate;

typedef struct search {
    const pq_graph *g;
    const float *z;
    size_t channels, area;
    pq_act act;
    float alpha, beta;
    reader reader[MOST_READERS];
    size_t n_readers;
    pq_plan_tensor grid[GRIDS];
    double reach[GRIDS], low;
    candidate *best;  /* [channels][GRIDS] */
    double *plain;    /* [channels][GRIDS] */
    double *variance; /* [channels] */
    bool plain_only;
} search;

/* ---- where it applies ---- */

static bool bends(pq_act a) { return a == PQ_ACT_SILU || a == PQ_ACT_HARD_SWISH; }

static bool own_constants(const pq_graph *g, const pq_node *n)
{
    for (int k = 1; k < n->n_in; k++) {
        const pq_value *v = pq_in(g, n, k);
        if (v && (!v->data || v->dtype != PQ_F32 || pq_graph_count_readers(g, n->in[k]) != 1))
            return false;
    }
    return n->n_in > 2 && n->in[2] != PQ_NONE;
}

bool pq_encode_applies(const pq_graph *g, pq_value_id v)
{
    const pq_value *x = &g->value[v];
    size_t readers = 0;
    if (x->producer == PQ_NONE || x->shape.rank != 4 || pq_graph_is_output(g, v)) return false;
    const pq_node *p = &g->node[x->producer];
    if (p->op != PQ_OP_CONV || p->quant_index < 0 || !bends(p->attr.act) || !own_constants(g, p))
        return false;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const pq_node *n = &g->node[i];
        bool reads = false;
        for (int k = 0; k < n->n_in && !n->dead; k++) reads = reads || n->in[k] == v;
        if (!reads) continue;
        if (n->op != PQ_OP_CONV || n->quant_index < 0 || !own_constants(g, n)) return false;
        if (n->attr.window.kernel[0] * n->attr.window.kernel[1] > MOST_WINDOW) return false;
        readers++;
    }
    return readers > 0 && readers <= MOST_READERS;
}

/* ---- samples ---- */

static pq_status sample(pq_ctx *ctx, reader *r, const pq_graph *g, const pq_node *n,
                        size_t n_images, pq_rng *rng)
{
    const pq_window *w = &n->attr.window;
    const pq_shape *in = &pq_in(g, n, 0)->shape, *out = &pq_out_value(g, n, 0)->shape;
    pq_status st;
    r->node = n;
    r->window = (size_t)(w->kernel[0] * w->kernel[1]);
    PQ_TRY(pq_alloc(ctx, &r->at, SAMPLES * r->window, sizeof *r->at));
    PQ_TRY(pq_alloc(ctx, &r->image, SAMPLES, sizeof *r->image));
    for (size_t m = 0; m < SAMPLES; m++) {
        const int64_t p = (int64_t)pq_rng_below(rng, (uint64_t)(out->dim[2] * out->dim[3]));
        const int64_t y0 = p / out->dim[3] * w->stride[0] - w->pad[0];
        const int64_t x0 = p % out->dim[3] * w->stride[1] - w->pad[1];
        r->image[m] = (uint32_t)(m % n_images);
        for (size_t k = 0; k < r->window; k++) {
            const int64_t y = y0 + (int64_t)k / w->kernel[1] * w->dilation[0];
            const int64_t x = x0 + (int64_t)k % w->kernel[1] * w->dilation[1];
            const bool inside = y >= 0 && y < in->dim[2] && x >= 0 && x < in->dim[3];
            r->at[m * r->window + k] = inside ? (int32_t)(y * in->dim[3] + x) : -1;
        }
    }
out:
    return st;
}

/* Rows R with R'R = sum over outputs of w w', w [window] being the weights of channel c: at most
 * `window` of them, by Cholesky. Returns how many. */
static size_t importance(double *rows, const reader *r, const pq_graph *g, size_t c)
{
    const pq_value *v = pq_in(g, r->node, 1);
    const float *w = pq_buf_data(v->data);
    const size_t k2 = r->window, per_group = (size_t)v->shape.dim[1];
    const size_t outputs = (size_t)(v->shape.dim[0] / r->node->attr.window.groups);
    const size_t group = c / per_group, i = c % per_group;
    double gram[MOST_WINDOW * MOST_WINDOW] = {0};
    if (outputs == 1) {
        for (size_t k = 0; k < k2; k++) rows[k] = (double)w[(group * per_group + i) * k2 + k];
        return 1;
    }
    for (size_t o = group * outputs; o < (group + 1) * outputs; o++) {
        const float *x = w + (o * per_group + i) * k2;
        for (size_t a = 0; a < k2; a++)
            for (size_t b = 0; b < k2; b++) gram[a * k2 + b] += (double)x[a] * (double)x[b];
    }
    memset(rows, 0, k2 * k2 * sizeof *rows);
    for (size_t a = 0; a < k2; a++) { /* upper factor, a row each; what has no weight stays zero */
        double d = gram[a * k2 + a];
        for (size_t r2 = 0; r2 < a; r2++) d -= rows[r2 * k2 + a] * rows[r2 * k2 + a];
        if (d <= 1e-12 * gram[a * k2 + a]) continue;
        const double root = sqrt(d);
        for (size_t b = a; b < k2; b++) {
            double s = gram[a * k2 + b];
            for (size_t r2 = 0; r2 < a; r2++) s -= rows[r2 * k2 + a] * rows[r2 * k2 + b];
            rows[a * k2 + b] = s / root;
        }
    }
    return k2;
}

/* ---- one channel ---- */

typedef struct channel {
    float *z, *u, *target; /* [readers][SAMPLES][window], twice, and [readers][SAMPLES][rows] */
    double rows[MOST_READERS][MOST_WINDOW * MOST_WINDOW];
    size_t n_rows[MOST_READERS];
    candidate last[GRIDS][FINALISTS]; /* best first */
} channel;

static float activate(const search *s, float x)
{
    return s->act == PQ_ACT_SILU ? x / (1 + expf(-x)) : pq_eval_act(s->act, s->alpha, s->beta, x);
}

static float project(const double *row, const float *u, size_t n)
{
    float sum = 0;
    for (size_t k = 0; k < n; k++) sum += (float)row[k] * u[k];
    return sum;
}

/* Error of `back` times what the grid makes of c->u, against the target, with the best `back`, on
 * the first n samples. */
static candidate judge(const search *s, const channel *c, const pq_plan_tensor *grid, size_t n)
{
    const pq_steps steps = pq_steps_of(grid);
    double var_p = 0, cov = 0, var_t = 0;
    size_t at = 0, at_t = 0;
    for (size_t i = 0; i < s->n_readers; i++) {
        const size_t k2 = s->reader[i].window, nr = c->n_rows[i];
        double sp[MOST_WINDOW] = {0}, stt[MOST_WINDOW] = {0}, p2 = 0, pt = 0, t2 = 0;
        for (size_t m = 0; m < n; m++) {
            float u[MOST_WINDOW];
            for (size_t k = 0; k < k2; k++) u[k] = pq_steps_round(c->u[at + m * k2 + k], steps);
            for (size_t r = 0; r < nr; r++) {
                const float p = project(&c->rows[i][r * k2], u, k2),
                            t = c->target[at_t + m * nr + r];
                sp[r] += (double)p;
                stt[r] += (double)t;
                p2 += (double)(p * p);
                pt += (double)(p * t);
                t2 += (double)(t * t);
            }
        }
        for (size_t r = 0; r < nr; r++) {
            p2 -= sp[r] * sp[r] / (double)n;
            pt -= sp[r] * stt[r] / (double)n;
            t2 -= stt[r] * stt[r] / (double)n;
        }
        var_p += p2 / (double)n;
        cov += pt / (double)n;
        var_t += t2 / (double)n;
        at += SAMPLES * k2;
        at_t += SAMPLES * nr;
    }
    candidate r = {.error = var_t, .back = 0};
    if (var_p > 0) {
        r.back = (float)(cov / var_p);
        r.error = var_t - cov * cov / var_p;
    }
    if (r.error < 0) r.error = 0;
    return r;
}

/* Fills u with the activation of gain z + shift for the first n samples; padding is zero whatever
 * the encoding. */
static void encode(const search *s, channel *c, float gain, float shift, size_t n)
{
    size_t at = 0;
    for (size_t i = 0; i < s->n_readers; at += SAMPLES * s->reader[i++].window)
        for (size_t j = 0; j < n * s->reader[i].window; j++)
            c->u[at + j] = s->reader[i].at[j] < 0 ? 0 : activate(s, gain * c->z[at + j] + shift);
}

static double gather(const search *s, channel *c, size_t index)
{
    size_t at = 0, at_t = 0;
    double variance = 0;
    for (size_t i = 0; i < s->n_readers; i++) {
        const reader *r = &s->reader[i];
        c->n_rows[i] = importance(c->rows[i], r, s->g, index);
        for (size_t m = 0; m < SAMPLES; m++) {
            const float *map = s->z + ((size_t)r->image[m] * s->channels + index) * s->area;
            for (size_t k = 0; k < r->window; k++, at++) {
                const int32_t p = r->at[m * r->window + k];
                c->z[at] = p < 0 ? 0 : map[p];
            }
        }
    }
    encode(s, c, 1, 0, SAMPLES);
    at = 0;
    for (size_t i = 0; i < s->n_readers; i++) {
        const size_t k2 = s->reader[i].window, nr = c->n_rows[i];
        for (size_t r = 0; r < nr; r++) {
            double sum = 0, square = 0;
            for (size_t m = 0; m < SAMPLES; m++) {
                const float t = project(&c->rows[i][r * k2], &c->u[at + m * k2], k2);
                c->target[at_t + m * nr + r] = t;
                sum += (double)t;
                square += (double)t * (double)t;
            }
            variance += square / SAMPLES - sum / SAMPLES * sum / SAMPLES;
        }
        at += SAMPLES * k2;
        at_t += SAMPLES * nr;
    }
    return variance;
}

/* The mean that the way back misses. */
static float level_of(const search *s, channel *c, const candidate *x, const pq_plan_tensor *grid)
{
    const pq_steps steps = pq_steps_of(grid);
    double plain = 0, coded = 0;
    size_t at = 0, n = 0;
    for (size_t i = 0; i < s->n_readers; i++)
        for (size_t j = 0; j < SAMPLES * s->reader[i].window; j++, at++) {
            if (s->reader[i].at[j] < 0) continue;
            plain += (double)activate(s, c->z[at]);
            coded += (double)pq_steps_round(activate(s, x->gain * c->z[at] + x->shift), steps);
            n++;
        }
    return n ? (float)((plain - (double)x->back * coded) / (double)n) : 0;
}

/* Insertion by error; the first of equals stays in front. */
static void enter(candidate list[FINALISTS], candidate x)
{
    for (int k = 0; k < FINALISTS; k++) {
        if (!(x.error < list[k].error)) continue;
        const candidate next = list[k];
        list[k] = x;
        x = next;
    }
}

/* The whole table on a few samples. */
static void first_round(const search *s, channel *c)
{
    for (int k = 0; k < GRIDS; k++)
        for (int f = 0; f < FINALISTS; f++) c->last[k][f] = (candidate){.error = INFINITY};
    for (size_t i = 0; i < 2 * N_GAINS; i++)
        for (size_t j = 0; j < N_SHIFTS; j++) {
            const float gain = i % 2 ? -gains[i / 2] : gains[i / 2];
            if (gain == 1 && shifts[j] == 0) continue;
            encode(s, c, gain, shifts[j], FEW);
            for (int k = 0; k < GRIDS; k++) {
                candidate x = judge(s, c, &s->grid[k], FEW);
                x.gain = gain;
                x.shift = shifts[j];
                enter(c->last[k], x);
            }
        }
}

static void try_all(const search *s, channel *c, size_t index)
{
    first_round(s, c);
    for (int k = 0; k < GRIDS; k++) {
        candidate *best = &s->best[index * GRIDS + (size_t)k];
        const double plain = s->plain[index * GRIDS + (size_t)k];
        *best = (candidate){plain * channel_gain, 1, 0, 1, 0}; /* nothing to take back */
        for (int f = 0; f < FINALISTS && c->last[k][f].error < INFINITY; f++) {
            const candidate *from = &c->last[k][f];
            encode(s, c, from->gain, from->shift, SAMPLES);
            candidate x = judge(s, c, &s->grid[k], SAMPLES);
            if (!(x.error < best->error) || x.back == 0) continue;
            x.gain = from->gain;
            x.shift = from->shift;
            *best = x;
        }
        if (best->gain == 1 && best->shift == 0)
            best->error = plain;
        else
            best->level = level_of(s, c, best, &s->grid[k]);
    }
}

static pq_status do_channel(pq_ctx *ctx, void *user, size_t index, int worker)
{
    const search *s = user;
    channel *c = NULL;
    size_t n = 0;
    pq_status st;
    (void)worker;
    for (size_t i = 0; i < s->n_readers; i++) n += SAMPLES * s->reader[i].window;
    PQ_TRY(pq_alloc(ctx, &c, 1, sizeof *c));
    PQ_TRY(pq_alloc(ctx, &c->z, n, sizeof *c->z));
    PQ_TRY(pq_alloc(ctx, &c->u, n, sizeof *c->u));
    PQ_TRY(pq_alloc(ctx, &c->target, n, sizeof *c->target));
    s->variance[index] = gather(s, c, index);
    if (s->plain_only) {
        for (int k = 0; k < GRIDS; k++)
            s->plain[index * GRIDS + (size_t)k] = judge(s, c, &s->grid[k], SAMPLES).error;
    } else
        try_all(s, c, index);
out:
    if (c) {
        pq_free(c->z);
        pq_free(c->u);
        pq_free(c->target);
    }
    pq_free(c);
    return st;
}

/* ---- the tensor ---- */

static void make_grids(search *s, pq_scheme scheme, double most)
{
    s->low = 0;
    for (int i = -8 * 64; i <= 0; i++) /* the activation's least value */
        s->low = fmin(s->low, (double)pq_eval_act(s->act, s->alpha, s->beta, (float)i / 64));
    const double first = fmin(1.5, most);
    for (int k = 0; k < GRIDS; k++) {
        s->reach[k] = (double)(float)(first * pow(most / first, (double)k / (GRIDS - 1)));
        s->grid[k] = pq_range_grid(scheme, s->reach[k], s->low, s->reach[k]);
    }
}

static int least_sum(const double *v, size_t stride, size_t n, double *sum)
{
    int best = 0;
    *sum = INFINITY;
    for (int k = 0; k < GRIDS; k++) {
        double t = 0;
        for (size_t c = 0; c < n; c++)
            t += *(const double *)((const char *)v + (c * GRIDS + (size_t)k) * stride);
        if (t < *sum) {
            *sum = t;
            best = k;
        }
    }
    return best;
}

static pq_status take(pq_ctx *ctx, pq_encoding *e, const search *s, int k)
{
    pq_status st;
    e->n = s->channels;
    PQ_TRY(pq_alloc(ctx, &e->gain, e->n, sizeof *e->gain));
    PQ_TRY(pq_alloc(ctx, &e->shift, e->n, sizeof *e->shift));
    PQ_TRY(pq_alloc(ctx, &e->back, e->n, sizeof *e->back));
    PQ_TRY(pq_alloc(ctx, &e->level, e->n, sizeof *e->level));
    for (size_t c = 0; c < e->n; c++) {
        const candidate *x = &s->best[c * GRIDS + (size_t)k];
        e->gain[c] = x->gain;
        e->shift[c] = x->shift;
        e->back[c] = x->back;
        e->level[c] = x->level;
    }
out:
    return st;
}

pq_status pq_encode_find(pq_ctx *ctx, bool *found, pq_encoding *out, pq_encoded_range *range,
                         const pq_graph *g, pq_value_id v, const float *z, size_t n_images,
                         pq_scheme scheme, uint64_t seed, const pq_range *plain)
{
    const pq_node *p = &g->node[g->value[v].producer];
    const pq_shape *shape = &g->value[v].shape;
    search s = {.g = g,
                .z = z,
                .channels = (size_t)shape->dim[1],
                .area = (size_t)(shape->dim[2] * shape->dim[3]),
                .act = p->attr.act,
                .alpha = p->attr.alpha,
                .beta = p->attr.beta,
                .plain_only = true};
    pq_rng rng = {seed ^ v};
    double variance = 0, before, after;
    pq_status st;
    *found = false;
    PQ_TRY(pq_alloc(ctx, &s.best, s.channels * GRIDS, sizeof *s.best));
    PQ_TRY(pq_alloc(ctx, &s.plain, s.channels * GRIDS, sizeof *s.plain));
    PQ_TRY(pq_alloc(ctx, &s.variance, s.channels, sizeof *s.variance));
    for (size_t i = 0; i < g->n_nodes; i++) {
        const pq_node *n = &g->node[i];
        if (!n->dead && n->n_in > 0 && n->in[0] == v)
            PQ_TRY(sample(ctx, &s.reader[s.n_readers++], g, n, n_images, &rng));
    }
    make_grids(&s, scheme, fmax((double)plain->max, 1e-3));
    PQ_TRY(pq_parallel(ctx, NULL, pq_ctx_threads(ctx), s.channels, do_channel, &s));
    for (size_t c = 0; c < s.channels; c++) variance += s.variance[c];
    least_sum(s.plain, sizeof *s.plain, s.channels, &before);
    if (!(before > least_error * variance)) goto out;
    s.plain_only = false;
    PQ_TRY(pq_parallel(ctx, NULL, pq_ctx_threads(ctx), s.channels, do_channel, &s));
    const int k = least_sum(&s.best->error, sizeof *s.best, s.channels, &after);
    if (!(after < tensor_gain * before)) goto out;
    PQ_TRY(take(ctx, out, &s, k));
    out->error_before = before / variance;
    out->error = after / variance;
    range->hi = (float)s.reach[k];
    range->lo = (float)s.low;
    *found = true;
out:
    for (size_t i = 0; i < s.n_readers; i++) {
        pq_free(s.reader[i].at);
        pq_free(s.reader[i].image);
    }
    pq_free(s.best);
    pq_free(s.plain);
    pq_free(s.variance);
    return st;
}
