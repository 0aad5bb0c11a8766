/* The hard-coded choices of DAMO-YOLO's tools/partial_quantization: which operators are INT8. */
#include <pquant/select.h>

#include <string.h>

#include "base/ctx.h"

struct span {
    size_t first, last;
};

static const struct span tiny[] = {{0, 23}, {74, 79}};
static const struct span small[] = {{0, 30},  {32, 40}, {42, 48}, {50, 50}, {52, 58},
                                    {60, 60}, {62, 68}, {70, 70}, {72, 78}, {80, 85}};
static const struct span medium[] = {{0, 4}, {6, 14}, {16, 32}, {34, 45}, {47, 47}, {108, 113}};

static const struct {
    const char *name;
    const struct span *span;
    size_t n_spans;
} preset[] = {{"tiny", tiny, sizeof tiny / sizeof *tiny},
              {"small", small, sizeof small / sizeof *small},
              {"medium", medium, sizeof medium / sizeof *medium}};

pq_status pq_preset(pq_ctx *ctx, bool *int8, size_t n, const char *name)
{
    for (size_t p = 0; p < sizeof preset / sizeof *preset; p++) {
        if (strcmp(preset[p].name, name) != 0) continue;
        const size_t last = preset[p].span[preset[p].n_spans - 1].last;
        if (n <= last)
            return pq_fail(ctx, PQ_E_INVALID, "preset '%s' names operator %zu, the model has %zu",
                           name, last, n);
        memset(int8, 0, n);
        for (size_t s = 0; s < preset[p].n_spans; s++)
            for (size_t i = preset[p].span[s].first; i <= preset[p].span[s].last; i++)
                int8[i] = true;
        return PQ_OK;
    }
    return pq_fail(ctx, PQ_E_INVALID, "preset '%s', expected tiny, small or medium", name);
}
