/* Corrections into a plan. */
#include <math.h>
#include <string.h>

#include <pquant/correct.h>

#include "base/hash.h"
#include "base/mem.h"
#include "correct/encode.h"
#include "correct/parts.h"
#include "plan/names.h"
#include "plan/weights.h"

static void clear_weight(pq_plan_weight *w)
{
    pq_free(w->name);
    pq_tensor_clear(&w->data);
    pq_tensor_clear(&w->scale);
}

void pq_corrections_drop_equal(pq_corrections *c)
{
    pq_weights_free(c->equal, c->n_equal);
    for (size_t i = 0; i < c->n_flat; i++) pq_free(c->flat[i].value);
    pq_free(c->flat);
    c->equal = NULL;
    c->flat = NULL;
    c->n_equal = c->n_flat = 0;
}

void pq_corrections_drop_encodings(pq_corrections *c)
{
    for (size_t i = 0; i < c->n_encodings; i++) {
        pq_encoding *e = &c->encoding[i];
        pq_free(e->value);
        pq_free(e->gain);
        pq_free(e->shift);
        pq_free(e->back);
        pq_free(e->level);
    }
    pq_free(c->encoding);
    c->encoding = NULL;
    c->n_encodings = 0;
}

void pq_corrections_drop_fixes(pq_corrections *c)
{
    for (size_t i = 0; i < c->n_fixes; i++) {
        pq_free(c->fix[i].node);
        clear_weight(&c->fix[i].weight);
        clear_weight(&c->fix[i].bias);
    }
    pq_free(c->fix);
    c->fix = NULL;
    c->n_fixes = 0;
}

void pq_corrections_free(pq_corrections *c)
{
    if (!c) return;
    pq_corrections_drop_equal(c);
    pq_corrections_drop_encodings(c);
    pq_corrections_drop_fixes(c);
    pq_free(c);
}

static void note_gain(double *sum, size_t *n, double before, double after)
{
    if (!(before > 0) || !(after > 0)) return;
    *sum += log(before / after);
    (*n)++;
}

static double mean_gain(double sum, size_t n) { return n ? exp(sum / (double)n) : 1; }

void pq_corrections_summarize(const pq_corrections *c, pq_correction_summary *out)
{
    double encoding = 0, bias = 0, fix = 0;
    size_t n_encoding = 0, n_bias = 0, n_fix = 0;
    *out = (pq_correction_summary){.equalized = c->n_flat, .encoded = c->n_encodings};
    for (size_t i = 0; i < c->n_flat; i++) {
        out->bits_before += c->flat[i].bits_before / (double)c->n_flat;
        out->bits += c->flat[i].bits / (double)c->n_flat;
    }
    for (size_t i = 0; i < c->n_encodings; i++) {
        const pq_encoding *e = &c->encoding[i];
        note_gain(&encoding, &n_encoding, e->error_before, e->error);
        out->encoding_seconds += e->seconds;
    }
    for (size_t i = 0; i < c->n_fixes; i++) {
        const pq_fix *f = &c->fix[i];
        out->rounded += f->weight.data.buf != NULL;
        out->biased += f->bias.data.buf != NULL;
        if (f->bias.data.buf) note_gain(&bias, &n_bias, f->error_before, f->error_bias);
        note_gain(&fix, &n_fix, f->error_before, f->error);
        out->fix_seconds += f->seconds;
    }
    out->encoding_gain = mean_gain(encoding, n_encoding);
    out->bias_gain = mean_gain(bias, n_bias);
    out->fix_gain = mean_gain(fix, n_fix);
}

static void hash_weight(pq_sha256 *h, const pq_plan_weight *w)
{
    if (!w->data.buf) return;
    pq_sha256_add(h, w->name, strlen(w->name) + 1);
    pq_sha256_add(h, pq_tensor_data(&w->data), pq_buf_bytes(w->data.buf));
    if (w->scale.buf) pq_sha256_add(h, pq_tensor_data(&w->scale), pq_buf_bytes(w->scale.buf));
}

void pq_corrections_hash(const pq_corrections *c, char hex[65])
{
    pq_sha256 h;
    pq_sha256_init(&h);
    pq_sha256_add(&h, c->graph_hash, sizeof c->graph_hash);
    pq_sha256_add(&h, &c->scheme, sizeof c->scheme);
    for (size_t i = 0; i < c->n_equal; i++) hash_weight(&h, &c->equal[i]);
    for (size_t i = 0; i < c->n_encodings; i++) {
        const pq_encoding *e = &c->encoding[i];
        const float *const part[4] = {e->gain, e->shift, e->back, e->level};
        pq_sha256_add(&h, e->value, strlen(e->value) + 1);
        for (int k = 0; k < 4; k++) pq_sha256_add(&h, part[k], e->n * sizeof(float));
    }
    for (size_t i = 0; i < c->n_fixes; i++) {
        hash_weight(&h, &c->fix[i].weight);
        hash_weight(&h, &c->fix[i].bias);
    }
    pq_sha256_hex(&h, hex);
}

/* Corrections and plan by index of the graph. */
typedef struct state {
    pq_ctx *ctx;
    pq_plan *plan;
    const pq_graph *g;
    const pq_plan_weight **equal; /* per value */
    const pq_encoding **encoding; /* per value, only where the plan quantizes it */
    const pq_encoding **anyway;   /* per value, quantized or not */
    const pq_fix **fix;           /* per node, INT8 ones only */
    size_t room;
} state;

static pq_status index_all(state *s, const pq_corrections *c)
{
    pq_names values = {0}, nodes = {0};
    pq_status st;
    PQ_TRY(pq_names_of_values(s->ctx, &values, s->g));
    PQ_TRY(pq_names_of_nodes(s->ctx, &nodes, s->g));
    PQ_TRY(pq_alloc(s->ctx, &s->equal, s->g->n_values, sizeof *s->equal));
    PQ_TRY(pq_alloc(s->ctx, &s->encoding, s->g->n_values, sizeof *s->encoding));
    PQ_TRY(pq_alloc(s->ctx, &s->anyway, s->g->n_values, sizeof *s->anyway));
    PQ_TRY(pq_alloc(s->ctx, &s->fix, s->g->n_nodes, sizeof *s->fix));
    for (size_t i = 0; i < c->n_equal; i++) {
        const uint32_t v = pq_names_find(&values, c->equal[i].name);
        if (v == PQ_NONE || !s->g->value[v].data ||
            !pq_shape_equal(&s->g->value[v].shape, &c->equal[i].data.shape)) {
            st = pq_fail(s->ctx, PQ_E_INVALID,
                         "corrections: weight '%s' does not fit a constant of the graph",
                         c->equal[i].name);
            goto out;
        }
        s->equal[v] = &c->equal[i];
    }
    for (size_t i = 0; i < c->n_encodings; i++) {
        const pq_encoding *e = &c->encoding[i];
        const uint32_t v = pq_names_find(&values, e->value);
        if (v == PQ_NONE || s->g->value[v].shape.rank != 4 ||
            (size_t)s->g->value[v].shape.dim[1] != e->n) {
            st = pq_fail(s->ctx, PQ_E_INVALID,
                         "corrections: '%s' of %zu channels is no value of the graph", e->value,
                         e->n);
            goto out;
        }
        s->anyway[v] = e;
    }
    for (size_t i = 0; i < s->plan->n_tensors; i++) {
        const uint32_t v = pq_names_find(&values, s->plan->tensor[i].name);
        if (v != PQ_NONE) s->encoding[v] = s->anyway[v];
    }
    for (size_t i = 0; i < c->n_fixes; i++) {
        const uint32_t n = pq_names_find(&nodes, c->fix[i].node);
        if (n == PQ_NONE) {
            st = pq_fail(s->ctx, PQ_E_INVALID, "corrections: node '%s' is not in the graph",
                         c->fix[i].node);
            goto out;
        }
        s->fix[n] = &c->fix[i];
    }
    for (size_t i = 0; i < s->plan->n_nodes; i++) {
        const uint32_t n = pq_names_find(&nodes, s->plan->node[i].name);
        if (n != PQ_NONE && s->plan->node[i].precision != PQ_PREC_INT8) s->fix[n] = NULL;
    }
out:
    pq_names_clear(&values);
    pq_names_clear(&nodes);
    return st;
}

static pq_status next(state *s, pq_plan_weight **out, pq_value_id v)
{
    pq_plan *p = s->plan;
    if (p->n_weights == s->room) {
        const size_t room = 2 * s->room + 64;
        pq_status st = pq_grow(s->ctx, &p->weight, s->room, room, sizeof *p->weight);
        if (st != PQ_OK) return st;
        s->room = room;
    }
    *out = &p->weight[p->n_weights];
    pq_status st = pq_strdup(s->ctx, &(*out)->name, s->g->value[v].name);
    if (st == PQ_OK) p->n_weights++;
    return st;
}

static void share(pq_tensor *to, const pq_tensor *from)
{
    *to = *from;
    pq_buf_ref(to->buf);
}

static pq_status copy(pq_ctx *ctx, pq_tensor *to, const float *from, const pq_shape *shape)
{
    pq_status st = pq_tensor_new(ctx, to, PQ_F32, shape);
    if (st == PQ_OK) memcpy(pq_tensor_data(to), from, pq_buf_bytes(to->buf));
    return st;
}

static const float *base_of(const state *s, pq_value_id v)
{
    return s->equal[v] ? pq_tensor_data(&s->equal[v]->data) : pq_buf_data(s->g->value[v].data);
}

void pq_encode_columns(float *w, float *bias, const pq_graph *g, const pq_node *n,
                       const pq_encoding *e)
{
    const pq_shape *s = &pq_in(g, n, 1)->shape;
    const int64_t window = s->dim[2] * s->dim[3], outputs = s->dim[0] / n->attr.window.groups;
    for (int64_t o = 0; o < s->dim[0]; o++)
        for (int64_t i = 0; i < s->dim[1]; i++) {
            const int64_t c = o / outputs * s->dim[1] + i;
            float *x = w + (o * s->dim[1] + i) * window;
            double sum = 0;
            for (int64_t k = 0; k < window; k++) {
                sum += (double)x[k];
                x[k] *= e->back[c];
            }
            if (bias) bias[o] += (float)(sum * (double)e->level[c]);
        }
}

void pq_encode_rows(float *w, float *bias, const pq_shape *s, const pq_encoding *e)
{
    const int64_t row = s->dim[1] * s->dim[2] * s->dim[3];
    for (int64_t o = 0; o < s->dim[0]; o++) {
        for (int64_t k = 0; k < row; k++) w[o * row + k] *= e->gain[o];
        if (bias) bias[o] = bias[o] * e->gain[o] + e->shift[o];
    }
}

/* A reconstructed operator whose output the plan does not quantize: its rows as they were. The
 * integers stay, but for their sign. */
static void decode_rows(float *w, float *scale, float *bias, const pq_shape *s,
                        const pq_encoding *e)
{
    const int64_t row = s->dim[1] * s->dim[2] * s->dim[3];
    for (int64_t o = 0; o < s->dim[0]; o++) {
        for (int64_t k = 0; w && k < row; k++) w[o * row + k] /= e->gain[o];
        if (scale) scale[o] /= fabsf(e->gain[o]);
        if (bias) bias[o] = (bias[o] - e->shift[o]) / e->gain[o];
    }
}

/* What the operator has without reconstruction. */
static pq_status add_float(state *s, const pq_node *n, bool weight, bool bias)
{
    const pq_encoding *in = s->encoding[n->in[0]], *out = s->encoding[n->out[0]];
    const pq_value_id w = n->in[1], b = n->n_in > 2 ? n->in[2] : PQ_NONE;
    pq_tensor nw = {0}, nb = {0};
    pq_plan_weight *to;
    pq_status st = PQ_OK;
    if (in || out) {
        PQ_TRY(copy(s->ctx, &nw, base_of(s, w), &s->g->value[w].shape));
        if (b != PQ_NONE) PQ_TRY(copy(s->ctx, &nb, base_of(s, b), &s->g->value[b].shape));
        if (in) pq_encode_columns(pq_tensor_data(&nw), pq_tensor_data(&nb), s->g, n, in);
        if (out) pq_encode_rows(pq_tensor_data(&nw), pq_tensor_data(&nb), &nw.shape, out);
    } else {
        if (s->equal[w]) share(&nw, &s->equal[w]->data);
        if (b != PQ_NONE && s->equal[b]) share(&nb, &s->equal[b]->data);
    }
    if (weight && nw.buf) {
        PQ_TRY(next(s, &to, w));
        to->data = nw;
        nw = (pq_tensor){0};
    }
    if (bias && nb.buf) {
        PQ_TRY(next(s, &to, b));
        to->data = nb;
        nb = (pq_tensor){0};
    }
out:
    pq_tensor_clear(&nw);
    pq_tensor_clear(&nb);
    return st;
}

static pq_status check_fix(const state *s, const pq_node *n, const pq_fix *f)
{
    const pq_value *w = pq_in(s->g, n, 1), *b = pq_in(s->g, n, 2);
    if (n->op == PQ_OP_CONV &&
        (!f->weight.data.buf ||
         (pq_shape_equal(&w->shape, &f->weight.data.shape) && f->weight.scale.buf &&
          pq_shape_count(&f->weight.scale.shape) == w->shape.dim[0])) &&
        (!f->bias.data.buf || (b && pq_shape_equal(&b->shape, &f->bias.data.shape))))
        return PQ_OK;
    return pq_fail(s->ctx, PQ_E_INVALID, "corrections: those of node '%s' do not fit it", n->name);
}

static pq_status add_fix(state *s, const pq_node *n, const pq_fix *f)
{
    const pq_encoding *undo = s->encoding[n->out[0]] ? NULL : s->anyway[n->out[0]];
    const pq_shape *shape = &s->g->value[n->in[1]].shape;
    pq_plan_weight *to;
    pq_status st = check_fix(s, n, f);
    if (st == PQ_OK) st = add_float(s, n, !f->weight.data.buf, !f->bias.data.buf);
    if (st != PQ_OK) return st;
    if (f->weight.data.buf) {
        PQ_TRY(next(s, &to, n->in[1]));
        if (undo) {
            PQ_TRY(copy(s->ctx, &to->data, pq_tensor_data(&f->weight.data), shape));
            PQ_TRY(
                copy(s->ctx, &to->scale, pq_tensor_data(&f->weight.scale), &f->weight.scale.shape));
            decode_rows(pq_tensor_data(&to->data), pq_tensor_data(&to->scale), NULL, shape, undo);
        } else {
            share(&to->data, &f->weight.data);
            share(&to->scale, &f->weight.scale);
        }
    }
    if (f->bias.data.buf) {
        PQ_TRY(next(s, &to, n->in[2]));
        if (undo) {
            PQ_TRY(copy(s->ctx, &to->data, pq_tensor_data(&f->bias.data), &f->bias.data.shape));
            decode_rows(NULL, NULL, pq_tensor_data(&to->data), shape, undo);
        } else
            share(&to->data, &f->bias.data);
    }
out:
    return st;
}

pq_status pq_correct_plan(pq_ctx *ctx, pq_plan *plan, const pq_corrections *c, const pq_graph *g)
{
    state s = {.ctx = ctx, .plan = plan, .g = g, .room = plan->n_weights};
    pq_status st = PQ_OK;
    if (!c) return PQ_OK;
    if (strcmp(c->graph_hash, plan->graph_hash) != 0 || c->scheme != plan->scheme)
        return pq_fail(ctx, PQ_E_INVALID,
                       "corrections are for graph %.12s, scheme %s; expected the plan's, %.12s, %s",
                       c->graph_hash, c->scheme == PQ_SCHEME_U8 ? "u8" : "s8", plan->graph_hash,
                       plan->scheme == PQ_SCHEME_U8 ? "u8" : "s8");
    PQ_TRY(index_all(&s, c));
    for (size_t i = 0; i < g->n_nodes; i++) {
        const pq_node *n = &g->node[i];
        if (n->dead || n->quant_index < 0 || n->op != PQ_OP_CONV) continue;
        PQ_TRY(s.fix[i] ? add_fix(&s, n, s.fix[i]) : add_float(&s, n, true, true));
    }
out:
    pq_free(s.equal);
    pq_free(s.encoding);
    pq_free(s.anyway);
    pq_free(s.fix);
    return st;
}
