/** @file rng.h  Small deterministic random numbers (SplitMix64, Steele et al. 2014). */
#ifndef PQ_BASE_RNG_H
#define PQ_BASE_RNG_H

#include <stdint.h>

typedef struct pq_rng {
    uint64_t s;
} pq_rng;

static inline uint64_t pq_rng_u64(pq_rng *r)
{
    uint64_t z = (r->s += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
/** Uniform in [0, n), n > 0. */
static inline uint64_t pq_rng_below(pq_rng *r, uint64_t n) { return pq_rng_u64(r) % n; }
/** Uniform in [0, 1). */
static inline double pq_rng_double(pq_rng *r) { return (double)(pq_rng_u64(r) >> 11) * 0x1p-53; }

#endif
