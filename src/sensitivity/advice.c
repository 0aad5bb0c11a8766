/* Measures of an operator's input and weights against limits; its place in the network. */
#include <pquant/advice.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "plan/names.h"

static const char *const names[PQ_REASON_COUNT] = {[PQ_REASON_OUTLIER_CHANNEL] = "outlier channel",
                                                   [PQ_REASON_LONG_TAIL] = "long tail",
                                                   [PQ_REASON_COARSE_GRID] = "coarse grid",
                                                   [PQ_REASON_CONCAT_MISMATCH] = "concat mismatch",
                                                   [PQ_REASON_WEIGHT_SPREAD] = "weight spread",
                                                   [PQ_REASON_CLIPPED] = "clipped",
                                                   [PQ_REASON_HEAD] = "head",
                                                   [PQ_REASON_DEPTHWISE] = "depthwise",
                                                   [PQ_REASON_PICTURE] = "picture"};

const char *pq_reason_name(pq_reason r) { return (unsigned)r < PQ_REASON_COUNT ? names[r] : NULL; }

/* ---- input ---- */

static double width(const pq_range *r, pq_scheme scheme)
{
    return scheme == PQ_SCHEME_S8 ? 2 * (double)r->amax : (double)r->hi - (double)r->lo;
}

/* The value that was calibrated in the place of v: itself, or where it came from unchanged. */
static const pq_range *range_of(const pq_graph *g, const pq_ranges *ranges, pq_value_id v)
{
    for (;;) {
        const pq_range *r = pq_ranges_find(ranges, g->value[v].name);
        const pq_node_id p = g->value[v].producer;
        if (r || p == PQ_NONE || !pq_node_moves(&g->node[p])) return r;
        v = g->node[p].in[0];
    }
}

static double part_clipped(const pq_range *r, pq_scheme scheme)
{
    const double down = -(double)r->min, up = (double)r->max;
    const bool lower = down > up;
    const double seen = lower ? down : up;
    const double kept = scheme == PQ_SCHEME_S8 ? (double)r->amax
                        : lower                ? -(double)r->lo
                                               : (double)r->hi;
    return seen > 0 && kept < seen ? 1 - kept / seen : 0;
}

static void measure_input(pq_advice *a, const pq_graph *g, const pq_ranges *ranges,
                          pq_scheme scheme, pq_value_id v)
{
    const pq_range *r = range_of(g, ranges, v);
    if (!r) return;
    const double step = width(r, scheme) / (scheme == PQ_SCHEME_S8 ? 254 : 255);
    a->has_range = true;
    a->calibrator = r->method;
    a->outlier = (double)r->outlier;
    a->kurtosis = (double)r->kurtosis;
    a->rms_steps = (double)r->rms / step;
    a->clipped = a->encoded ? 0 : part_clipped(r, scheme);
}

/* The Concat that the input comes from unchanged: its operands share a grid. */
static void measure_concat(pq_advice *a, const pq_graph *g, const pq_ranges *ranges,
                           pq_scheme scheme, pq_value_id v)
{
    double least = INFINITY, most = 0;
    const pq_node *n = NULL;
    for (pq_node_id p = g->value[v].producer; p != PQ_NONE; p = g->value[n->in[0]].producer) {
        n = &g->node[p];
        if (!pq_node_moves(n)) break;
    }
    if (!n || n->op != PQ_OP_CONCAT) return;
    for (int k = 0; k < n->n_in; k++) {
        const pq_range *r = n->in[k] == PQ_NONE ? NULL : range_of(g, ranges, n->in[k]);
        if (!r) return;
        least = fmin(least, width(r, scheme));
        most = fmax(most, width(r, scheme));
    }
    if (n->n_in > 1 && least > 0) a->concat_ratio = most / least;
}

/* ---- weights ---- */

static const pq_plan_weight *equal_weight(const pq_corrections *c, const char *name)
{
    for (size_t i = 0; c && i < c->n_equal; i++)
        if (strcmp(c->equal[i].name, name) == 0) return &c->equal[i];
    return NULL;
}

static pq_status measure_weights(pq_ctx *ctx, pq_advice *a, const pq_graph *g, const pq_node *n,
                                 const pq_corrections *c)
{
    const pq_value *w = pq_in(g, n, 1);
    int8_t *q = NULL;
    float *scale = NULL;
    double lost = 0, all = 0;
    if (!pq_op_is_weighted(n->op) || !w || !w->data || w->dtype != PQ_F32) return PQ_OK;
    const pq_plan_weight *equal = equal_weight(c, w->name);
    const float *x = equal ? pq_tensor_data(&equal->data) : pq_buf_data(w->data);
    const int axis = pq_weight_axis(g, n);
    const pq_status st = pq_plan_quantize_weights(ctx, &q, &scale, x, &w->shape, axis, NULL);
    if (st != PQ_OK) return st;
    int64_t inner = 1;
    for (int i = axis + 1; i < w->shape.rank; i++) inner *= w->shape.dim[i];
    for (int64_t i = 0; i < pq_shape_count(&w->shape); i++) {
        const double s = (double)scale[i / inner % w->shape.dim[axis]],
                     e = (double)x[i] - s * (double)q[i];
        lost += e * e;
        all += (double)x[i] * (double)x[i];
    }
    a->weight_noise = all > 0 ? lost / all : 0;
    pq_free(q);
    pq_free(scale);
    return PQ_OK;
}

/* ---- what was tried ---- */

static void find_tried(pq_advice *a, const pq_graph *g, const pq_node *n, const pq_corrections *c)
{
    const char *in = g->value[n->in[0]].name;
    for (int k = 1; k < n->n_in && k < 3; k++)
        if (n->in[k] != PQ_NONE && equal_weight(c, g->value[n->in[k]].name)) a->equalized = true;
    for (size_t i = 0; c && i < c->n_encodings; i++)
        a->encoded = a->encoded || strcmp(c->encoding[i].value, in) == 0;
    for (size_t i = 0; c && i < c->n_fixes; i++) {
        if (strcmp(c->fix[i].node, n->name) != 0) continue;
        a->rebuilt = true;
        a->error_before = c->fix[i].error_before;
        a->error = c->fix[i].error;
    }
}

/* ---- place ---- */

/* Does the result reach an output of the network without another quantizable operator? */
static pq_status ends_in_output(pq_ctx *ctx, bool *yes, const pq_graph *g, pq_node_id from)
{
    bool *behind; /* per value: made from the result and nothing quantizable since */
    const pq_status st = pq_alloc(ctx, &behind, g->n_values, 1);
    *yes = false;
    if (st != PQ_OK) return st;
    for (int k = 0; k < g->node[from].n_out; k++) behind[g->node[from].out[k]] = true;
    for (pq_node_id i = from + 1; i < g->n_nodes; i++) {
        const pq_node *n = &g->node[i];
        bool reads = false;
        if (n->dead || n->quant_index >= 0) continue;
        for (int k = 0; k < n->n_in; k++)
            reads = reads || (n->in[k] != PQ_NONE && behind[n->in[k]]);
        for (int k = 0; reads && k < n->n_out; k++) behind[n->out[k]] = true;
    }
    for (size_t i = 0; i < g->n_outputs; i++) *yes = *yes || behind[g->output[i]];
    pq_free(behind);
    return PQ_OK;
}

static bool reads_picture(const pq_graph *g, const pq_node *n)
{
    for (;;) {
        const pq_node_id p = g->value[n->in[0]].producer;
        if (p == PQ_NONE) return true;
        n = &g->node[p];
        if (!pq_node_moves(n) && n->op != PQ_OP_FOCUS) return false;
    }
}

/* ---- reasons ---- */

typedef struct weighed {
    pq_reason reason;
    double times; /* how far beyond the limit; what has no measure: 1, behind all that has */
} weighed;

static void add(weighed *list, size_t *n, pq_reason reason, double times)
{
    if (!(times >= 1)) return;
    size_t at = (*n)++;
    while (at > 0 && list[at - 1].times < times) {
        list[at] = list[at - 1];
        at--;
    }
    list[at] = (weighed){reason, times};
}

static void find_reasons(pq_advice *a, const pq_node *n, bool head, bool picture)
{
    weighed list[PQ_REASON_COUNT];
    const bool conv = n->op == PQ_OP_CONV || n->op == PQ_OP_CONV_TRANSPOSE;
    size_t count = 0;
    add(list, &count, PQ_REASON_OUTLIER_CHANNEL, a->outlier / 10);
    add(list, &count, PQ_REASON_LONG_TAIL, a->kurtosis / 60);
    add(list, &count, PQ_REASON_COARSE_GRID, a->rms_steps > 0 ? 4 / a->rms_steps : 0);
    add(list, &count, PQ_REASON_CONCAT_MISMATCH, a->concat_ratio / 16);
    add(list, &count, PQ_REASON_WEIGHT_SPREAD, a->weight_noise / 0.002);
    add(list, &count, PQ_REASON_CLIPPED, a->clipped / 0.75);
    add(list, &count, PQ_REASON_HEAD, head);
    add(list, &count, PQ_REASON_DEPTHWISE, conv && n->attr.window.groups > 1);
    add(list, &count, PQ_REASON_PICTURE, picture);
    a->n_reasons = count;
    for (size_t i = 0; i < count; i++) a->reason[i] = list[i].reason;
}

/* ---- words ---- */

typedef struct words {
    char *text;
    size_t n;
} words;

static void say(words *w, const char *fmt, ...) PQ_PRINTF(2, 3);
static void say(words *w, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    const int n = vsnprintf(w->text + w->n, PQ_ADVICE_TEXT - w->n, fmt, ap);
    va_end(ap);
    w->n += n > 0 ? (size_t)n : 0;
    if (w->n >= PQ_ADVICE_TEXT) w->n = PQ_ADVICE_TEXT - 1;
}

static void say_reason(words *w, const pq_advice *a, pq_reason r)
{
    switch (r) {
    case PQ_REASON_OUTLIER_CHANNEL:
        say(w, "one channel of its input reaches %.3g times as far as the median one", a->outlier);
        break;
    case PQ_REASON_LONG_TAIL:
        say(w, "few values take up most of its input's range (kurtosis %.0f)", a->kurtosis);
        break;
    case PQ_REASON_COARSE_GRID:
        say(w, "its input is %.2g steps of its grid large (rms)", a->rms_steps);
        break;
    case PQ_REASON_CONCAT_MISMATCH:
        say(w, "its input joins ranges that differ %.3g times on one grid", a->concat_ratio);
        break;
    case PQ_REASON_WEIGHT_SPREAD:
        say(w, "rounding takes %.2g %% of its weights' power", 100 * a->weight_noise);
        break;
    case PQ_REASON_CLIPPED:
        say(w, "the range of its input leaves out %.0f %% of what was seen", 100 * a->clipped);
        break;
    case PQ_REASON_HEAD: say(w, "boxes are decoded from its result"); break;
    case PQ_REASON_DEPTHWISE: say(w, "grouped: sums of few products"); break;
    case PQ_REASON_PICTURE: say(w, "reads the picture"); break;
    case PQ_REASON_COUNT: break;
    }
}

static bool has(const pq_advice *a, pq_reason r)
{
    for (size_t i = 0; i < a->n_reasons; i++)
        if (a->reason[i] == r) return true;
    return false;
}

/* What may still help; NULL: nothing that we know. */
static const char *next_step(const pq_advice *a, const pq_corrections *c)
{
    const bool far = has(a, PQ_REASON_OUTLIER_CHANNEL) || has(a, PQ_REASON_LONG_TAIL) ||
                     has(a, PQ_REASON_COARSE_GRID);
    if (!c) return "calibrate with corrections";
    if (far && a->has_range && a->calibrator == PQ_CALIB_MAX)
        return "a calibrator that clips: mse or percentile";
    if (has(a, PQ_REASON_CLIPPED)) return "a calibrator that clips less: percentile or max";
    return NULL;
}

static void put_in_words(pq_advice *a, const pq_corrections *c)
{
    words w = {a->text, 0};
    for (size_t i = 0; i < a->n_reasons; i++) {
        say(&w, i ? "; " : "");
        say_reason(&w, a, a->reason[i]);
    }
    if (!a->n_reasons) say(&w, "no reason seen in its ranges, weights or place");
    say(&w, ". Tried: ");
    if (a->has_range) say(&w, "range by %s", pq_calibrator_name(a->calibrator));
    if (a->equalized) say(&w, ", equalisation");
    if (a->encoded) say(&w, ", re-encoding");
    if (a->rebuilt)
        say(&w, ", reconstruction (error %.2g to %.2g of the output's variance)", a->error_before,
            a->error);
    if (!a->has_range && !a->equalized && !a->encoded && !a->rebuilt) say(&w, "nothing");
    if (next_step(a, c)) say(&w, ". Next: %s", next_step(a, c));
}

pq_status pq_advise(pq_ctx *ctx, pq_advice *out, const pq_graph *g, const pq_ranges *ranges,
                    const pq_corrections *corrections, pq_scheme scheme, int index)
{
    const pq_node_id at = pq_graph_quantizable(g, index);
    bool head = false;
    memset(out, 0, sizeof *out);
    out->index = index;
    if (index < 0 || at == PQ_NONE)
        return pq_fail(ctx, PQ_E_INVALID, "operator %d: the model has %zu", index,
                       pq_graph_quantizable_count(g));
    const pq_node *n = &g->node[at];
    find_tried(out, g, n, corrections);
    measure_input(out, g, ranges, scheme, n->in[0]);
    measure_concat(out, g, ranges, scheme, n->in[0]);
    pq_status st = measure_weights(ctx, out, g, n, corrections);
    if (st == PQ_OK) st = ends_in_output(ctx, &head, g, at);
    if (st != PQ_OK) return st;
    find_reasons(out, n, head, reads_picture(g, n));
    put_in_words(out, corrections);
    return PQ_OK;
}
