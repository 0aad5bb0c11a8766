/* Ranges from a histogram: max, percentile, entropy, mse, and mse weighted by channel. */
#include <math.h>
#include <string.h>

#include "calibrate/histogram.h"

static double bin_width(const pq_histogram *h) { return h->reach / (PQ_BINS / 2); }
static double bin_middle(const pq_histogram *h, int i)
{
    return (i - PQ_BINS / 2 + 0.5) * bin_width(h);
}

static uint64_t total(const pq_histogram *h)
{
    uint64_t n = h->zeros;
    for (int i = 0; i < PQ_BINS; i++) n += h->bin[i];
    return n;
}

static pq_interval seen(const pq_histogram *h, bool symmetric)
{
    const double m = fmax(-(double)h->min, (double)h->max);
    return symmetric ? (pq_interval){-m, m} : (pq_interval){h->min, h->max};
}

/* The least t with at least `part` of all values within -t .. t (symmetric), or per side. */
static pq_interval percentile(const pq_histogram *h, double part, bool symmetric)
{
    const double outside = (double)total(h) * (1 - part);
    pq_interval r = seen(h, symmetric);
    double lost = 0;
    if (symmetric) {
        for (int i = PQ_BINS / 2 - 1; i >= 0; i--) {
            lost += (double)(h->bin[PQ_BINS / 2 + i] + h->bin[PQ_BINS / 2 - 1 - i]);
            if (lost > outside) {
                r.hi = fmin(r.hi, (i + 1) * bin_width(h));
                r.lo = -r.hi;
                break;
            }
        }
        return r;
    }
    for (int i = PQ_BINS - 1; i >= PQ_BINS / 2; i--)
        if ((lost += (double)h->bin[i]) > outside) {
            r.hi = fmin(r.hi, (i + 1 - PQ_BINS / 2) * bin_width(h));
            break;
        }
    lost = 0;
    for (int i = 0; i < PQ_BINS / 2; i++)
        if ((lost += (double)h->bin[i]) > outside) {
            r.lo = fmax(r.lo, (i - PQ_BINS / 2) * bin_width(h));
            break;
        }
    return r;
}

/* Each bin stands for its middle, quantized as a plan would: about 30 bins fall on a step, so the
 * mass that lies within half a step of zero (SiLU's tail) is seen for what it is. */
static double error_of(const pq_histogram *h, const uint64_t *bin, pq_interval r, bool symmetric,
                       double power)
{
    const double step = symmetric ? r.hi / 127 : (r.hi - r.lo) / 255, per = 1 / step;
    const double zero = symmetric ? 0 : rint(-r.lo * per);
    const double least = symmetric ? -128 : -zero, most = symmetric ? 127 : 255 - zero;
    double sum = 0, n = (double)h->zeros;
    for (int i = 0; i < PQ_BINS; i++) {
        if (!bin[i]) continue;
        const double x = bin_middle(h, i);
        double q = rint(x * per);
        q = q < least ? least : q > most ? most : q;
        const double e = fabs(x - q * step);
        n += (double)bin[i];
        sum += (double)bin[i] * (power == 2 ? e * e : pow(e, power));
    }
    return n > 0 ? sum / n : 0;
}

double pq_expected_error(const pq_histogram *h, pq_interval r, bool symmetric, double power)
{
    return error_of(h, h->bin, r, symmetric, power);
}

/* Shrinks each end in turn; two rounds are enough, since the ends interact through the step only.
 */
static pq_interval least_error(const pq_histogram *h, const uint64_t *bin, bool symmetric)
{
    enum { STEPS = 96 };
    const pq_interval whole = seen(h, symmetric);
    pq_interval best = whole;
    double least = error_of(h, bin, best, symmetric, 2);
    for (int round = 0; round < (symmetric ? 1 : 3); round++)
        for (int end = symmetric; end < 2; end++)
            for (int k = 1; k <= STEPS; k++) {
                const double f = pow(0.02, (double)(STEPS - k) / STEPS); /* 2 % to 100 % */
                pq_interval t = best;
                if (symmetric)
                    t = (pq_interval){-whole.hi * f, whole.hi * f};
                else if (end)
                    t.hi = whole.hi * f;
                else
                    t.lo = whole.lo * f;
                if (t.hi <= t.lo) continue;
                const double e = error_of(h, bin, t, symmetric, 2);
                if (e < least) {
                    least = e;
                    best = t;
                }
            }
    return best;
}

/* Divergence of the clipped distribution p[0 .. n-1] from its form on `levels` steps, where each
 * step spreads its mass evenly over its non-empty bins. Source: Migacz, GTC 2017, S7310. */
static double divergence(const double *p, int n, int levels, double outliers)
{
    double sum_p = outliers, sum_q = 0, kl = 0;
    for (int i = 0; i < n; i++) sum_p += p[i], sum_q += p[i];
    if (sum_q <= 0) return INFINITY;
    for (int l = 0; l < levels; l++) {
        const int a = (int)((int64_t)l * n / levels), b = (int)((int64_t)(l + 1) * n / levels);
        double mass = 0;
        int used = 0;
        for (int i = a; i < b; i++) mass += p[i], used += p[i] > 0;
        for (int i = a; i < b; i++) {
            const double pi = p[i] + (i == n - 1 ? outliers : 0);
            if (pi <= 0) continue;
            const double q = p[i] > 0 ? mass / used / sum_q : 1e-9;
            kl += pi / sum_p * log(pi / sum_p / q);
        }
    }
    return kl;
}

static pq_interval entropy(const pq_histogram *h, bool symmetric)
{
    enum { BINS = 2048 };
    const pq_interval whole = seen(h, symmetric);
    const double amax = fmax(-whole.lo, whole.hi);
    const int levels = symmetric || whole.lo < 0 ? 128 : 256;
    double p[BINS] = {0}, least = INFINITY, t = amax;
    for (int i = 0; i < PQ_BINS; i++) {
        int b = (int)(fabs(bin_middle(h, i)) / amax * BINS);
        p[b < BINS ? b : BINS - 1] += (double)h->bin[i];
    }
    double outliers = 0;
    for (int n = BINS; n >= levels; n--) {
        if (n < BINS) outliers += p[n];
        if ((BINS - n) % 8) continue;
        const double kl = divergence(p, n, levels, outliers);
        if (kl < least) {
            least = kl;
            t = amax * n / BINS;
        }
    }
    return (pq_interval){fmax(whole.lo, -t), fmin(whole.hi, t)};
}

pq_interval pq_choose(const pq_histogram *h, pq_calibrator method, double part, bool symmetric)
{
    pq_interval r = seen(h, symmetric);
    if (h->reach > 0) switch (method) {
        case PQ_CALIB_PERCENTILE: r = percentile(h, part / 100, symmetric); break;
        case PQ_CALIB_ENTROPY: r = entropy(h, symmetric); break;
        case PQ_CALIB_MSE: r = least_error(h, h->bin, symmetric); break;
        case PQ_CALIB_AUTO: r = least_error(h, h->mass, symmetric); break;
        case PQ_CALIB_MAX: break;
        }
    if (symmetric) r.hi = fmax(-r.lo, r.hi);
    if (r.lo > 0) r.lo = 0;
    if (r.hi < 0) r.hi = 0;
    if (r.hi - r.lo < 1e-12) r.hi = r.lo + 1; /* all zero: any step will do */
    if (symmetric) r.lo = -r.hi;
    return r;
}
