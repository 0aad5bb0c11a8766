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

static void widen(pq_histogram *h, double need)
{
    if (h->reach == 0) {
        h->reach = need;
        return;
    }
    while (h->reach < need) {
        uint64_t wide[PQ_BINS] = {0};
        for (int i = 0; i < PQ_BINS; i++) wide[PQ_BINS / 4 + i / 2] += h->bin[i];
        memcpy(h->bin, wide, sizeof wide);
        h->reach *= 2;
    }
}

bool pq_histogram_add(pq_histogram *h, const float *x, size_t n, int n_threads)
{
    float lo, hi;
    if (!extremes(x, n, &lo, &hi, n_threads)) return false;
    if (lo < h->min) h->min = lo;
    if (hi > h->max) h->max = hi;
    const double need = fmax(-(double)lo, (double)hi);
    if (need > 0) widen(h, need * (1 + 1e-6));
    const float k = h->reach > 0 ? (float)(PQ_BINS / 2 / h->reach) : 0;
#pragma omp parallel num_threads(n_threads)
    {
        uint32_t count[PQ_BINS] = {0};
        uint64_t zeros = 0;
#pragma omp for schedule(static) nowait
        for (size_t i = 0; i < n; i++) {
            int b =
                (int)(x[i] * k + (float)(PQ_BINS / 2)); /* never negative: truncation is floor */
            b = b < 0 ? 0 : b >= PQ_BINS ? PQ_BINS - 1 : b;
            if (x[i] == 0)
                zeros++;
            else
                count[b]++;
        }
#pragma omp critical(pq_histogram)
        {
            h->zeros += zeros;
            for (int i = 0; i < PQ_BINS; i++) h->bin[i] += count[i];
        }
    }
    return true;
}
