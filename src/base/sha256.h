/** @file sha256.h  The compression function of SHA-256: blocks of 64 bytes into the state, in plain
 *  C and with the processor's own instructions; equal bit for bit. */
#ifndef PQ_BASE_SHA256_H
#define PQ_BASE_SHA256_H

#include <stddef.h>
#include <stdint.h>

typedef void (*pq_sha256_blocks_fn)(uint32_t h[8], const uint8_t *p, size_t n_blocks);

void pq_sha256_blocks_c(uint32_t h[8], const uint8_t *p, size_t n_blocks);
/** Only where pq_cpu_get()->sha is true. */
void pq_sha256_blocks_ni(uint32_t h[8], const uint8_t *p, size_t n_blocks);
/** The faster one that this processor has. */
pq_sha256_blocks_fn pq_sha256_blocks(void);

/** Round constants (FIPS 180-4, 4.2.2). */
extern const uint32_t pq_sha256_k[64];

#endif
