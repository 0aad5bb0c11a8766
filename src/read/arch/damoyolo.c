/* The graph of a DAMO-YOLO in its training form, in order of execution. */
#include "read/arch/damoyolo.h"

#include <stdio.h>
#include <string.h>

static const float BN_EPS = 1e-3f; /* Detector.init_bn */

/* What every building step needs. After a failure further steps do nothing and return PQ_NONE. */
typedef struct builder {
    pq_ctx *ctx;
    pq_graph *g;
    pq_state *s;
    pq_damo_net net;
    pq_damo_plan plan;
    bool *used; /* by entry of s */
    pq_op act;  /* of the neck */
    pq_status st;
} builder;

/* Names are short: the longest of the original has about 60 characters. */
typedef struct label {
    char s[200];
} label;

static label name(const char *fmt, ...) PQ_PRINTF(1, 2);
static label name(const char *fmt, ...)
{
    label l;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(l.s, sizeof l.s, fmt, ap);
    va_end(ap);
    return l;
}

/* ---- weights ---- */

static bool has(const builder *b, const char *key) { return pq_state_find(b->s, key) != NULL; }

/* The float tensor of that key as a constant called like it. */
static pq_value_id weight(builder *b, const char *key, const char *called, const pq_shape *want)
{
    char found[200], expected[200];
    pq_tensor t = {0};
    pq_value_id id = PQ_NONE;
    if (b->st != PQ_OK) return PQ_NONE;
    const pq_state_entry *e = pq_state_find(b->s, key);
    pq_shape_text(want, expected, sizeof expected);
    if (!e) {
        b->st = pq_fail(b->ctx, PQ_E_FORMAT, "key '%s': missing, expected %s of shape %s", key,
                        b->net.family, expected);
        return PQ_NONE;
    }
    b->used[e - pq_state_at(b->s, 0)] = true;
    if (!pq_shape_equal(&e->shape, want))
        b->st = pq_fail(b->ctx, PQ_E_FORMAT, "key '%s': shape %s, expected %s (%s)", key,
                        pq_shape_text(&e->shape, found, sizeof found), expected, b->net.family);
    else if (e->dtype > PQ_F64)
        b->st = pq_fail(b->ctx, PQ_E_FORMAT, "key '%s': elements are %s, expected float", key,
                        pq_dtype_name(e->dtype));
    if (b->st == PQ_OK) b->st = pq_state_tensor(b->ctx, &t, b->s, e);
    if (b->st == PQ_OK) b->st = pq_graph_add_const(b->ctx, &id, b->g, called, PQ_F32, want, t.buf);
    pq_tensor_clear(&t);
    return id;
}

/* ---- nodes ---- */

static pq_value_id node(builder *b, const char *called, pq_op op, const char *type,
                        const pq_value_id *in, int n_in, const char *out, const pq_attr *attr)
{
    pq_node_id id;
    if (b->st != PQ_OK) return PQ_NONE;
    b->st = pq_graph_add_node(b->ctx, &id, b->g, called, op, type, in, n_in, 1, out, attr);
    return b->st == PQ_OK ? b->g->node[id].out[0] : PQ_NONE;
}

static void number(builder *b, size_t index)
{
    if (b->st == PQ_OK) b->g->node[b->g->n_nodes - 1].quant_index = (int)index;
}

/* A convolution of module m's geometry; weights from `from`.weight, with a bias or not. */
static pq_value_id conv_node(builder *b, pq_value_id x, const char *called, const char *from,
                             const pq_damo_module *m, int64_t kernel, bool bias)
{
    const pq_shape shape = PQ_SHAPE(m->out, m->in / m->groups, kernel, kernel);
    pq_attr a = {0};
    for (int i = 0; i < 2; i++) {
        a.window.kernel[i] = kernel;
        a.window.stride[i] = m->stride;
        a.window.dilation[i] = 1;
        a.window.pad[i] = a.window.pad[i + 2] = (kernel - 1) / 2;
    }
    a.window.groups = m->groups;
    pq_value_id in[3] = {x};
    in[1] = weight(b, name("%s.weight", from).s, name("%s.weight", called).s, &shape);
    if (bias)
        in[2] = weight(b, name("%s.bias", from).s, name("%s.bias", called).s, &PQ_SHAPE(m->out));
    return node(b, called, PQ_OP_CONV, "Conv2d", in, bias ? 3 : 2, name("%s.output", from).s, &a);
}

static pq_value_id bn_node(builder *b, pq_value_id x, const char *called, int64_t channels)
{
    static const char *const part[] = {"weight", "bias", "running_mean", "running_var"};
    const pq_attr a = {.eps = BN_EPS};
    pq_value_id in[5] = {x};
    for (int i = 0; i < 4; i++) {
        const label key = name("%s.%s", called, part[i]);
        in[1 + i] = weight(b, key.s, key.s, &PQ_SHAPE(channels));
    }
    return node(b, called, PQ_OP_BATCH_NORM, "BatchNorm2d", in, 5, name("%s.output", called).s, &a);
}

/* Activation behind module parent; its output is the module's. */
static pq_value_id act(builder *b, pq_value_id x, pq_op op, const char *parent)
{
    return node(b, name("%s.act", parent).s, op, NULL, &x, 1, name("%s.output", parent).s, NULL);
}

static pq_value_id add(builder *b, pq_value_id x, pq_value_id y, const char *parent)
{
    const pq_value_id in[2] = {x, y};
    return node(b, name("%s.add", parent).s, PQ_OP_ADD, NULL, in, 2,
                name("%s.add.output", parent).s, NULL);
}

static pq_value_id concat(builder *b, const pq_value_id *in, int n, const char *parent)
{
    const pq_attr a = {.axis = 1};
    return node(b, name("%s.concat", parent).s, PQ_OP_CONCAT, NULL, in, n,
                name("%s.concat.output", parent).s, &a);
}

static pq_value_id upsample(builder *b, pq_value_id x, const char *called)
{
    const pq_attr a = {.resize = PQ_RESIZE_NEAREST,
                       .coord = PQ_COORD_ASYMMETRIC,
                       .nearest = PQ_NEAREST_FLOOR,
                       .scale = {2, 2}};
    return node(b, called, PQ_OP_RESIZE, NULL, &x, 1, name("%s.output", called).s, &a);
}

/* ---- modules ---- */

static pq_value_id rep_module(builder *b, pq_value_id x, const pq_damo_module *m, size_t index)
{
    const label fused = name("%s.rbr_reparam", m->name);
    pq_value_id y[2];
    if (has(b, name("%s.weight", fused.s).s)) { /* saved after re-parameterisation */
        y[0] = conv_node(b, x, fused.s, fused.s, m, 3, true);
        number(b, index);
        return y[0];
    }
    y[0] = conv_node(b, x, fused.s, name("%s.rbr_dense.conv", m->name).s, m, 3, false);
    number(b, index);
    y[0] = bn_node(b, y[0], name("%s.rbr_dense.bn", m->name).s, m->out);
    const label small = name("%s.rbr_1x1.conv", m->name);
    y[1] = conv_node(b, x, small.s, small.s, m, 1, false);
    y[1] = bn_node(b, y[1], name("%s.rbr_1x1.bn", m->name).s, m->out);
    return node(b, name("%s.add", m->name).s, PQ_OP_ADD, NULL, y, 2, name("%s.output", fused.s).s,
                NULL);
}

static pq_value_id pool_module(builder *b, pq_value_id x, const pq_damo_module *m, size_t index)
{
    pq_attr a = {0};
    for (int i = 0; i < 2; i++) {
        a.window.kernel[i] = m->kernel;
        a.window.stride[i] = a.window.dilation[i] = 1;
        a.window.pad[i] = a.window.pad[i + 2] = m->kernel / 2;
    }
    x = node(b, m->name, PQ_OP_MAX_POOL, "MaxPool2d", &x, 1, name("%s.output", m->name).s, &a);
    number(b, index);
    return x;
}

/* The planned operator of that name, with its batch norm if it has one. */
static pq_value_id module(builder *b, pq_value_id x, const char *called)
{
    if (b->st != PQ_OK) return PQ_NONE;
    for (size_t i = 0; i < b->plan.n; i++) {
        const pq_damo_module *m = &b->plan.m[i];
        if (strcmp(m->name, called) != 0) continue;
        if (m->kind == PQ_DAMO_REP) return rep_module(b, x, m, i);
        if (m->kind == PQ_DAMO_POOL) return pool_module(b, x, m, i);
        /* Without batch norm, but with a bias: the head, or a checkpoint saved after folding. */
        const bool bias =
            !m->bn || (!has(b, name("%s.weight", m->bn).s) && has(b, name("%s.bias", called).s));
        x = conv_node(b, x, called, called, m, m->kernel, bias);
        number(b, i);
        return bias ? x : bn_node(b, x, m->bn, m->out);
    }
    b->st = pq_fail(b->ctx, PQ_E_INTERNAL, "module '%s' is not planned", called);
    return PQ_NONE;
}

/* ConvBNAct called parent, or ConvKXBN under parent.conv (leaf "conv.conv1"). */
static pq_value_id conv_act(builder *b, pq_value_id x, const char *parent, const char *leaf,
                            pq_op op)
{
    return act(b, module(b, x, name("%s.%s", parent, leaf).s), op, parent);
}

static pq_value_id res_block(builder *b, pq_value_id x, const char *parent, pq_op op, int64_t in,
                             int64_t out, int64_t stride)
{
    const label proj = name("%s.residual_proj.conv1", parent);
    pq_value_id y = module(b, x, name("%s.conv1.conv1", parent).s);
    y = act(b, y, op, name("%s.conv1", parent).s);
    y = module(b, y, name("%s.conv2", parent).s);
    if (stride != 2) y = add(b, y, in != out ? module(b, x, proj.s) : x, parent);
    return act(b, y, op, parent);
}

/* MobileV3Block; last: index of the projection in its list. */
static pq_value_id mob_block(builder *b, pq_value_id x, const char *parent, bool shortcut, int last)
{
    pq_value_id y = module(b, x, name("%s.conv.0", parent).s);
    y = act(b, y, PQ_OP_SILU, name("%s.conv.2", parent).s);
    y = module(b, y, name("%s.conv.3", parent).s);
    y = act(b, y, PQ_OP_SILU, name("%s.conv.%d", parent, last - 1).s);
    y = module(b, y, name("%s.conv.%d", parent, last).s);
    return shortcut ? add(b, x, y, parent) : y;
}

/* SPPBottleneck: its activation is SiLU in every family. */
static pq_value_id spp(builder *b, pq_value_id x, const char *parent)
{
    pq_value_id in[4];
    in[0] = conv_act(b, x, name("%s.conv1", parent).s, "conv", PQ_OP_SILU);
    for (int i = 0; i < 3; i++) in[1 + i] = module(b, in[0], name("%s.m.%d", parent, i).s);
    x = concat(b, in, 4, parent);
    return conv_act(b, x, name("%s.conv2", parent).s, "conv", PQ_OP_SILU);
}

/* ---- backbone ---- */

static pq_value_id stem(builder *b, pq_value_id x)
{
    const label l =
        name(b->net.kind == PQ_DAMO_CSP ? "backbone.csp_stage.0" : "backbone.block_list.0");
    const pq_op op = b->net.kind == PQ_DAMO_RES ? PQ_OP_RELU : PQ_OP_SILU;
    if (!b->net.focus) return conv_act(b, x, l.s, "conv.conv1", op);
    x = node(b, name("%s.focus", l.s).s, PQ_OP_FOCUS, NULL, &x, 1, name("%s.focus.output", l.s).s,
             NULL);
    return conv_act(b, x, l.s, "conv.conv", op);
}

static pq_value_id list_stage(builder *b, pq_value_id x, int stage, int64_t in)
{
    const pq_damo_net *net = &b->net;
    const int64_t out = net->stage[stage].out;
    const label l = name("backbone.block_list.%d.block_list", stage + 1);
    for (int64_t i = 0; i < net->stage[stage].blocks; i++) {
        const label block = name("%s.%d", l.s, (int)pq_damo_block_at(net, stage, i));
        const int64_t stride = i ? 1 : pq_damo_stride(net, stage), c = i ? out : in;
        if (net->kind == PQ_DAMO_MOB)
            x = mob_block(b, x, block.s, stride == 1 && c == out, 7);
        else
            x = res_block(b, x, block.s, PQ_OP_RELU, c, out, stride);
        if (i == 0 && stage == net->n_stages - 1) x = spp(b, x, name("%s.1", l.s).s);
    }
    return x;
}

/* CSPWrapper: its own convolutions are ReLU whatever the config says. */
static pq_value_id csp_stage(builder *b, pq_value_id x, int stage)
{
    const int64_t half = b->net.stage[stage].out / 2;
    const label l = name("backbone.csp_stage.%d", stage + 1);
    pq_value_id in[2];
    x = conv_act(b, x, name("%s.downsampler", l.s).s, "conv.conv1", PQ_OP_RELU);
    if (stage == b->net.n_stages - 1) x = spp(b, x, name("%s.spp", l.s).s);
    in[1] = conv_act(b, x, name("%s.conv_shortcut", l.s).s, "conv.conv1", PQ_OP_RELU);
    in[0] = conv_act(b, x, name("%s.conv_start", l.s).s, "conv.conv1", PQ_OP_RELU);
    for (int64_t i = 0; i < b->net.stage[stage].blocks; i++)
        in[0] =
            res_block(b, in[0], name("%s.convstem.%d", l.s, (int)i).s, PQ_OP_SILU, half, half, 1);
    x = concat(b, in, 2, l.s);
    return conv_act(b, x, name("%s.conv_fuse", l.s).s, "conv.conv1", PQ_OP_RELU);
}

/* out: strides 8, 16, 32. */
static void backbone(builder *b, pq_value_id x, pq_value_id out[3])
{
    x = stem(b, x);
    for (int i = 0; i < b->net.n_stages; i++) {
        const int64_t in = i ? b->net.stage[i - 1].out : b->net.stem;
        x = b->net.kind == PQ_DAMO_CSP ? csp_stage(b, x, i) : list_stage(b, x, i, in);
        for (int k = 0; k < 3; k++)
            if (pq_damo_tap(&b->net, k) == i) out[k] = x;
    }
}

/* ---- neck and head ---- */

static pq_value_id down(builder *b, pq_value_id x, const char *parent)
{
    if (b->net.kind != PQ_DAMO_MOB) return conv_act(b, x, parent, "conv", b->act);
    x = module(b, x, name("%s.depthwise", parent).s);
    x = act(b, x, b->act, name("%s.between", parent).s);
    return conv_act(b, x, parent, "pointwise", b->act);
}

/* BasicBlock_3x3_Reverse: conv2 (the RepConv) runs first. */
static pq_value_id neck_block(builder *b, pq_value_id x, const char *parent)
{
    if (b->net.kind == PQ_DAMO_MOB) return mob_block(b, x, name("%s.conv", parent).s, true, 6);
    const label second = name("%s.conv2", parent);
    pq_value_id y = act(b, module(b, x, second.s), b->act, second.s);
    y = conv_act(b, y, name("%s.conv1", parent).s, "conv", b->act);
    return add(b, x, y, parent);
}

/* CSPStage over the concatenation of n values. */
static pq_value_id merge(builder *b, const pq_value_id *in, int n, const char *parent)
{
    pq_value_id part[64]; /* as many as Concat takes; neck_blocks is less */
    const label tail = name("%s.convs", parent);
    const pq_value_id x = concat(b, in, n, name("%s.input", parent).s);
    const int64_t blocks = b->net.neck_blocks;
    part[0] = conv_act(b, x, name("%s.conv1", parent).s, "conv", b->act);
    pq_value_id y = conv_act(b, x, name("%s.conv2", parent).s, "conv", b->act);
    for (int64_t i = 0; i < blocks; i++)
        part[1 + i] = y = neck_block(b, y, name("%s.%d", tail.s, (int)i).s);
    y = concat(b, part, 1 + (int)blocks, parent);
    return conv_act(b, y, name("%s.conv3", parent).s, "conv", b->act);
}

/* GiraffeNeckV2; x is replaced by the outputs, strides 8, 16, 32. */
static void neck(builder *b, pq_value_id x[3])
{
    const pq_value_id x13 = down(b, x[1], "neck.bu_conv13");
    const pq_value_id x3 = merge(b, (pq_value_id[]){x[2], x13}, 2, "neck.merge_3");
    const pq_value_id x34 = upsample(b, x3, "neck.upsample_34");
    const pq_value_id x24 = down(b, x[0], "neck.bu_conv24");
    const pq_value_id x4 = merge(b, (pq_value_id[]){x[1], x24, x34}, 3, "neck.merge_4");
    const pq_value_id x45 = upsample(b, x4, "neck.upsample_45");
    const pq_value_id x5 = merge(b, (pq_value_id[]){x[0], x45}, 2, "neck.merge_5");
    const pq_value_id x57 = down(b, x5, "neck.bu_conv57");
    const pq_value_id x7 = merge(b, (pq_value_id[]){x4, x57}, 2, "neck.merge_7");
    const pq_value_id x46 = down(b, x4, "neck.bu_conv46");
    const pq_value_id x76 = down(b, x7, "neck.bu_conv76");
    x[2] = merge(b, (pq_value_id[]){x3, x46, x76}, 3, "neck.merge_6");
    x[1] = x7;
    x[0] = x5;
}

/* The learnt factor of a level; a scalar, or one element, according to the version that saved it.
 */
static pq_value_id scaled(builder *b, pq_value_id x, int level)
{
    const label l = name("head.scales.%d", level), key = name("%s.scale", l.s);
    const pq_state_entry *e = pq_state_find(b->s, key.s);
    pq_shape one = {0, {0}};
    if (e && e->shape.rank == 1) one = PQ_SHAPE(1);
    const pq_value_id in[2] = {x, weight(b, key.s, key.s, &one)};
    return node(b, l.s, PQ_OP_MUL, NULL, in, 2, name("%s.output", l.s).s, NULL);
}

static void head(builder *b, const pq_value_id x[3])
{
    pq_value_id in[6];
    pq_node_id id;
    pq_attr a = {.levels = 3, .reg_max = (int)b->net.reg_max, .strides = {8, 16, 32}};
    for (int i = 0; i < 3; i++) {
        in[i] = module(b, x[i], name("head.gfl_cls.%d", i).s);
        in[3 + i] = scaled(b, module(b, x[i], name("head.gfl_reg.%d", i).s), i);
    }
    if (b->st != PQ_OK) return;
    b->st = pq_graph_add_node(b->ctx, &id, b->g, "head.decode", PQ_OP_GFL_DECODE, NULL, in, 6, 2,
                              "scores", &a);
    if (b->st != PQ_OK) return;
    const pq_node *n = &b->g->node[id];
    pq_value *boxes = pq_out_value(b->g, n, 1);
    b->st = pq_arena_strdup(b->ctx, b->g->arena, &boxes->name, "boxes");
    if (b->st == PQ_OK) b->st = pq_graph_set_outputs(b->ctx, b->g, n->out, 2);
}

/* ---- all of it ---- */

static void build(builder *b, const pq_shape *input)
{
    pq_value_id x, level[3];
    b->act = b->net.kind == PQ_DAMO_RES ? PQ_OP_RELU : PQ_OP_SILU;
    b->st = pq_graph_add_value(b->ctx, &x, b->g, "images", PQ_F32, input);
    if (b->st == PQ_OK) b->st = pq_graph_set_inputs(b->ctx, b->g, &x, 1);
    backbone(b, x, level);
    neck(b, level);
    head(b, level);
}

/* Tensors that nothing used. A known network has all it needs; in one of the user's own a weight
 * left over means that the structure was misread. */
static pq_status check_unused(const builder *b)
{
    for (size_t i = 0; i < pq_state_count(b->s); i++) {
        const pq_state_entry *e = pq_state_at(b->s, i);
        const char *last = strrchr(e->name, '.');
        if (b->used[i] || (last && strcmp(last, ".num_batches_tracked") == 0)) continue;
        const bool part = strncmp(e->name, "backbone.", 9) == 0 ||
                          strncmp(e->name, "neck.", 5) == 0 || strncmp(e->name, "head.", 5) == 0;
        if (part && e->shape.rank == 4 && !b->net.config)
            return pq_fail(b->ctx, PQ_E_FORMAT, "key '%s': no module of a %s takes it", e->name,
                           b->net.family);
        pq_log(b->ctx, PQ_LOG_DEBUG, "read", "tensor '%s' is not part of %s: ignored", e->name,
               b->net.family);
    }
    return PQ_OK;
}

static pq_status input_shape(pq_ctx *ctx, pq_shape *out, const pq_damo_net *net,
                             const pq_read_opts *opts)
{
    const int64_t side = net->kind == PQ_DAMO_MOB ? 416 : 640;
    const int64_t n = opts && opts->batch ? opts->batch : 1, h = opts && opts->h ? opts->h : side,
                  w = opts && opts->w ? opts->w : side;
    if (n < 1 || n > 1 << 16 || h < 32 || h > 1 << 14 || h % 32 || w < 32 || w > 1 << 14 || w % 32)
        return pq_fail(ctx, PQ_E_INVALID,
                       "input of %lld x 3 x %lld x %lld, expected sides that are multiples of 32",
                       (long long)n, (long long)h, (long long)w);
    *out = PQ_SHAPE(n, 3, h, w);
    return PQ_OK;
}

pq_status pq_damoyolo_read(pq_ctx *ctx, pq_graph **out, pq_state *s, const pq_read_opts *opts)
{
    pq_status st;
    pq_shape input;
    builder b = {.ctx = ctx, .s = s};
    *out = NULL;
    PQ_TRY(pq_damo_recognise(ctx, &b.net, s, opts ? opts->config : NULL));
    PQ_TRY(input_shape(ctx, &input, &b.net, opts));
    PQ_TRY(pq_alloc(ctx, &b.used, pq_state_count(s), sizeof *b.used));
    PQ_TRY(pq_graph_new(ctx, &b.g));
    PQ_TRY(pq_damo_plan_make(ctx, &b.plan, b.g->arena, &b.net));
    PQ_TRY(pq_arena_strdup(ctx, b.g->arena, &b.g->family, b.net.family));
    build(&b, &input);
    PQ_TRY(b.st);
    PQ_TRY(pq_graph_infer(ctx, b.g));
    PQ_TRY(check_unused(&b));
    *out = b.g;
    b.g = NULL;
out:
    pq_graph_free(b.g);
    pq_free(b.plan.m);
    pq_free(b.used);
    return st;
}
