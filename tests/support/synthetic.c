/* Weights by formula. */
#include "support/synthetic.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "read/arch/damoyolo.h"

bool pq_test_shared(char *text, size_t size, const char *name)
{
    const char *root = getenv("PQ_SHARED");
    snprintf(text, size, "%s/%s", root ? root : "../shared", name);
    return pq_file_exists(text);
}

pq_status pq_test_synthetic_golden(pq_ctx *ctx, cJSON **out, const char *model)
{
    char name[64], path[512];
    snprintf(name, sizeof name, "golden/synthetic/%s.json", model);
    pq_test_shared(path, sizeof path, name);
    return pq_json_load(ctx, out, path);
}

/* murmur3's finalizer over a golden-ratio sequence: uniform in [0, 1). */
static double uniform(uint32_t i, uint32_t seed)
{
    uint32_t x = i * 2654435761u + seed;
    x ^= x >> 16;
    x *= 0x85ebca6bu;
    x ^= x >> 13;
    x *= 0xc2b2ae35u;
    x ^= x >> 16;
    return (double)x * 0x1p-32;
}

static bool ends_with(const char *s, const char *tail)
{
    const size_t n = strlen(s), k = strlen(tail);
    return n >= k && strcmp(s + n - k, tail) == 0;
}

static void fill(float *x, const char *key, const pq_shape *s, double head_factor, bool kept)
{
    const uint32_t seed = pq_crc32(0, key, strlen(key));
    const bool head = strncmp(key, "head.gfl", 8) == 0;
    double low = 0.5, span = 1.0; /* one-dimensional weights, running_var */
    if (s->rank == 4) {
        span = sqrt(3.0 / (double)(s->dim[1] * s->dim[2] * s->dim[3])) * (head ? head_factor : 1);
        low = -span, span *= 2;
    } else if (ends_with(key, "running_mean") || ends_with(key, ".bias"))
        low = -0.1, span = 0.2;
    else if (ends_with(key, ".scale"))
        low = 0.8, span = 0.4;
    for (int64_t i = 0; i < pq_shape_count(s); i++)
        x[i] = kept ? (float)i : (float)(low + span * uniform((uint32_t)i, seed));
}

pq_status pq_test_synthetic_state(pq_ctx *ctx, pq_state **out, const cJSON *golden,
                                  const char *without)
{
    pq_status st;
    pq_state *s = NULL;
    pq_tensor t = {0};
    double head_factor;
    const cJSON *list, *e;
    *out = NULL;
    PQ_TRY(pq_json_number(ctx, &head_factor, golden, "head_factor", "golden"));
    PQ_TRY(pq_json_array(ctx, &list, golden, "state", "golden"));
    PQ_TRY(pq_state_new(ctx, &s));
    cJSON_ArrayForEach(e, list)
    {
        const char *key = cJSON_GetArrayItem(e, 0)->valuestring;
        const cJSON *dims = cJSON_GetArrayItem(e, 1), *d;
        pq_shape shape = {0, {0}};
        cJSON_ArrayForEach(d, dims) shape.dim[shape.rank++] = (int64_t)d->valuedouble;
        if (without && strncmp(key, without, strlen(without)) == 0) continue;
        PQ_TRY(pq_tensor_new(ctx, &t, PQ_F32, &shape));
        fill(pq_tensor_data(&t), key, &shape, head_factor, cJSON_GetArraySize(e) > 2);
        PQ_TRY(pq_state_add(ctx, s, key, &t));
        pq_tensor_clear(&t);
    }
    pq_state_sort(s);
    *out = s;
    s = NULL;
out:
    pq_tensor_clear(&t);
    pq_state_free(s);
    return st;
}

pq_status pq_test_synthetic_read(pq_ctx *ctx, pq_graph **out, const char *model, int64_t h,
                                 int64_t w)
{
    pq_status st;
    cJSON *golden = NULL;
    pq_state *s = NULL;
    const pq_read_opts opts = {.h = h, .w = w};
    *out = NULL;
    PQ_TRY(pq_test_synthetic_golden(ctx, &golden, model));
    PQ_TRY(pq_test_synthetic_state(ctx, &s, golden, NULL));
    st = pq_damoyolo_read(ctx, out, s, &opts);
out:
    pq_state_free(s);
    cJSON_Delete(golden);
    return st;
}

pq_status pq_test_synthetic_input(pq_ctx *ctx, pq_tensor *out, int64_t h, int64_t w)
{
    pq_status st = pq_tensor_new(ctx, out, PQ_F32, &PQ_SHAPE(1, 3, h, w));
    if (st != PQ_OK) return st;
    float *p = pq_tensor_data(out);
    for (int64_t c = 0; c < 3; c++)
        for (int64_t y = 0; y < h; y++)
            for (int64_t x = 0; x < w; x++)
                *p++ = (float)((c * 53 + x * 7 + y * 13 + ((x * y) >> 5)) & 255);
    return PQ_OK;
}
