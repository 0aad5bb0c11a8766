/* The cpu engine: oneDNN for what it does well, our own kernels around it. Feature maps are NHWC.
 */
#include "engine/cpu/cpu.h"

#include <omp.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/cpu.h"
#include "base/mem.h"
#include "engine/engines.h"
#include "graph/eval.h"

const pq_cpu_kernels *pq_cpu_kernels_best(void)
{
    const pq_cpu *c = pq_cpu_get();
    return c->avx512           ? &pq_cpu_kernels_avx512
           : c->avx2 && c->fma ? &pq_cpu_kernels_avx2
                               : &pq_cpu_kernels_base;
}

static pq_status probe(pq_ctx *ctx, pq_engine_info *out)
{
    const pq_cpu *c = pq_cpu_get();
    const dnnl_version_t *v = dnnl_version();
    (void)ctx;
    memset(out, 0, sizeof *out);
    snprintf(out->version, sizeof out->version, "oneDNN %d.%d.%d", v->major, v->minor, v->patch);
    snprintf(out->device, sizeof out->device, "%s%s%s", c->model,
             c->avx512_vnni || c->avx_vnni ? ", VNNI" : ", no VNNI",
             c->avx512_bf16 ? ", BF16" : "");
    out->precisions = 1u << PQ_PREC_FP32 | 1u << PQ_PREC_INT8;
    if (c->avx512_bf16) out->precisions |= 1u << PQ_PREC_BF16;
    out->scheme = PQ_SCHEME_U8;
    out->mixes = true;
    out->taps = true;
    return PQ_OK;
}

static bool accepts(const pq_graph *g, const pq_node *n, pq_precision p, const char **why)
{
    *why = "float16 is not among its precisions";
    if (p == PQ_PREC_FP16) return false;
    *why = "this processor has no BF16 instructions";
    if (p == PQ_PREC_BF16 && !pq_cpu_get()->avx512_bf16) return false;
    *why = "no exact INT8 transposed convolution without VNNI";
    if (p == PQ_PREC_INT8 && n->op == PQ_OP_CONV_TRANSPOSE && !pq_cpu_get()->avx512_vnni &&
        !pq_cpu_get()->avx_vnni)
        return false;
    *why = "a product whose weights are not one matrix, or with a transposed input";
    if (n->quant_index >= 0 && (n->op == PQ_OP_GEMM || n->op == PQ_OP_MATMUL) &&
        (pq_in(g, n, 1)->shape.rank != 2 || n->attr.trans_a))
        return false;
    *why = "no such operator";
    return n->op == PQ_OP_CONV || n->op == PQ_OP_CONV_TRANSPOSE || pq_eval_supports(n->op);
}

static size_t slot_bytes(const pq_stepped *s, const pq_slot *slot)
{
    (void)s;
    return (size_t)pq_shape_count(&slot->shape) * pq_dtype_size(slot->dtype);
}

static bool channels_last(const pq_stepped *stepped, const pq_slot *slot)
{
    const cpu_session *s = (const cpu_session *)stepped;
    return s->layout[slot - stepped->program->slot] == CPU_LAST;
}

static pq_status run_step(pq_ctx *ctx, pq_stepped *stepped, size_t i)
{
    cpu_session *s = (cpu_session *)stepped;
    return s->step[i].run ? s->step[i].run(ctx, s, i) : PQ_OK;
}

/* Inputs that convolutions and the like read directly are brought into NHWC first. */
static pq_status begin(pq_ctx *ctx, pq_stepped *stepped)
{
    cpu_session *s = (cpu_session *)stepped;
    const pq_program *p = stepped->program;
    (void)ctx;
    for (size_t i = 0; i < p->n_slots; i++) {
        if (p->slot[i].first >= 0 || p->slot[i].constant || s->layout[i] != CPU_LAST) continue;
        float *to = (float *)(void *)(stepped->arena + stepped->offset[i]);
        cpu_to_last(s, to, stepped->ptr[i], &p->slot[i].shape);
        stepped->ptr[i] = to;
    }
    return PQ_OK;
}

/* An image may stay as it is when only Focus, or conversions, read it. */
static void choose_inputs(cpu_session *s)
{
    const pq_program *p = s->stepped.program;
    for (size_t i = 0; i < p->n_slots; i++)
        if (p->slot[i].first < 0 && !p->slot[i].constant && p->slot[i].shape.rank == 4)
            s->layout[i] = CPU_LAST;
    for (size_t k = 0; k < p->n_slots; k++) {
        bool only = !p->slot[k].constant && p->slot[k].first < 0;
        for (size_t i = 0; only && i < p->n_steps; i++) {
            const pq_step *step = &p->step[i];
            for (int j = 0; j < step->n_in; j++)
                if (step->in[j] == k && !step->convert &&
                    p->graph->node[step->node].op != PQ_OP_FOCUS)
                    only = false;
            if (step->residual == k) only = false;
        }
        if (only) s->layout[k] = CPU_PLAIN;
    }
}

/* The sum of a residual block is formed in the residual's own bytes where nobody needs them later.
 */
static void alias_residual(cpu_session *s, size_t i)
{
    const pq_program *p = s->stepped.program;
    const pq_step *step = &p->step[i];
    const pq_slot *r = &p->slot[step->residual], *y = &p->slot[step->out[0]];
    const bool output = y->last == (int)p->n_steps;
    /* An outline has no convolutions to ask: nearly all sum in place. */
    const bool in_place = !s->step[i].conv || cpu_conv_sums_in_place(s->step[i].conv);
    if (in_place && r->last == (int)i && r->first >= 0 && !r->constant && r->dtype == y->dtype &&
        step->residual != step->in[0] && !output)
        s->stepped.alias[step->out[0]] = step->residual;
}

static pq_status prepare(pq_ctx *ctx, cpu_session *s, size_t i, bool outline)
{
    const pq_program *p = s->stepped.program;
    const pq_step *step = &p->step[i];
    const pq_node *n = step->convert ? NULL : &p->graph->node[step->node];
    if (!n || n->quant_index < 0 || n->op == PQ_OP_MAX_POOL) {
        cpu_choose(s, i);
        return PQ_OK;
    }
    pq_status st = outline ? PQ_OK : cpu_conv_new(ctx, &s->step[i].conv, s, i);
    if (st != PQ_OK) return st;
    s->step[i].run = cpu_conv_run;
    s->step[i].impl = outline ? "" : cpu_conv_impl(s->step[i].conv);
    s->layout[step->out[0]] = p->slot[step->out[0]].shape.rank == 4 ? CPU_LAST : CPU_PLAIN;
    if (step->residual != PQ_NONE) alias_residual(s, i);
    return PQ_OK;
}

static void destroy(pq_session *session)
{
    cpu_session *s = (cpu_session *)session;
    for (size_t i = 0; s->step && i < s->stepped.program->n_steps; i++)
        cpu_conv_free(s->step[i].conv);
    if (s->stream) dnnl_stream_destroy(s->stream);
    if (s->engine) dnnl_engine_destroy(s->engine);
    pq_free(s->step);
    pq_free(s->layout);
    pq_free(s->scratch);
    pq_stepped_clear(&s->stepped);
    pq_free(s);
}

static pq_status compile(pq_ctx *ctx, pq_session **out, const pq_graph *g, const pq_plan *plan,
                         const pq_compile_opts *opts)
{
    cpu_session *s = NULL;
    const int old_threads = omp_get_max_threads();
    pq_status st;
    PQ_TRY(pq_alloc(ctx, &s, 1, sizeof *s));
    s->stepped.base.engine = &pq_engine_cpu;
    s->stepped.run_step = run_step;
    s->stepped.slot_bytes = slot_bytes;
    s->stepped.channels_last = channels_last;
    s->stepped.begin = begin;
    s->k = pq_cpu_kernels_best();
    s->n_threads = opts->threads > 0 ? opts->threads : pq_ctx_threads(ctx);
    s->min_score = opts->min_score;
    omp_set_num_threads(s->n_threads); /* oneDNN lays its kernels out for this many */
    CPU_DNNL(ctx, dnnl_engine_create(&s->engine, dnnl_cpu, 0));
    CPU_DNNL(ctx, dnnl_stream_create(&s->stream, s->engine, dnnl_stream_default_flags));
    PQ_TRY(pq_stepped_init(ctx, &s->stepped, &pq_engine_cpu, g, plan, opts));
    PQ_TRY(pq_alloc(ctx, &s->layout, s->stepped.program->n_slots, sizeof *s->layout));
    PQ_TRY(pq_alloc(ctx, &s->step, s->stepped.program->n_steps, sizeof *s->step));
    choose_inputs(s);
    for (size_t i = 0; i < s->stepped.program->n_steps; i++)
        PQ_TRY(prepare(ctx, s, i, opts->outline));
    if (opts->outline) goto done;
    PQ_TRY(pq_alloc(ctx, &s->scratch, s->scratch_bytes, 1));
    PQ_TRY(pq_stepped_allocate(ctx, &s->stepped));
done:
    *out = &s->stepped.base;
    s = NULL;
out:
    if (s) destroy(&s->stepped.base);
    omp_set_num_threads(old_threads);
    return st;
}

static pq_status with_threads(pq_ctx *ctx, pq_session *session, pq_status (*fn)(pq_ctx *, void *),
                              void *arg)
{
    const int old = omp_get_max_threads(), want = ((cpu_session *)session)->n_threads;
    if (old != want) omp_set_num_threads(want);
    pq_status st = fn(ctx, arg);
    if (old != want) omp_set_num_threads(old);
    return st;
}

struct call {
    pq_session *s;
    const pq_session *owner;
    const pq_tensor *in;
    pq_tensor *out;
    size_t n_in, n_out, from, to;
    const void *state;
    void *new_state;
};

static pq_status call_run(pq_ctx *ctx, void *arg)
{
    struct call *c = arg;
    return pq_stepped_run(ctx, c->s, c->in, c->n_in, c->out, c->n_out);
}

static pq_status run(pq_ctx *ctx, pq_session *s, const pq_tensor *in, size_t n_in, pq_tensor *out,
                     size_t n_out)
{
    struct call c = {.s = s, .in = in, .n_in = n_in, .out = out, .n_out = n_out};
    return with_threads(ctx, s, call_run, &c);
}

static pq_status call_part(pq_ctx *ctx, void *arg)
{
    struct call *c = arg;
    return pq_stepped_part(ctx, c->s, c->from, c->to, c->owner, c->state, c->new_state, c->in,
                           c->n_in, c->out, c->n_out);
}

static pq_status run_part(pq_ctx *ctx, pq_session *s, size_t from, size_t to,
                          const pq_session *owner, const void *state, void *new_state,
                          const pq_tensor *in, size_t n_in, pq_tensor *out, size_t n_out)
{
    struct call c = {s, owner, in, out, n_in, n_out, from, to, state, new_state};
    return with_threads(ctx, s, call_part, &c);
}

/* ---- per-layer times ---- */

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static void describe_layer(const cpu_session *s, size_t i, pq_layer *l)
{
    const pq_program *p = s->stepped.program;
    const pq_step *step = &p->step[i];
    memset(l, 0, sizeof *l);
    snprintf(l->impl, sizeof l->impl, "%s", s->step[i].impl);
    if (step->convert) {
        const pq_slot *from = &p->slot[step->in[0]], *to = &p->slot[step->out[0]];
        snprintf(l->node, sizeof l->node, "%s", p->graph->value[to->value].name);
        snprintf(l->op, sizeof l->op, PQ_LAYER_CONVERT);
        snprintf(l->precision, sizeof l->precision, "%s>%s", pq_dtype_name(from->dtype),
                 pq_dtype_name(to->dtype));
        return;
    }
    const pq_node *n = &p->graph->node[step->node];
    snprintf(l->node, sizeof l->node, "%s", n->name);
    snprintf(l->op, sizeof l->op, "%s%s", pq_op_name(n->op), step->add == PQ_NONE ? "" : "+Add");
    snprintf(l->precision, sizeof l->precision, "%s", pq_precision_name(step->precision));
    l->macs = pq_node_macs(p->graph, n);
}

static pq_status call_layers(pq_ctx *ctx, void *arg)
{
    struct call *c = arg;
    cpu_session *s = (cpu_session *)c->s;
    pq_layer *out = c->new_state;
    pq_status st = PQ_OK;
    pq_stepped_bind(&s->stepped, c->in, NULL);
    st = begin(ctx, &s->stepped);
    for (size_t i = 0; i < s->stepped.program->n_steps && i < c->to && st == PQ_OK; i++) {
        describe_layer(s, i, &out[i]);
        const double t = now_ms();
        st = run_step(ctx, &s->stepped, i);
        out[i].ms = now_ms() - t;
    }
    return st;
}

static pq_status layers(pq_ctx *ctx, pq_session *session, const pq_tensor *in, size_t n_in,
                        pq_layer *out, size_t *n)
{
    struct call c = {.s = session, .in = in, .n_in = n_in, .to = *n, .new_state = out};
    const size_t have = ((cpu_session *)session)->stepped.program->n_steps;
    if (have < *n) *n = have;
    return with_threads(ctx, session, call_layers, &c);
}

static pq_status call_weighted(pq_ctx *ctx, void *arg)
{
    struct call *c = arg;
    cpu_session *s = (cpu_session *)c->s;
    pq_status st = PQ_OK;
    pq_stepped_bind(&s->stepped, c->in, NULL);
    for (size_t i = 0; i < s->stepped.program->n_steps && st == PQ_OK; i++)
        if (s->step[i].conv) st = run_step(ctx, &s->stepped, i);
    return st;
}

static pq_status weighted_only(pq_ctx *ctx, pq_session *session, const pq_tensor *in, size_t n_in)
{
    struct call c = {.s = session, .in = in, .n_in = n_in};
    return with_threads(ctx, session, call_weighted, &c);
}

const pq_engine pq_engine_cpu = {.abi = PQ_ENGINE_ABI,
                                 .name = "cpu",
                                 .probe = probe,
                                 .accepts = accepts,
                                 .compile = compile,
                                 .run = run,
                                 .destroy = destroy,
                                 .layers = layers,
                                 .weighted_only = weighted_only,
                                 .common_prefix = pq_stepped_prefix,
                                 .state_bytes = pq_stepped_state_bytes,
                                 .run_part = run_part};
