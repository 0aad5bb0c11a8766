/* What needs the graph: the map of the network, and why its sensitive operators are so. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "report/report.h"

/* ---- map ---- */

static bool add_inputs(cJSON *o, const pq_binding *b, const pq_node *n)
{
    const pq_graph *g = b->graph;
    const bool int8 = b->int8[n - g->node];
    cJSON *in = cJSON_AddArrayToObject(o, "inputs"), *changed = NULL;
    bool ok = in != NULL;
    for (int i = 0; ok && i < n->n_in; i++) {
        const pq_value *v = pq_in(g, n, i);
        if (!v || v->producer == PQ_NONE) continue;
        ok = cJSON_AddItemToArray(in, cJSON_CreateNumber(v->producer));
        if (!ok || b->int8[v->producer] == int8) continue;
        if (!changed) changed = cJSON_AddArrayToObject(o, "converts");
        ok = changed && cJSON_AddItemToArray(changed, cJSON_CreateNumber(v->producer));
    }
    return ok;
}

/* Does a reader take what node i makes in another precision? */
static bool is_converted(const pq_binding *b, size_t i)
{
    const pq_graph *g = b->graph;
    for (size_t k = i + 1; k < g->n_nodes; k++)
        for (int in = 0; in < g->node[k].n_in && b->int8[k] != b->int8[i]; in++) {
            const pq_value *v = pq_in(g, &g->node[k], in);
            if (v && v->producer != PQ_NONE && (size_t)v->producer == i) return true;
        }
    return false;
}

static bool add_map(cJSON *doc, const pq_binding *b)
{
    const pq_graph *g = b->graph;
    cJSON *map = cJSON_AddObjectToObject(doc, "map"), *list = cJSON_AddArrayToObject(map, "nodes");
    int conversions = 0;
    for (size_t i = 0; list && i < g->n_nodes; i++) {
        const pq_node *n = &g->node[i];
        cJSON *o = pq_put_row(list);
        if (!o || !pq_put_text(o, "name", n->name) || !pq_put_text(o, "type", n->type) ||
            !pq_put_text(o, "precision",
                         n->quant_index >= 0 ? pq_precision_name(b->precision[i]) : NULL) ||
            !pq_put_number(o, "index",
                           n->quant_index >= 0 ? (double)n->quant_index : (double)NAN) ||
            !cJSON_AddBoolToObject(o, "int8", b->int8[i]) || !add_inputs(o, b, n))
            return false;
        conversions += is_converted(b, i);
    }
    return list && pq_put_number(map, "conversions", conversions);
}

/* ---- what the run's file lacks about operators ---- */

static const pq_node *node_of(const pq_graph *g, const cJSON *op)
{
    const char *name = pq_field_text(op, "name");
    const pq_node_id id = name ? pq_graph_find_node(g, name) : PQ_NONE;
    return id == PQ_NONE ? NULL : &g->node[id];
}

static bool complete_operators(cJSON *doc, const pq_graph *g)
{
    cJSON *op;
    cJSON_ArrayForEach(op, cJSON_GetObjectItemCaseSensitive(doc, "operators"))
    {
        const pq_node *n = node_of(g, op);
        if (!n) continue;
        const pq_shape *s = &pq_out_value(g, n, 0)->shape;
        if (!pq_field(op, "type") && !pq_put_text(op, "type", n->type)) return false;
        if (!pq_field(op, "macs") && !pq_put_number(op, "macs", (double)pq_node_macs(g, n)))
            return false;
        if (pq_field(op, "shape")) continue;
        cJSON *list = cJSON_AddArrayToObject(op, "shape");
        for (int i = 0; list && i < s->rank; i++)
            if (!cJSON_AddItemToArray(list, cJSON_CreateNumber((double)s->dim[i]))) return false;
        if (!list) return false;
    }
    return true;
}

/* ---- ranges and reasons ---- */

typedef struct interval {
    double min, max;  /* seen */
    double low, high; /* that the scale covers */
} interval;

static bool find_range(interval *out, const pq_run_files *f, const char *tensor)
{
    const cJSON *r = pq_field_find(pq_field(f->ranges, "tensors"), "name", tensor);
    const char *scheme = pq_field_text(f->run, "scheme");
    const bool u8 = scheme && strcmp(scheme, "u8") == 0;
    const double amax = pq_field_number(r, "amax");
    *out = (interval){pq_field_number(r, "min"), pq_field_number(r, "max"),
                      u8 ? pq_field_number(r, "lo") : -amax, u8 ? pq_field_number(r, "hi") : amax};
    return isfinite(out->min) && isfinite(out->max) && isfinite(out->low) && isfinite(out->high);
}

/* Most unlike widths of what a Concat joins: one scale must serve them all. */
static double concat_ratio(const pq_run_files *f, const pq_graph *g, const pq_value *x,
                           double *least, double *most)
{
    if (x->producer == PQ_NONE || g->node[x->producer].op != PQ_OP_CONCAT) return 1;
    const pq_node *n = &g->node[x->producer];
    *least = INFINITY;
    *most = 0;
    for (int i = 0; i < n->n_in; i++) {
        interval r;
        const pq_value *v = pq_in(g, n, i);
        if (!v || !find_range(&r, f, v->name)) continue;
        *least = fmin(*least, r.max - r.min);
        *most = fmax(*most, r.max - r.min);
    }
    return *least > 0 && *most > 0 ? *most / *least : 1;
}

/* Is nothing quantizable behind n? mark: room for a flag per node. */
static bool writes_output(const pq_graph *g, const pq_node *n, bool *mark)
{
    const size_t at = (size_t)(n - g->node);
    memset(mark, 0, g->n_nodes);
    mark[at] = true;
    for (size_t i = at + 1; i < g->n_nodes; i++) {
        const pq_node *r = &g->node[i];
        for (int k = 0; k < r->n_in && !mark[i]; k++) {
            const pq_value *v = pq_in(g, r, k);
            mark[i] = v && v->producer != PQ_NONE && mark[v->producer];
        }
        if (mark[i] && r->quant_index >= 0) return false;
    }
    return true;
}

/* One sentence from what the numbers show, the strongest cause first. */
static void reason(char *text, size_t size, const pq_run_files *f, const pq_graph *g,
                   const pq_node *n, const interval *r, bool gains_time, bool *mark)
{
    const double seen = r->max - r->min, used = r->high - r->low;
    const double beyond = fmax(r->max / (r->high > 0 ? r->high : NAN),
                               r->min < 0 && r->low < 0 ? r->min / r->low : 0);
    const char *scheme = pq_field_text(f->run, "scheme");
    const pq_value *x = pq_in(g, n, 0);
    double least, most;
    if (concat_ratio(f, g, x, &least, &most) > 4)
        snprintf(text, size,
                 "its input joins tensors with ranges from %.3g to %.3g wide under one scale",
                 least, most);
    else if (beyond > 1.5)
        snprintf(text, size, "outliers: the largest value seen is %.1f times what the scale covers",
                 beyond);
    else if (scheme && strcmp(scheme, "s8") == 0 && (r->min > -0.1 * r->max))
        snprintf(text, size,
                 "one-sided input in a symmetric scheme: %.0f %% of the 256 levels are never used",
                 100 * (1 - seen / used));
    else if (n->op == PQ_OP_CONV && n->attr.window.groups > 1 && pq_in(g, n, 1) &&
             pq_in(g, n, 1)->shape.dim[1] == 1)
        snprintf(text, size,
                 "depthwise: sums of %lld products, in which rounding does not average out",
                 (long long)(n->attr.window.kernel[0] * n->attr.window.kernel[1]));
    else if (x->producer == PQ_NONE)
        snprintf(text, size, "reads the picture: what is lost here is lost for the whole network");
    else if (writes_output(g, n, mark))
        snprintf(text, size, "writes the network's output: nothing behind it averages its error");
    else
        snprintf(text, size, "nothing odd in its range%s",
                 gains_time ? ": what it computes needs more than 8 bits" : "");
}

/* The advice of the sensitivity stage is "REASON. Tried: ..."; where it found a reason, that is the
 * one to show. Gives what is left for the line below. */
static const char *split_advice(char *reason_text, size_t size, const char *advice)
{
    const char *tried = advice ? strstr(advice, ". Tried: ") : NULL;
    if (!tried) return advice;
    if (strncmp(advice, "no reason seen", 14) != 0)
        snprintf(reason_text, size, "%.*s", (int)(tried - advice), advice);
    return tried + 2;
}

static bool add_range(cJSON *list, const cJSON *op, const pq_run_files *f, const pq_graph *g,
                      bool *mark)
{
    static const char *const copied[] = {"index", "damage", "error", "error_before", "ms_saved"};
    char text[320];
    interval r;
    const pq_node *n = node_of(g, op);
    const pq_value *x = n ? pq_in(g, n, 0) : NULL;
    if (!x || !x->name || !find_range(&r, f, x->name)) return true;
    const cJSON *stored = pq_field_find(pq_field(f->ranges, "tensors"), "name", x->name);
    cJSON *o = pq_put_row(list);
    reason(text, sizeof text, f, g, n, &r, !(pq_field_number(op, "ms_saved") <= 0), mark);
    const char *advice = split_advice(text, sizeof text, pq_field_text(op, "advice"));
    bool ok = o && pq_put_text(o, "operator", pq_field_text(op, "name")) &&
              pq_put_text(o, "precision", pq_field_text(op, "precision")) &&
              pq_put_text(o, "tensor", x->name) && pq_put_number(o, "min", r.min) &&
              pq_put_number(o, "max", r.max) && pq_put_number(o, "low", r.low) &&
              pq_put_number(o, "high", r.high) &&
              pq_put_text(o, "method", pq_field_text(stored, "method")) &&
              pq_put_text(o, "reason", text) && pq_put_text(o, "advice", advice);
    for (size_t i = 0; ok && i < sizeof copied / sizeof *copied; i++)
        ok = pq_put_number(o, copied[i], pq_field_number(op, copied[i]));
    return ok;
}

typedef struct ranked {
    const cJSON *op;
    bool kept;
    double damage;
    size_t at;
} ranked;

static int by_need(const void *a, const void *b)
{
    const ranked *x = a, *y = b;
    if (x->kept != y->kept) return x->kept ? -1 : 1;
    if (x->damage != y->damage) return x->damage > y->damage ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

/* Those that stay in float, then those that cost most in INT8: at least 8, at most 24. */
static pq_status add_ranges(pq_ctx *ctx, cJSON *doc, const pq_run_files *f, const pq_graph *g)
{
    enum { LEAST = 8, MOST = 24 };
    const cJSON *op, *ops = pq_field_list(doc, "operators");
    ranked *r = NULL;
    bool *mark = NULL;
    size_t n = 0;
    pq_status st;
    if (!ops || !f->ranges) return PQ_OK;
    PQ_TRY(pq_alloc(ctx, &r, (size_t)cJSON_GetArraySize(ops), sizeof *r));
    PQ_TRY(pq_alloc(ctx, &mark, g->n_nodes, sizeof *mark));
    cJSON_ArrayForEach(op, ops)
    {
        const char *p = pq_field_text(op, "precision");
        const double damage = pq_field_number(op, "damage");
        const bool kept = p && strcmp(p, "int8") != 0;
        if (!kept && !(damage > 0)) continue;
        r[n] = (ranked){op, kept, isfinite(damage) ? damage : 0, n};
        n++;
    }
    if (n) qsort(r, n, sizeof *r, by_need);
    cJSON *list = cJSON_AddArrayToObject(doc, "ranges");
    PQ_TRY(pq_json_check(ctx, list));
    for (size_t i = 0; i < n && i < MOST && (i < LEAST || r[i].kept); i++)
        if (!add_range(list, r[i].op, f, g, mark)) PQ_TRY(pq_json_check(ctx, NULL));
out:
    pq_free(r);
    pq_free(mark);
    return st;
}

pq_status pq_report_add_network(pq_ctx *ctx, cJSON *doc, const pq_run_files *f, const pq_graph *g,
                                const pq_plan *plan)
{
    pq_binding b = {0};
    pq_status st = PQ_OK;
    bool ok = complete_operators(doc, g);
    if (ok && plan) {
        st = pq_plan_bind(ctx, &b, plan, g);
        if (st == PQ_OK) ok = add_map(doc, &b);
    }
    if (st == PQ_OK && !ok) st = pq_json_check(ctx, NULL);
    if (st == PQ_OK) st = add_ranges(ctx, doc, f, g);
    pq_binding_clear(&b);
    return st;
}
