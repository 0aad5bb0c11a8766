/** @file zip.h  Members of a zip archive in memory (stored, deflated, zip64), by libzip. Sizes that
 *  the archive claims are held against its bytes before anything is allocated. */
#ifndef PQ_READ_ZIP_H
#define PQ_READ_ZIP_H

#include <pquant/tensor.h>

#include "base/ctx.h"

typedef struct pq_zip pq_zip;

/** True where the bytes begin like a zip archive. */
bool pq_zip_is(const void *data, size_t bytes);
/** Open; takes its own reference of file. Release with pq_zip_close. Errors: FORMAT, NOMEM. */
PQ_MUST_USE pq_status pq_zip_open(pq_ctx *ctx, pq_zip **out, pq_buf *file);
void pq_zip_close(pq_zip *z);

size_t pq_zip_count(const pq_zip *z);
/** Borrowed name of member i, NULL where it has none. */
const char *pq_zip_name(const pq_zip *z, size_t i);
bool pq_zip_has(const pq_zip *z, const char *name);
/** The member's bytes in a fresh buffer (drop it with pq_buf_unref). Errors: FORMAT (no such
 * member, truncated, wrong checksum, a size that the compressed bytes cannot give), UNSUPPORTED
 * (encrypted, foreign compression), NOMEM. */
PQ_MUST_USE pq_status pq_zip_read(pq_ctx *ctx, pq_buf **out, pq_zip *z, const char *name);

#endif
