/** @file cpu.h  What the processor can do, read once at run time. */
#ifndef PQ_BASE_CPU_H
#define PQ_BASE_CPU_H

#include <stdbool.h>

typedef struct pq_cpu {
    bool avx2, fma, avx512; /* avx512: F, BW, DQ and VL together */
    bool avx_vnni, avx512_vnni, avx512_bf16;
    bool sha; /* the SHA extensions and SSE4.1 */
    char model[64];
} pq_cpu;

/** PQ_CPU_MASK in the environment ("none", "avx2", "avx512") lowers what is reported, so that every
 *  kernel path can be forced. */
const pq_cpu *pq_cpu_get(void);

#endif
