/** @file hash_internal.h  The block function of SHA-256 in its two forms. */
#ifndef PQ_BASE_HASH_INTERNAL_H
#define PQ_BASE_HASH_INTERNAL_H

#include <stddef.h>
#include <stdint.h>

extern const uint32_t pq_sha256_k[64];

/** n blocks of 64 bytes. Plain C, and with the SHA instructions (pq_cpu_get()->sha). */
void pq_sha256_blocks_plain(uint32_t h[8], const uint8_t *p, size_t n);
void pq_sha256_blocks_x86(uint32_t h[8], const uint8_t *p, size_t n);

#endif
