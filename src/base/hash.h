/** @file hash.h  SHA-256 (FIPS 180-4), for files, graphs and images, and CRC-32 (IEEE). */
#ifndef PQ_BASE_HASH_H
#define PQ_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

typedef struct pq_sha256 {
    uint32_t h[8];
    uint64_t n_bytes;
    uint8_t block[64];
} pq_sha256;
void pq_sha256_init(pq_sha256 *s);
void pq_sha256_add(pq_sha256 *s, const void *data, size_t n);
/** 64 hexadecimal digits and a terminator. The state is used up. */
void pq_sha256_hex(pq_sha256 *s, char hex[65]);
uint32_t pq_crc32(uint32_t crc, const void *data, size_t n);

#endif
