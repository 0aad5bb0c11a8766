/* Pictures: memory, which format a file has, and writing. */
#include <pquant/data.h>

#include <string.h>
#include <strings.h>

#include "base/file.h"
#include "base/mem.h"
#include "data/codec.h"

pq_status pq_data__check_size(pq_ctx *ctx, uint64_t w, uint64_t h, const char *name)
{
    if (w && h && w <= PQ_IMAGE_MAX_PIXELS && h <= PQ_IMAGE_MAX_PIXELS / w) return PQ_OK;
    return pq_fail(ctx, PQ_E_UNSUPPORTED, "%s: %llu x %llu pixels, expected 1 to %llu in all", name,
                   (unsigned long long)w, (unsigned long long)h,
                   (unsigned long long)PQ_IMAGE_MAX_PIXELS);
}

pq_status pq_image_new(pq_ctx *ctx, pq_image *out, int w, int h)
{
    *out = (pq_image){0};
    if (w < 1 || h < 1 || (uint64_t)h > PQ_IMAGE_MAX_PIXELS / (uint64_t)w)
        return pq_fail(ctx, PQ_E_INVALID, "no image can have %d x %d pixels", w, h);
    pq_status st = pq_alloc(ctx, &out->data, (size_t)w * (size_t)h, 3);
    if (st != PQ_OK) return st;
    out->w = w;
    out->h = h;
    return PQ_OK;
}

void pq_image_clear(pq_image *img)
{
    pq_free(img->data);
    *img = (pq_image){0};
}

pq_status pq_image_decode(pq_ctx *ctx, pq_image *out, const void *data, size_t bytes,
                          const char *name)
{
    static const uint8_t png[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    static const uint8_t jpeg[3] = {0xff, 0xd8, 0xff};
    *out = (pq_image){0};
    if (bytes >= sizeof jpeg && memcmp(data, jpeg, sizeof jpeg) == 0)
        return pq_data__jpeg_decode(ctx, out, data, bytes, name);
    if (bytes >= sizeof png && memcmp(data, png, sizeof png) == 0)
        return pq_data__png_decode(ctx, out, data, bytes, name);
    if (!bytes) return pq_fail(ctx, PQ_E_FORMAT, "%s: empty file, expected JPEG or PNG", name);
    return pq_fail(ctx, PQ_E_UNSUPPORTED, "%s: neither JPEG nor PNG by its first bytes", name);
}

pq_status pq_image_load(pq_ctx *ctx, pq_image *out, const char *path)
{
    pq_buf *b;
    *out = (pq_image){0};
    pq_status st = pq_file_map(ctx, &b, path);
    if (st != PQ_OK) return st;
    st = pq_image_decode(ctx, out, pq_buf_data(b), pq_buf_bytes(b), path);
    pq_buf_unref(b);
    return st;
}

pq_status pq_image_save(pq_ctx *ctx, const pq_image *img, const char *path)
{
    const char *dot = strrchr(pq_path_base(path), '.');
    bool png = dot && strcasecmp(dot, ".png") == 0;
    bool jpeg = dot && (strcasecmp(dot, ".jpg") == 0 || strcasecmp(dot, ".jpeg") == 0);
    if (!png && !jpeg)
        return pq_fail(ctx, PQ_E_INVALID, "%s: extension '%s', expected .jpg, .jpeg or .png", path,
                       dot ? dot : "");
    pq_out f;
    pq_status st = pq_out_open(ctx, &f, path);
    if (st != PQ_OK) return st;
    st = png ? pq_data__png_encode(ctx, f.f, img) : pq_data__jpeg_encode(ctx, f.f, img);
    if (st == PQ_OK) return pq_out_commit(ctx, &f);
    pq_out_abort(&f);
    return pq_prefix(ctx, st, "%s", path);
}
