/* All passes, until nothing changes. */
#include <pquant/pass.h>

#include "base/ctx.h"

typedef pq_status (*pass_fn)(pq_ctx *ctx, size_t *changed, pq_graph *g);

/* fold_bn stands before reparam, which wants bare convolutions; both before fuse_act, which would
 * stop them. */
static const struct {
    const char *name;
    pass_fn run;
} passes[] = {
    {"fold_constants", pq_pass_fold_constants},
    {"dead_code", pq_pass_dead_code},
    {"fold_bn", pq_pass_fold_bn},
    {"reparam", pq_pass_reparam},
    {"fuse_focus", pq_pass_fuse_focus},
    {"fuse_act", pq_pass_fuse_act},
};

pq_status pq_pass_all(pq_ctx *ctx, pq_graph *g)
{
    pq_status st;
    size_t changed;
    PQ_TRY(pq_graph_infer(ctx, g));
    do {
        changed = 0;
        for (size_t i = 0; i < sizeof passes / sizeof *passes; i++) {
            size_t n = 0;
            PQ_TRY(passes[i].run(ctx, &n, g));
            if (n) pq_log(ctx, PQ_LOG_DEBUG, "pass", "%s: %zu", passes[i].name, n);
            changed += n;
        }
    } while (changed);
    PQ_TRY(pq_graph_compact(ctx, g));
    PQ_TRY(pq_graph_infer(ctx, g));
    if (g->opset > 0) pq_graph_mark_quantizable(g);
    st = pq_graph_verify(ctx, g);
out:
    return st;
}
