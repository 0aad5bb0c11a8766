/* A session's kernels against its plan. */
#include "audit/audit.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "plan/names.h"

enum { RUNS = 11 };

pq_status pq_audit_say(pq_ctx *ctx, pq_audit *a, bool fault, const char *node, const char *fmt, ...)
{
    char text[512];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    pq_status st = pq_grow(ctx, &a->finding, a->n_findings, a->n_findings + 1, sizeof *a->finding);
    if (st != PQ_OK) return st;
    pq_finding *f = &a->finding[a->n_findings];
    f->fault = fault;
    a->n_findings++;
    a->n_faults += fault;
    st = pq_strdup(ctx, &f->node, node);
    return st == PQ_OK ? pq_strdup(ctx, &f->text, text) : st;
}

void pq_audit_free(pq_audit *a)
{
    if (!a) return;
    for (size_t i = 0; i < a->n_layers; i++) {
        pq_free(a->layer[i].node);
        pq_free(a->layer[i].type);
    }
    for (size_t i = 0; i < a->n_findings; i++) {
        pq_free(a->finding[i].node);
        pq_free(a->finding[i].text);
    }
    pq_free(a->layer);
    pq_free(a->finding);
    pq_free(a);
}

static void add_up(pq_audit *a, const pq_layer *l, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        a->total_ms += l[i].ms;
        if (strcmp(l[i].op, PQ_LAYER_CONVERT) == 0) {
            a->n_converts++;
            a->convert_ms += l[i].ms;
        } else if (strcmp(l[i].op, PQ_LAYER_REORDER) == 0) {
            a->n_reorders++;
            a->reorder_ms += l[i].ms;
        }
    }
}

/* Does kernel l do the work of node n? */
static bool works_for(const pq_layer *l, const pq_node *n)
{
    if (strcmp(l->node, n->name) != 0) return false;
    return pq_op_is_weighted(n->op) ? l->macs > 0 : strstr(l->op, "Pool") != NULL;
}

static bool is_missing(const pq_audit_layer *l, const pq_node *n)
{
    return !l->achieved[0] && pq_op_is_weighted(n->op);
}

static void collect(pq_audit_layer *to, const pq_node *n, const pq_layer *l, size_t n_kernels)
{
    for (size_t i = 0; i < n_kernels; i++) {
        if (works_for(&l[i], n)) {
            to->ms += l[i].ms;
            if (to->achieved[0]) continue;
            snprintf(to->achieved, sizeof to->achieved, "%s", l[i].precision);
            snprintf(to->kernel, sizeof to->kernel, "%s", l[i].impl);
        } else if (strcmp(l[i].op, PQ_LAYER_CONVERT) == 0 && strcmp(l[i].node, n->name) == 0)
            to->convert_ms += l[i].ms;
    }
}

/* Kernels that an engine gave a name of its own (OpenVINO does where it folds a scale into a
 * convolution). Where as many are left as operators, and all of one precision, which is whose does
 * not matter to what is asked here; their times are given in order. */
static void match_renamed(pq_audit *a, const pq_node *const *node, const pq_layer *l, size_t n)
{
    size_t missing = 0, renamed = 0, at = 0;
    const pq_layer *first = NULL;
    for (size_t i = 0; i < n; i++) {
        if (l[i].macs >= 0) continue;
        if (first && strcmp(l[i].precision, first->precision) != 0) return;
        first = first ? first : &l[i];
        renamed++;
    }
    for (size_t i = 0; i < a->n_layers; i++) missing += is_missing(&a->layer[i], node[i]);
    if (!renamed || renamed != missing) return;
    for (size_t i = 0; i < a->n_layers; i++) {
        pq_audit_layer *to = &a->layer[i];
        if (!is_missing(to, node[i])) continue;
        while (l[at].macs >= 0) at++;
        snprintf(to->achieved, sizeof to->achieved, "%s", l[at].precision);
        snprintf(to->kernel, sizeof to->kernel, "%s", l[at].impl);
        to->ms = l[at++].ms;
    }
}

static pq_status judge(pq_ctx *ctx, pq_audit *a, pq_audit_layer *l, const pq_node *n)
{
    const char *wanted = pq_precision_name(l->wanted);
    l->as_planned = strcmp(l->achieved, wanted) == 0;
    if (l->as_planned) return PQ_OK;
    const bool weighted = pq_op_is_weighted(n->op);
    if (!l->achieved[0])
        return weighted ? pq_audit_say(ctx, a, true, n->name,
                                       "%s wanted, but no kernel bears its name", wanted)
                        : pq_audit_say(ctx, a, false, n->name,
                                       "no kernel of its own: fused into another or left out");
    return pq_audit_say(ctx, a, weighted, n->name, "%s wanted, ran as %s in %s (%.3f ms)", wanted,
                        l->achieved, l->kernel, l->ms);
}

static pq_status check_nodes(pq_ctx *ctx, pq_audit *a, const pq_binding *b, const pq_layer *l,
                             size_t n)
{
    const pq_graph *g = b->graph;
    const pq_node **of = NULL; /* per layer */
    const size_t n_layers = pq_graph_quantizable_count(g);
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &a->layer, n_layers, sizeof *a->layer));
    PQ_TRY(pq_alloc(ctx, &of, n_layers, sizeof *of));
    for (size_t i = 0; i < g->n_nodes; i++) {
        const pq_node *node = &g->node[i];
        if (node->dead || node->quant_index < 0) continue;
        of[a->n_layers] = node;
        pq_audit_layer *to = &a->layer[a->n_layers++];
        to->wanted = b->precision[i];
        PQ_TRY(pq_strdup(ctx, &to->node, node->name));
        PQ_TRY(pq_strdup(ctx, &to->type, node->type));
        collect(to, node, l, n);
    }
    match_renamed(a, of, l, n);
    for (size_t i = 0; i < n_layers; i++) PQ_TRY(judge(ctx, a, &a->layer[i], of[i]));
    st = PQ_OK;
out:
    pq_free(of);
    return st;
}

pq_status pq_audit_session(pq_ctx *ctx, pq_audit **out, pq_session *s, const pq_graph *g,
                           const pq_plan *plan)
{
    pq_binding b = {0};
    pq_engine_info info;
    pq_audit *a = NULL;
    pq_layer *layer = NULL;
    pq_tensor *in = NULL;
    size_t n = 0;
    pq_status st;
    *out = NULL;
    PQ_TRY(pq_plan_bind(ctx, &b, plan, g));
    PQ_TRY(s->engine->probe(ctx, &info));
    PQ_TRY(pq_alloc(ctx, &a, 1, sizeof *a));
    snprintf(a->target, sizeof a->target, "%s", s->engine->name);
    snprintf(a->version, sizeof a->version, "%s", info.version);
    PQ_TRY(pq_bench_input(ctx, &in, s));
    PQ_TRY(pq_bench_layers(ctx, &layer, &n, s, in, s->n_inputs, RUNS));
    add_up(a, layer, n);
    PQ_TRY(check_nodes(ctx, a, &b, layer, n));
    *out = a;
    a = NULL;
out:
    pq_bench_input_free(in, s);
    pq_bench_layers_free(layer);
    pq_binding_clear(&b);
    pq_audit_free(a);
    return st;
}
