/* Streaming histograms with bounded memory. */
#include "calibrate/histogram.h"

#include <math.h>
#include <string.h>

static bool extremes(const float *x, size_t n, float *lo, float *hi, int n_threads)
{
    float a = 0, b = 0;
    int bad = 0;
#pragma omp parallel for num_threads(n_threads) schedule(static) reduction(min                     \
                                                                           : a) reduction(max      \
                                                                                          : b)     \
    reduction(|                                                                                    \
              : bad)
    for (size_t i = 0; i < n; i++) {
        a = x[i] < a ? x[i] : a;
        b = x[i] > b ? x[i] : b;
        bad |= !(fabsf(x[i]) <= 3.4e38f);
    }
    *lo = a;
    *hi = b;
    return !bad;
}

static void merge_pairs(uint64_t *bin)
{
    uint64_t wide[PQ_BINS] = {0};
    for (int i = 0; i < PQ_BINS; i++) wide[PQ_BINS / 4 + i / 2] += bin[i];
    memcpy(bin, wide, sizeof wide);
}

static void widen(pq_histogram *h, double need)
{
    if (h->reach == 0) {
        h->reach = need;
        return;
    }
    while (h->reach < need) {
        merge_pairs(h->bin);
        merge_pairs(h->mass);
        h->reach *= 2;
    }
}

/* Counts n values of one weight, or of the weights that follow each other. */
static void count(uint32_t *number, uint64_t *mass, uint64_t *zeros, const float *x, size_t n,
                  const uint16_t *weight, size_t step, float k)
{
    for (size_t i = 0; i < n; i++) {
        /* never negative: truncation is floor */
        int b = (int)(x[i] * k + (float)(PQ_BINS / 2));
        b = b < 0 ? 0 : b >= PQ_BINS ? PQ_BINS - 1 : b;
        if (x[i] == 0) {
            (*zeros)++;
            continue;
        }
        number[b]++;
        mass[b] += weight[i * step];
    }
}

bool pq_histogram_add(pq_histogram *h, const float *x, size_t n, const pq_channels *channels,
                      int n_threads)
{
    static const uint16_t one = 1;
    const bool weighted = channels && channels->weight;
    /* Pieces of equal weight, or rows of all channels, of a bounded length. */
    const size_t row = !weighted ? 4096 : channels->run == 1 ? channels->n : channels->run;
    const size_t n_rows = (n + row - 1) / row;
    float lo, hi;
    if (!extremes(x, n, &lo, &hi, n_threads)) return false;
    if (lo < h->min) h->min = lo;
    if (hi > h->max) h->max = hi;
    const double need = fmax(-(double)lo, (double)hi);
    if (need > 0) widen(h, need * (1 + 1e-6));
    const float k = h->reach > 0 ? (float)(PQ_BINS / 2 / h->reach) : 0;
#pragma omp parallel num_threads(n_threads)
    {
        uint32_t number[PQ_BINS] = {0};
        uint64_t mass[PQ_BINS] = {0};
        uint64_t zeros = 0;
#pragma omp for schedule(static) nowait
        for (size_t r = 0; r < n_rows; r++) {
            const bool same = !weighted || channels->run > 1;
            const uint16_t *w = !weighted ? &one : channels->weight + (same ? r % channels->n : 0);
            const size_t left = n - r * row;
            count(number, mass, &zeros, x + r * row, left < row ? left : row, w, !same, k);
        }
#pragma omp critical(pq_histogram)
        {
            h->zeros += zeros;
            for (int i = 0; i < PQ_BINS; i++) {
                h->bin[i] += number[i];
                h->mass[i] += mass[i];
            }
        }
    }
    return true;
}

void pq_histogram_moments(const pq_histogram *h, double *rms, double *kurtosis)
{
    double n = (double)h->zeros, square = 0, fourth = 0;
    for (int i = 0; i < PQ_BINS; i++) {
        const double x = (i - PQ_BINS / 2 + 0.5) * h->reach / (PQ_BINS / 2), c = (double)h->bin[i];
        n += c;
        square += c * x * x;
        fourth += c * x * x * x * x;
    }
    *rms = n > 0 ? sqrt(square / n) : 0;
    *kurtosis = square > 0 ? fourth * n / (square * square) : 0;
}
