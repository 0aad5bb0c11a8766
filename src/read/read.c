/* Which reader: by what the file begins with. */
#include <pquant/read.h>

#include <string.h>

#include "base/file.h"
#include "read/zip.h"

pq_status pq_read(pq_ctx *ctx, pq_graph **out, const char *path, const pq_read_opts *opts)
{
    pq_buf *file;
    *out = NULL;
    pq_status st = pq_file_map(ctx, &file, path);
    if (st != PQ_OK) return st;
    const uint8_t *p = pq_buf_data(file);
    const size_t n = pq_buf_bytes(file);
    /* 0x80: PROTO, the first opcode of a pickle, and of a .pth from before PyTorch 1.6. */
    const bool pth = pq_zip_is(p, n) || (n > 2 && p[0] == 0x80 && p[1] <= 5);
    const size_t length = strlen(path);
    pq_buf_unref(file);
    if (n == 0) return pq_fail(ctx, PQ_E_FORMAT, "%s: empty file, expected a model", path);
    if (!pth && length > 4 && strcmp(path + length - 4, ".pth") == 0)
        return pq_fail(ctx, PQ_E_FORMAT,
                       "%s: neither a zip archive nor a pickle by its first bytes", path);
    return pth ? pq_read_pth(ctx, out, path, opts) : pq_read_onnx(ctx, out, path, opts);
}
