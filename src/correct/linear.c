/* Gram matrices in tiles of four by four dot products, Cholesky by rows. */
#include "correct/linear.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/parallel.h"

enum { TILE = 4, LANES = 8, PIECE = 1024 };

/* Sixteen dot products of rows a[0 .. 3] and b[0 .. 3], m long. Lanes are explicit, so that the
 * compiler may use vectors without changing the order of the sums. */
static void tile(double out[TILE][TILE], const float *const a[TILE], const float *const b[TILE],
                 size_t m)
{
    memset(out, 0, TILE * sizeof *out);
    for (size_t from = 0; from < m; from += PIECE) {
        const size_t to = m - from < PIECE ? m : from + PIECE;
        float acc[TILE][TILE][LANES] = {{{0}}};
        size_t i = from;
        for (; i + LANES <= to; i += LANES)
            for (int r = 0; r < TILE; r++)
                for (int c = 0; c < TILE; c++)
                    for (int l = 0; l < LANES; l++)
                        acc[r][c][l] += a[r][i + (size_t)l] * b[c][i + (size_t)l];
        for (; i < to; i++)
            for (int r = 0; r < TILE; r++)
                for (int c = 0; c < TILE; c++) acc[r][c][0] += a[r][i] * b[c][i];
        for (int r = 0; r < TILE; r++)
            for (int c = 0; c < TILE; c++)
                for (int l = 0; l < LANES; l++) out[r][c] += (double)acc[r][c][l];
    }
}

typedef struct product {
    double *out;
    const float *a, *b;
    size_t n_a, n_b, m, stride;
    bool symmetric;
} product;

static void rows_from(const float *row[TILE], const float *x, size_t first, size_t n, size_t stride)
{
    for (size_t r = 0; r < TILE; r++) row[r] = x + (first + r < n ? first + r : n - 1) * stride;
}

/* One row of tiles; of a symmetric product the part up to the diagonal, mirrored. */
static pq_status tile_row(pq_ctx *ctx, void *user, size_t item, int worker)
{
    const product *p = user;
    const float *a[TILE], *b[TILE];
    double t[TILE][TILE];
    const size_t i = item * TILE, end = p->symmetric ? i + 1 : p->n_b;
    (void)ctx;
    (void)worker;
    rows_from(a, p->a, i, p->n_a, p->stride);
    for (size_t j = 0; j < end; j += TILE) {
        rows_from(b, p->b, j, p->n_b, p->stride);
        tile(t, a, b, p->m);
        for (size_t r = 0; r < TILE && i + r < p->n_a; r++)
            for (size_t c = 0; c < TILE && j + c < p->n_b; c++) {
                const double v = t[r][c] / (double)p->m;
                p->out[(i + r) * p->n_b + j + c] = v;
                if (p->symmetric) p->out[(j + c) * p->n_b + i + r] = v;
            }
    }
    return PQ_OK;
}

static pq_status multiply(pq_ctx *ctx, const product *p, int threads)
{
    return pq_parallel(ctx, NULL, threads, (p->n_a + TILE - 1) / TILE, tile_row, (void *)p);
}

pq_status pq_linear_gram(pq_ctx *ctx, double *h, const float *x, size_t k, size_t m, size_t stride,
                         int threads)
{
    product p = {
        .out = h, .a = x, .b = x, .n_a = k, .n_b = k, .m = m, .stride = stride, .symmetric = true};
    return multiply(ctx, &p, threads);
}

pq_status pq_linear_cross(pq_ctx *ctx, double *c, const float *y, size_t o, const float *x,
                          size_t k, size_t m, size_t stride, int threads)
{
    product p = {.out = c, .a = y, .b = x, .n_a = o, .n_b = k, .m = m, .stride = stride};
    return multiply(ctx, &p, threads);
}

double pq_linear_dot(const double *a, const double *b, size_t n)
{
    double acc[LANES] = {0}, sum = 0;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t l = 0; l < LANES; l++) acc[l] += a[i + l] * b[i + l];
    for (; i < n; i++) acc[0] += a[i] * b[i];
    for (size_t l = 0; l < LANES; l++) sum += acc[l];
    return sum;
}

enum { BAND = 32 };

typedef struct column {
    double *a;
    size_t k, first, n; /* the band's columns: first .. first + n - 1 */
} column;

/* Rows below the band: their entries in the band's columns. */
static pq_status below(pq_ctx *ctx, void *user, size_t item, int worker)
{
    const column *c = user;
    const size_t from = c->first + c->n + item * BAND;
    const size_t to = from + BAND < c->k ? from + BAND : c->k;
    (void)ctx;
    (void)worker;
    for (size_t i = from; i < to; i++)
        for (size_t j = c->first; j < c->first + c->n; j++) {
            double *x = &c->a[i * c->k + j];
            const double pivot = c->a[j * c->k + j];
            *x = (*x - pq_linear_dot(&c->a[i * c->k], &c->a[j * c->k], j)) / pivot;
        }
    return PQ_OK;
}

pq_status pq_linear_factor(pq_ctx *ctx, double *a, size_t k, int threads)
{
    for (size_t first = 0; first < k; first += BAND) {
        column c = {a, k, first, k - first < BAND ? k - first : BAND};
        for (size_t i = first; i < first + c.n; i++)
            for (size_t j = first; j <= i; j++) {
                double *x = &a[i * k + j];
                *x -= pq_linear_dot(&a[i * k], &a[j * k], j);
                if (i != j)
                    *x /= a[j * k + j];
                else
                    *x = *x > 0 ? sqrt(*x) : 1;
            }
        const size_t left = k - first - c.n;
        pq_status st = pq_parallel(ctx, NULL, left > 4 * BAND ? threads : 1,
                                   (left + BAND - 1) / BAND, below, &c);
        if (st != PQ_OK) return st;
    }
    return PQ_OK;
}

void pq_linear_solve(double *b, const double *l, size_t k)
{
    for (size_t i = 0; i < k; i++) b[i] = (b[i] - pq_linear_dot(&l[i * k], b, i)) / l[i * k + i];
    for (size_t i = k; i-- > 0;) {
        b[i] /= l[i * k + i];
        const double x = b[i];
        for (size_t j = 0; j < i; j++) b[j] -= l[i * k + j] * x;
    }
}
