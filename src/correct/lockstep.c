/* Node by node: each is compiled alone by the engine, one session a thread, and run over all
 * images before the next one. */
#include "correct/lockstep.h"

#include <string.h>

#include "base/mem.h"
#include "base/parallel.h"
#include "correct/grid.h"

static size_t count_of(const pq_graph *g, pq_value_id v)
{
    return (size_t)pq_shape_count(&g->value[v].shape);
}

/* Nodes that some convolution depends on, and the convolutions. */
static void find_needed(bool *needed, bool *wanted, const pq_graph *g)
{
    for (size_t i = g->n_nodes; i-- > 0;) {
        const pq_node *n = &g->node[i];
        if (n->dead) continue;
        needed[i] = n->op == PQ_OP_CONV && n->quant_index >= 0;
        for (int k = 0; k < n->n_out; k++) needed[i] = needed[i] || wanted[n->out[k]];
        for (int k = 0; k < n->n_in && needed[i]; k++)
            if (n->in[k] != PQ_NONE) wanted[n->in[k]] = true;
    }
}

static bool distinct(const pq_node *n, int k)
{
    for (int j = 0; j < k; j++)
        if (n->in[j] == n->in[k]) return false;
    return n->in[k] != PQ_NONE;
}

static pq_status prepare(pq_ctx *ctx, pq_lockstep *l)
{
    const pq_graph *g = l->g;
    bool *wanted = NULL;
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &wanted, g->n_values, 1));
    PQ_TRY(pq_alloc(ctx, &l->needed, g->n_nodes, 1));
    PQ_TRY(pq_alloc(ctx, &l->left, g->n_values, sizeof *l->left));
    find_needed(l->needed, wanted, g);
    for (size_t i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->node[i].n_in && l->needed[i]; k++)
            if (distinct(&g->node[i], k)) l->left[g->node[i].in[k]]++;
out:
    pq_free(wanted);
    return st;
}

pq_status pq_lockstep_bytes(pq_ctx *ctx, size_t *bytes, const pq_graph *g)
{
    pq_lockstep l = {.g = g};
    size_t now = 0, most = 0;
    pq_status st = prepare(ctx, &l);
    for (size_t i = 0; i < g->n_inputs; i++) now += count_of(g, g->input[i]);
    for (size_t i = 0; st == PQ_OK && i < g->n_nodes; i++) {
        const pq_node *n = &g->node[i];
        if (!l.needed[i]) continue;
        for (int k = 0; k < n->n_out; k++) now += 2 * count_of(g, n->out[k]);
        if (now > most) most = now;
        for (int k = 0; k < n->n_in; k++) {
            if (!distinct(n, k) || g->value[n->in[k]].data || --l.left[n->in[k]]) continue;
            const size_t size = 2 * count_of(g, n->in[k]);
            now -= size < now ? size : now;
        }
    }
    pq_free(l.needed);
    pq_free(l.left);
    *bytes = most * sizeof(float);
    return st;
}

static pq_status load_inputs(pq_ctx *ctx, pq_lockstep *l, const pq_dataset *data,
                             const pq_prep *prep)
{
    const size_t each = count_of(l->g, l->g->input[0]);
    pq_loader *loader = NULL;
    pq_batch batch;
    pq_status st;
    float **x = &l->exact[l->g->input[0]];
    PQ_TRY(pq_alloc(ctx, x, l->n * each, sizeof **x));
    l->actual[l->g->input[0]] = *x;
    PQ_TRY(pq_loader_open(ctx, &loader, data, prep, 1, 1));
    for (size_t i = 0; i < l->n; i++) {
        PQ_TRY(pq_loader_next(ctx, &batch, loader));
        memcpy(*x + i * each, pq_tensor_data(batch.input), each * sizeof **x);
    }
out:
    pq_loader_close(loader);
    return st;
}

pq_status pq_lockstep_new(pq_ctx *ctx, pq_lockstep *out, const pq_engine *engine, const pq_graph *g,
                          const pq_dataset *data, const pq_prep *prep)
{
    pq_status st;
    *out = (pq_lockstep){.engine = engine, .g = g, .n = data->n, .threads = pq_ctx_threads(ctx)};
    PQ_TRY(prepare(ctx, out));
    for (size_t i = 0; i < g->n_nodes; i++)
        for (int k = 0; k < g->node[i].n_out && out->needed[i]; k++)
            if (g->value[g->node[i].out[k]].dtype != PQ_F32) {
                st = pq_fail(ctx, PQ_E_UNSUPPORTED,
                             "node '%s' computes %s in front of a convolution, expected float32",
                             g->node[i].name, pq_dtype_name(g->value[g->node[i].out[k]].dtype));
                goto out;
            }
    PQ_TRY(pq_alloc(ctx, &out->exact, g->n_values, sizeof *out->exact));
    PQ_TRY(pq_alloc(ctx, &out->actual, g->n_values, sizeof *out->actual));
    st = load_inputs(ctx, out, data, prep);
out:
    if (st != PQ_OK) pq_lockstep_clear(out);
    return st;
}

static void drop(pq_lockstep *l, pq_value_id v)
{
    if (l->actual[v] != l->exact[v]) pq_free(l->actual[v]);
    pq_free(l->exact[v]);
    l->exact[v] = l->actual[v] = NULL;
}

void pq_lockstep_clear(pq_lockstep *l)
{
    for (size_t v = 0; l->exact && l->actual && v < l->g->n_values; v++) drop(l, (pq_value_id)v);
    pq_free(l->exact);
    pq_free(l->actual);
    pq_free(l->left);
    pq_free(l->needed);
    memset(l, 0, sizeof *l);
}

void pq_lockstep_leave(pq_lockstep *l, size_t i)
{
    const pq_node *n = &l->g->node[i];
    for (int k = 0; k < n->n_in; k++)
        if (distinct(n, k) && --l->left[n->in[k]] == 0) drop(l, n->in[k]);
    for (int k = 0; k < n->n_out; k++) /* read after the last convolution alone */
        if (l->left[n->out[k]] == 0) drop(l, n->out[k]);
}

/* ---- one node ---- */

static pq_status add_constant(pq_ctx *ctx, pq_value_id *out, pq_graph *to, const pq_value *v,
                              const float *instead)
{
    pq_buf *b = NULL;
    pq_status st;
    if (instead) {
        PQ_TRY(pq_buf_new(ctx, &b, pq_buf_bytes(v->data)));
        memcpy(pq_buf_data(b), instead, pq_buf_bytes(b));
    }
    st = pq_graph_add_const(ctx, out, to, v->name, v->dtype, &v->shape, b ? b : v->data);
out:
    pq_buf_unref(b);
    return st;
}

static pq_status alone(pq_ctx *ctx, pq_graph **out, const pq_graph *g, const pq_node *n,
                       const pq_lockstep_opts *o)
{
    pq_graph *to = NULL;
    pq_value_id *in = NULL, *data = NULL, made;
    size_t n_data = 0;
    pq_node_id id;
    pq_status st;
    pq_attr attr = n->attr;
    if (o->no_act) attr.act = PQ_ACT_NONE;
    PQ_TRY(pq_graph_new(ctx, &to));
    PQ_TRY(pq_alloc(ctx, &in, (size_t)n->n_in, sizeof *in));
    PQ_TRY(pq_alloc(ctx, &data, (size_t)n->n_in, sizeof *data));
    for (int k = 0; k < n->n_in; k++) {
        in[k] = PQ_NONE;
        if (n->in[k] == PQ_NONE) continue;
        const pq_value *v = &g->value[n->in[k]];
        for (int j = 0; j < k; j++)
            if (n->in[j] == n->in[k]) in[k] = in[j];
        if (in[k] != PQ_NONE) continue;
        if (v->data) {
            PQ_TRY(add_constant(ctx, &in[k], to, v, k == 1 ? o->weight : k == 2 ? o->bias : NULL));
            continue;
        }
        PQ_TRY(pq_graph_add_value(ctx, &in[k], to, v->name, v->dtype, &v->shape));
        data[n_data++] = in[k];
    }
    PQ_TRY(pq_graph_set_inputs(ctx, to, data, n_data));
    PQ_TRY(pq_graph_add_node(ctx, &id, to, n->name, n->op, n->type, in, n->n_in, n->n_out,
                             g->value[n->out[0]].name, &attr));
    made = to->node[id].out[0]; /* outputs of a new node stand side by side */
    pq_free(data);
    data = NULL;
    PQ_TRY(pq_alloc(ctx, &data, (size_t)n->n_out, sizeof *data));
    for (int k = 0; k < n->n_out; k++) data[k] = made + (pq_value_id)k;
    PQ_TRY(pq_graph_set_outputs(ctx, to, data, (size_t)n->n_out));
    PQ_TRY(pq_graph_infer(ctx, to));
    pq_graph_mark_quantizable(to);
    *out = to;
    to = NULL;
out:
    pq_graph_free(to);
    pq_free(in);
    pq_free(data);
    return st;
}

typedef struct job {
    const pq_lockstep *l;
    const pq_node *node;
    const pq_lockstep_opts *o;
    float *const *from;
    float **to;
    pq_value_id input[64]; /* of the session, in order */
    const pq_plan_tensor *grid[64];
    size_t n_inputs;
    pq_session **session; /* per worker */
} job;

static void find_inputs(job *j)
{
    const pq_node *n = j->node;
    for (int k = 0; k < n->n_in && j->n_inputs < 64; k++) {
        if (!distinct(n, k) || j->l->g->value[n->in[k]].data) continue;
        j->grid[j->n_inputs] = j->o->grids ? j->o->grids[k] : NULL;
        j->input[j->n_inputs++] = n->in[k];
    }
}

/* Image `item` of one input, as the node reads it. */
static pq_status bind_input(pq_ctx *ctx, const job *j, size_t k, size_t item, pq_tensor *t)
{
    const pq_value *v = &j->l->g->value[j->input[k]];
    const size_t count = count_of(j->l->g, j->input[k]);
    float *x = j->from[j->input[k]] + item * count;
    *t = (pq_tensor){PQ_F32, v->shape, NULL};
    if (!j->grid[k]) return pq_buf_wrap(ctx, &t->buf, x, count * sizeof *x, NULL, NULL);
    pq_status st = pq_buf_new(ctx, &t->buf, count * sizeof *x);
    if (st != PQ_OK) return st;
    const pq_steps steps = pq_steps_of(j->grid[k]);
    float *to = pq_buf_data(t->buf);
    for (size_t i = 0; i < count; i++) to[i] = pq_steps_round(x[i], steps);
    return PQ_OK;
}

static pq_status run_one(pq_ctx *ctx, void *user, size_t item, int worker)
{
    const job *j = user;
    pq_tensor in[64] = {{0}}, out[64] = {{0}};
    const size_t n_out = (size_t)j->node->n_out;
    pq_status st = PQ_OK;
    for (size_t k = 0; k < j->n_inputs; k++) PQ_TRY(bind_input(ctx, j, k, item, &in[k]));
    for (size_t k = 0; k < n_out; k++) {
        const size_t count = count_of(j->l->g, j->node->out[k]);
        out[k] = (pq_tensor){PQ_F32, j->l->g->value[j->node->out[k]].shape, NULL};
        PQ_TRY(pq_buf_wrap(ctx, &out[k].buf, j->to[k] + item * count, count * sizeof(float), NULL,
                           NULL));
    }
    st = pq_run(ctx, j->session[worker], in, j->n_inputs, out, n_out);
out:
    for (size_t k = 0; k < j->n_inputs; k++) pq_tensor_clear(&in[k]);
    for (size_t k = 0; k < n_out; k++) pq_tensor_clear(&out[k]);
    return st;
}

pq_status pq_lockstep_run(pq_ctx *ctx, const pq_lockstep *l, size_t i, float *const *from,
                          const pq_lockstep_opts *opts, float **out)
{
    const pq_node *n = &l->g->node[i];
    const size_t workers = l->n < (size_t)l->threads ? l->n : (size_t)l->threads;
    const pq_compile_opts compile = {.threads = 1};
    job j = {.l = l, .node = n, .o = opts, .from = from, .to = out};
    pq_graph *g = NULL;
    pq_plan *plan = NULL;
    pq_status st;
    for (int k = 0; k < n->n_out; k++) out[k] = NULL;
    if (n->n_in > 64 || n->n_out > 64)
        return pq_fail(ctx, PQ_E_UNSUPPORTED, "node '%s': %d inputs, %d outputs, expected up to 64",
                       n->name, n->n_in, n->n_out);
    find_inputs(&j);
    PQ_TRY(alone(ctx, &g, l->g, n, opts));
    PQ_TRY(pq_plan_float(ctx, &plan, g, PQ_PREC_FP32));
    PQ_TRY(pq_alloc(ctx, &j.session, workers, sizeof *j.session));
    for (size_t w = 0; w < workers; w++)
        PQ_TRY(pq_compile(ctx, &j.session[w], l->engine, g, plan, &compile));
    for (int k = 0; k < n->n_out; k++)
        PQ_TRY(pq_alloc(ctx, &out[k], l->n * count_of(l->g, n->out[k]), sizeof **out));
    st = pq_parallel(ctx, NULL, l->threads, l->n, run_one, &j);
out:
    for (size_t w = 0; j.session && w < workers; w++) pq_session_free(j.session[w]);
    pq_free(j.session);
    pq_plan_free(plan);
    pq_graph_free(g);
    for (int k = 0; k < n->n_out && st != PQ_OK; k++) {
        pq_free(out[k]);
        out[k] = NULL;
    }
    return st;
}
