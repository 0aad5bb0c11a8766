/* Zip members through libzip, reading from memory. */
#include "read/zip.h"

#include <string.h>
#include <zip.h>

#include "base/mem.h"

/* Deflate emits at most 258 bytes for 2 bits: no more than 1032 for each byte read. */
enum { MAX_RATIO = 1032, SLACK = 65536 };

struct pq_zip {
    zip_t *za;
    pq_buf *file;
};

bool pq_zip_is(const void *data, size_t bytes)
{
    return bytes >= 4 && (memcmp(data, "PK\3\4", 4) == 0 || memcmp(data, "PK\5\6", 4) == 0);
}

pq_status pq_zip_open(pq_ctx *ctx, pq_zip **out, pq_buf *file)
{
    pq_status st;
    zip_error_t e;
    zip_source_t *src = NULL;
    *out = NULL;
    zip_error_init(&e);
    PQ_TRY(pq_alloc(ctx, out, 1, sizeof **out));
    (*out)->file = pq_buf_ref(file);
    src = zip_source_buffer_create(pq_buf_data(file), pq_buf_bytes(file), 0, &e);
    if (src) (*out)->za = zip_open_from_source(src, ZIP_RDONLY, &e);
    if (!(*out)->za) {
        const int code = zip_error_code_zip(&e);
        st = pq_fail(ctx, code == ZIP_ER_MEMORY ? PQ_E_NOMEM : PQ_E_FORMAT,
                     "zip archive of %zu bytes: %s", pq_buf_bytes(file),
                     code == ZIP_ER_NOZIP ? "no directory at its end, the file is cut short"
                                          : zip_error_strerror(&e));
        zip_source_free(src);
    }
out:
    if (st != PQ_OK) {
        pq_zip_close(*out);
        *out = NULL;
    }
    zip_error_fini(&e);
    return st;
}

void pq_zip_close(pq_zip *z)
{
    if (!z) return;
    if (z->za) zip_discard(z->za);
    pq_buf_unref(z->file);
    pq_free(z);
}

size_t pq_zip_count(const pq_zip *z)
{
    zip_int64_t n = zip_get_num_entries(z->za, 0);
    return n > 0 ? (size_t)n : 0;
}

const char *pq_zip_name(const pq_zip *z, size_t i)
{
    return zip_get_name(z->za, i, ZIP_FL_ENC_RAW);
}

bool pq_zip_has(const pq_zip *z, const char *name)
{
    return zip_name_locate(z->za, name, ZIP_FL_ENC_RAW) >= 0;
}

static pq_status check_stat(pq_ctx *ctx, const zip_stat_t *s, const char *name, size_t file_bytes)
{
    const zip_uint64_t need = ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD;
    if ((s->valid & need) != need)
        return pq_fail(ctx, PQ_E_FORMAT, "zip member '%s': its header gives no sizes", name);
    if ((s->valid & ZIP_STAT_ENCRYPTION_METHOD) && s->encryption_method != ZIP_EM_NONE)
        return pq_fail(ctx, PQ_E_UNSUPPORTED, "zip member '%s': encrypted", name);
    if (s->comp_method != ZIP_CM_STORE && s->comp_method != ZIP_CM_DEFLATE)
        return pq_fail(
            ctx, PQ_E_UNSUPPORTED,
            "zip member '%s': compression method %d, expected 0 (stored) or 8 (deflated)", name,
            s->comp_method);
    if (s->comp_size > file_bytes)
        return pq_fail(ctx, PQ_E_FORMAT, "zip member '%s': claims %llu bytes in a file of %zu",
                       name, (unsigned long long)s->comp_size, file_bytes);
    /* comp_size is bounded by the file, so the product cannot overflow for any real file. */
    const zip_uint64_t most =
        s->comp_method == ZIP_CM_STORE ? s->comp_size : s->comp_size * MAX_RATIO + SLACK;
    if (s->size > most || s->size > SIZE_MAX)
        return pq_fail(ctx, PQ_E_FORMAT,
                       "zip member '%s': claims %llu bytes out of %llu, at most %llu can come",
                       name, (unsigned long long)s->size, (unsigned long long)s->comp_size,
                       (unsigned long long)most);
    return PQ_OK;
}

pq_status pq_zip_read(pq_ctx *ctx, pq_buf **out, pq_zip *z, const char *name)
{
    pq_status st = PQ_OK;
    zip_file_t *f = NULL;
    zip_stat_t s;
    *out = NULL;
    zip_stat_init(&s);
    zip_int64_t index = zip_name_locate(z->za, name, ZIP_FL_ENC_RAW);
    if (index < 0 || zip_stat_index(z->za, (zip_uint64_t)index, 0, &s) != 0)
        return pq_fail(ctx, PQ_E_FORMAT, "zip member '%s': not in the archive", name);
    PQ_TRY(check_stat(ctx, &s, name, pq_buf_bytes(z->file)));
    f = zip_fopen_index(z->za, (zip_uint64_t)index, 0);
    if (!f) {
        st = pq_fail(ctx, PQ_E_FORMAT, "zip member '%s': %s", name, zip_strerror(z->za));
        goto out;
    }
    PQ_TRY(pq_buf_new(ctx, out, (size_t)s.size));
    char *to = pq_buf_data(*out);
    zip_uint64_t got = 0;
    while (got < s.size) {
        zip_int64_t n = zip_fread(f, to + got, s.size - got);
        if (n <= 0) {
            st = pq_fail(ctx, PQ_E_FORMAT, "zip member '%s': %llu of %llu bytes (%s)", name,
                         (unsigned long long)got, (unsigned long long)s.size,
                         n < 0 ? zip_file_strerror(f) : "its data end");
            goto out;
        }
        got += (zip_uint64_t)n;
    }
    char more; /* the checksum is checked when the end is read */
    if (zip_fread(f, &more, 1) != 0)
        st = pq_fail(ctx, PQ_E_FORMAT, "zip member '%s': after %llu bytes: %s", name,
                     (unsigned long long)got, zip_file_strerror(f));
out:
    if (f) zip_fclose(f);
    if (st != PQ_OK) {
        pq_buf_unref(*out);
        *out = NULL;
    }
    return st;
}
