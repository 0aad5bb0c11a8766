/** @file histogram.h  What was seen of one value, and ranges chosen from it. */
#ifndef PQ_CALIBRATE_HISTOGRAM_H
#define PQ_CALIBRATE_HISTOGRAM_H

#include <pquant/calibrate.h>

enum { PQ_BINS = 8192 };

/** Counts over [-reach, reach), doubled (pairs of bins merged) when a value falls outside, so that
 *  memory is bounded and one pass is enough. reach 0: only zeros so far. */
typedef struct pq_histogram {
    double reach;
    float min, max;
    uint64_t zeros; /* exact zeros, half of many feature maps, apart from the bins */
    uint64_t bin[PQ_BINS];
    uint64_t mass[PQ_BINS]; /* the same, each value counted by the weight of its channel */
} pq_histogram;

/** How much an error in each channel matters. Integers, so that sums do not depend on the order in
 *  which threads add. */
typedef struct pq_channels {
    const uint16_t *weight; /* [n]; NULL: 1 each */
    size_t n;
    size_t run; /* values of one channel that lie side by side: 1 for NHWC, h * w for NCHW */
} pq_channels;

/** Adds n values; channels may be NULL. false: one of them is not finite. Threads: parallel inside
 *  (OpenMP). */
bool pq_histogram_add(pq_histogram *h, const float *x, size_t n, const pq_channels *channels,
                      int n_threads);

/** Root mean square and kurtosis around 0 of all that was counted, from the bins' middles. 0, 0
 *  where nothing but zeros was. */
void pq_histogram_moments(const pq_histogram *h, double *rms, double *kurtosis);

/** A range: reals lo .. hi on `levels` steps. */
typedef struct pq_interval {
    double lo, hi;
} pq_interval;

/** symmetric: the s8 grid (amax is hi); else the u8 grid. */
pq_interval pq_choose(const pq_histogram *h, pq_calibrator method, double percentile,
                      bool symmetric);
/** Mean of |x - x^|^power under a range. */
double pq_expected_error(const pq_histogram *h, pq_interval r, bool symmetric, double power);

#endif
