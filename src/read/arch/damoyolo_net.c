/* Which DAMO-YOLO a state dict is, and the list of its operators in the original's order. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "read/arch/damoyolo.h"

/* From the original's configs and nas_backbones folders. csp stages hold L - 1 blocks (stride 2),
 * the third joins two structures. mob's inner widths: out * (3.5 + stage / 2), rounded up to 8. */
/* clang-format off */
static const pq_damo_net nets[] = {
    {"DAMO-YOLO-T", "damoyolo_tinynasL20_T", "tinynas_L20_k1kx.txt", PQ_DAMO_RES, true, 24, 5,
     {{64, 24, 2}, {96, 64, 2}, {192, 96, 2}, {192, 152, 2}, {384, 192, 1}},
     1, {64, 128, 256}, 3, 1.0, 3, 80, 16},
    {"DAMO-YOLO-S", "damoyolo_tinynasL25_S", "tinynas_L25_k1kx.txt", PQ_DAMO_RES, true, 32, 5,
     {{128, 24, 1}, {128, 88, 5}, {256, 128, 3}, {256, 120, 2}, {512, 144, 1}},
     1, {128, 256, 512}, 3, 0.75, 3, 80, 16},
    {"DAMO-YOLO-M", "damoyolo_tinynasL35_M", "tinynas_L35_kxkx.txt", PQ_DAMO_CSP, true, 32, 4,
     {{128, 64, 1}, {128, 64, 3}, {256, 256, 7}, {512, 256, 2}},
     3, {128, 256, 512}, 4, 1.0, 3, 80, 16},
    {"DAMO-YOLO-L", "damoyolo_tinynasL45_L", "tinynas_L45_kxkx.txt", PQ_DAMO_CSP, true, 32, 4,
     {{128, 96, 2}, {128, 96, 4}, {256, 384, 9}, {512, 384, 3}},
     3, {128, 256, 512}, 6, 1.0, 3, 80, 16},
    {"DAMO-YOLO-Ns", "damoyolo_tinynasL18_Ns", "tinynas_nano_small.txt", PQ_DAMO_MOB, false, 16, 5,
     {{24, 88, 1}, {40, 160, 2}, {64, 288, 2}, {80, 400, 2}, {160, 880, 2}},
     1, {40, 80, 160}, 2, 3.0, 1, 80, 7},
    {"DAMO-YOLO-Nm", "damoyolo_tinynasL18_Nm", "tinynas_nano_middle.txt", PQ_DAMO_MOB, false, 16, 5,
     {{40, 144, 2}, {64, 256, 2}, {112, 504, 2}, {128, 640, 2}, {256, 1408, 1}},
     1, {64, 128, 256}, 2, 3.0, 1, 80, 7},
    {"DAMO-YOLO-Nl", "damoyolo_tinynasL20_Nl", "tinynas_nano_large.txt", PQ_DAMO_MOB, false, 24, 5,
     {{48, 168, 1}, {80, 320, 2}, {160, 720, 2}, {160, 800, 3}, {320, 1760, 2}},
     1, {80, 160, 320}, 2, 3.0, 1, 80, 7},
    {"DAMO-YOLO-N", "damoyolo_tinynasL20_N", "tinynas_L20_k1kx_nano.txt", PQ_DAMO_MOB, true, 16, 5,
     {{40, 144, 2}, {80, 320, 2}, {112, 504, 2}, {112, 560, 2}, {160, 880, 1}},
     1, {64, 128, 256}, 2, 3.0, 3, 80, 7},
};
/* clang-format on */
enum { N_NETS = sizeof nets / sizeof *nets, MAX_BLOCKS = 60 };

/* ---- the list of operators ---- */

/* Collects operators; after a failure further calls do nothing. */
typedef struct planner {
    pq_ctx *ctx;
    pq_arena *arena;
    const pq_damo_net *net;
    pq_damo_plan *plan;
    pq_status st;
} planner;

static const char *text(planner *p, const char *fmt, ...) PQ_PRINTF(2, 3);
static const char *text(planner *p, const char *fmt, ...)
{
    char buf[256];
    const char *out = "";
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(buf, sizeof buf, fmt, ap);
    va_end(ap);
    if (p->st == PQ_OK) p->st = pq_arena_strdup(p->ctx, p->arena, &out, buf);
    return p->st == PQ_OK ? out : "";
}

static void add(planner *p, pq_damo_module m)
{
    pq_damo_plan *l = p->plan;
    if (p->st == PQ_OK && l->n == l->room) {
        const size_t room = l->room ? 2 * l->room : 128;
        p->st = pq_grow(p->ctx, &l->m, l->n, room, sizeof *l->m);
        if (p->st == PQ_OK) l->room = room;
    }
    if (p->st == PQ_OK) l->m[l->n++] = m;
}

/* A convolution and its batch norm, siblings in parent. */
static void conv(planner *p, const char *parent, const char *name, const char *bn, int64_t out,
                 int64_t in, int64_t kernel, int64_t stride, int64_t groups)
{
    add(p, (pq_damo_module){PQ_DAMO_CONV, text(p, "%s.%s", parent, name),
                            bn ? text(p, "%s.%s", parent, bn) : NULL, out, in, kernel, stride,
                            groups});
}

static void rep(planner *p, const char *name, int64_t out, int64_t in, int64_t stride)
{
    add(p, (pq_damo_module){PQ_DAMO_REP, name, NULL, out, in, 3, stride, 1});
}

static void plan_spp(planner *p, const char *name, int64_t c)
{
    conv(p, text(p, "%s.conv1", name), "conv", "bn", c / 2, c, 1, 1, 1);
    for (int i = 0; i < 3; i++)
        add(p, (pq_damo_module){PQ_DAMO_POOL, text(p, "%s.m.%d", name, i), NULL, c / 2, c / 2,
                                5 + 4 * i, 1, 1});
    conv(p, text(p, "%s.conv2", name), "conv", "bn", c, c / 2 * 4, 1, 1, 1);
}

static void plan_res_block(planner *p, const char *name, int64_t in, int64_t out, int64_t btn,
                           int64_t stride)
{
    conv(p, text(p, "%s.conv1", name), "conv1", "bn1", btn, in, p->net->block_kernel, 1, 1);
    rep(p, text(p, "%s.conv2", name), out, btn, stride);
    if (in != out && stride != 2)
        conv(p, text(p, "%s.residual_proj", name), "conv1", "bn1", out, in, 1, 1, 1);
}

/* MobileV3Block: expand, depthwise 5x5, project; last: index of the projection in its list. */
static void plan_mob_block(planner *p, const char *name, int64_t in, int64_t out, int64_t inner,
                           int64_t stride, int last)
{
    const char *list = text(p, "%s.conv", name);
    conv(p, list, "0", "1", inner, in, 1, 1, 1);
    conv(p, list, "3", "4", inner, inner, 5, stride, inner);
    conv(p, list, text(p, "%d", last), text(p, "%d", last + 1), out, inner, 1, 1, 1);
}

static void plan_list_stage(planner *p, int stage, int64_t in)
{
    const pq_damo_net *net = p->net;
    const int64_t out = net->stage[stage].out, btn = net->stage[stage].btn;
    for (int64_t b = 0; b < net->stage[stage].blocks; b++) {
        const char *name = text(p, "backbone.block_list.%d.block_list.%d", stage + 1,
                                (int)pq_damo_block_at(net, stage, b));
        const int64_t stride = b ? 1 : pq_damo_stride(net, stage);
        if (net->kind == PQ_DAMO_RES)
            plan_res_block(p, name, b ? out : in, out, btn, stride);
        else
            plan_mob_block(p, name, b ? out : in, out, btn, stride, 7);
        if (b == 0 && stage == net->n_stages - 1)
            plan_spp(p, text(p, "backbone.block_list.%d.block_list.1", stage + 1), out);
    }
}

static void plan_csp_stage(planner *p, int stage, int64_t in)
{
    const pq_damo_net *net = p->net;
    const int64_t out = net->stage[stage].out, half = out / 2;
    const char *name = text(p, "backbone.csp_stage.%d", stage + 1);
    for (int64_t b = 0; b < net->stage[stage].blocks; b++)
        plan_res_block(p, text(p, "%s.convstem.%d", name, (int)b), half, half,
                       net->stage[stage].btn, 1);
    conv(p, text(p, "%s.downsampler.conv", name), "conv1", "bn1", out, in, 3, 2, 1);
    if (stage == net->n_stages - 1) plan_spp(p, text(p, "%s.spp", name), out);
    conv(p, text(p, "%s.conv_start.conv", name), "conv1", "bn1", half, out, 1, 1, 1);
    conv(p, text(p, "%s.conv_shortcut.conv", name), "conv1", "bn1", half, out, 1, 1, 1);
    conv(p, text(p, "%s.conv_fuse.conv", name), "conv1", "bn1", out, out, 1, 1, 1);
}

static void plan_backbone(planner *p)
{
    const pq_damo_net *net = p->net;
    const char *first =
        net->kind == PQ_DAMO_CSP ? "backbone.csp_stage.0.conv" : "backbone.block_list.0.conv";
    if (net->focus)
        conv(p, first, "conv", "bn", net->stem, 12, 3, 1, 1);
    else
        conv(p, first, "conv1", "bn1", net->stem, 3, 3, 2, 1);
    for (int i = 0; i < net->n_stages; i++) {
        const int64_t in = i ? net->stage[i - 1].out : net->stem;
        if (net->kind == PQ_DAMO_CSP)
            plan_csp_stage(p, i, in);
        else
            plan_list_stage(p, i, in);
    }
}

/* A stride-2 convolution of the neck. */
static void plan_down(planner *p, const char *name, int64_t c)
{
    if (p->net->kind == PQ_DAMO_MOB) {
        conv(p, name, "depthwise", "dwnorm", c, c, 3, 2, c);
        conv(p, name, "pointwise", "pwnorm", c, c, 1, 1, 1);
    } else
        conv(p, name, "conv", "bn", c, c, 3, 2, 1);
}

/* CSPStage. */
static void plan_merge(planner *p, const char *name, int64_t in, int64_t out)
{
    const pq_damo_net *net = p->net;
    const int64_t first = out / 2, mid = out - first, hidden = pq_damo_hidden(net, mid);
    conv(p, text(p, "%s.conv1", name), "conv", "bn", first, in, 1, 1, 1);
    conv(p, text(p, "%s.conv2", name), "conv", "bn", mid, in, 1, 1, 1);
    for (int64_t b = 0; b < net->neck_blocks; b++) {
        const char *block = text(p, "%s.convs.%d", name, (int)b);
        if (net->kind == PQ_DAMO_MOB) {
            plan_mob_block(p, text(p, "%s.conv", block), mid, mid, hidden, 1, 6);
            continue;
        }
        conv(p, text(p, "%s.conv1", block), "conv", "bn", mid, hidden, 3, 1, 1);
        rep(p, text(p, "%s.conv2", block), hidden, mid, 1);
    }
    conv(p, text(p, "%s.conv3", name), "conv", "bn", out, mid * net->neck_blocks + first, 1, 1, 1);
}

static void plan_neck(planner *p)
{
    const pq_damo_net *net = p->net;
    int64_t c[3];
    for (int i = 0; i < 3; i++) c[i] = net->stage[pq_damo_tap(net, i)].out;
    plan_down(p, "neck.bu_conv13", c[1]);
    plan_merge(p, "neck.merge_3", c[1] + c[2], c[2]);
    plan_down(p, "neck.bu_conv24", c[0]);
    plan_merge(p, "neck.merge_4", c[0] + c[1] + c[2], c[1]);
    plan_merge(p, "neck.merge_5", c[0] + c[1], net->neck[0]);
    plan_down(p, "neck.bu_conv57", net->neck[0]);
    plan_merge(p, "neck.merge_7", net->neck[0] + c[1], net->neck[1]);
    plan_down(p, "neck.bu_conv46", c[1]);
    plan_down(p, "neck.bu_conv76", net->neck[1]);
    plan_merge(p, "neck.merge_6", c[1] + net->neck[1] + c[2], net->neck[2]);
}

pq_status pq_damo_plan_make(pq_ctx *ctx, pq_damo_plan *plan, pq_arena *arena,
                            const pq_damo_net *net)
{
    planner p = {ctx, arena, net, plan, PQ_OK};
    plan_backbone(&p);
    plan_neck(&p);
    for (int i = 0; i < 3; i++)
        conv(&p, "head.gfl_cls", text(&p, "%d", i), NULL, net->classes, net->neck[i],
             net->head_kernel, 1, 1);
    for (int i = 0; i < 3; i++)
        conv(&p, "head.gfl_reg", text(&p, "%d", i), NULL, 4 * (net->reg_max + 1), net->neck[i],
             net->head_kernel, 1, 1);
    return p.st;
}

/* ---- recognition ---- */

static const pq_state_entry *find(const pq_state *s, const char *fmt, ...) PQ_PRINTF(2, 3);
static const pq_state_entry *find(const pq_state *s, const char *fmt, ...)
{
    char key[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(key, sizeof key, fmt, ap);
    va_end(ap);
    return pq_state_find(s, key);
}

/* Any key that begins so. */
static bool has(const pq_state *s, const char *fmt, ...) PQ_PRINTF(2, 3);
static bool has(const pq_state *s, const char *fmt, ...)
{
    char prefix[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(prefix, sizeof prefix, fmt, ap);
    va_end(ap);
    for (size_t i = 0; i < pq_state_count(s); i++)
        if (strncmp(pq_state_at(s, i)->name, prefix, strlen(prefix)) == 0) return true;
    return false;
}

/* The size that two of three agree on, so that one misshapen tensor is found out as such. */
static int64_t median_rows(const pq_state *s, const char *module, int64_t otherwise)
{
    int64_t v[3];
    for (int i = 0; i < 3; i++) {
        const pq_state_entry *e = find(s, "%s.%d.weight", module, i);
        v[i] = e && e->shape.rank == 4 ? e->shape.dim[0] : otherwise;
    }
    return v[0] == v[1] || v[0] == v[2] ? v[0] : v[1];
}

/* Convolutions of the net whose weights the state dict has in that shape. */
static pq_status count_matches(pq_ctx *ctx, size_t *n_match, const pq_state *s,
                               const pq_damo_net *net)
{
    pq_status st;
    pq_arena *arena = NULL;
    pq_damo_plan plan = {0};
    *n_match = 0;
    PQ_TRY(pq_arena_new(ctx, &arena));
    PQ_TRY(pq_damo_plan_make(ctx, &plan, arena, net));
    for (size_t i = 0; i < plan.n; i++) {
        const pq_damo_module *m = &plan.m[i];
        const bool is_rep = m->kind == PQ_DAMO_REP;
        if (m->kind == PQ_DAMO_POOL) continue;
        const pq_shape want = PQ_SHAPE(m->out, m->in / m->groups, m->kernel, m->kernel);
        const pq_state_entry *e =
            find(s, is_rep ? "%s.rbr_dense.conv.weight" : "%s.weight", m->name);
        if (!e && is_rep) e = find(s, "%s.rbr_reparam.weight", m->name);
        *n_match += e && pq_shape_equal(&e->shape, &want);
    }
out:
    pq_free(plan.m);
    pq_arena_free(arena);
    return st;
}

/* Rows (d 0) or columns (d 1) of a convolution's weight; 0 where there is none. */
static int64_t dim_of(const pq_state_entry *e, int d)
{
    return e && e->shape.rank == 4 ? e->shape.dim[d] : 0;
}

static void derive_stage(pq_damo_net *net, const pq_state *s, int i)
{
    char base[200];
    const bool csp = net->kind == PQ_DAMO_CSP, mob = net->kind == PQ_DAMO_MOB;
    snprintf(base, sizeof base,
             csp ? "backbone.csp_stage.%d.convstem" : "backbone.block_list.%d.block_list", i + 1);
    const pq_state_entry *e = find(s, mob ? "%s.0.conv.0.weight" : "%s.0.conv1.conv1.weight", base);
    net->stage[i].btn = dim_of(e, 0);
    net->block_kernel = dim_of(e, 2);
    if (csp)
        e = find(s, "backbone.csp_stage.%d.downsampler.conv.conv1.weight", i + 1);
    else if (mob)
        e = find(s, "%s.0.conv.7.weight", base);
    else if (!(e = find(s, "%s.0.conv2.rbr_dense.conv.weight", base)))
        e = find(s, "%s.0.conv2.rbr_reparam.weight", base);
    net->stage[i].out = dim_of(e, 0);
    for (int64_t b = 0; b < MAX_BLOCKS; b = ++net->stage[i].blocks)
        if (!has(s, "%s.%d.", base, (int)(csp ? b : pq_damo_block_at(net, i, b)))) break;
}

/* The numbers as the shapes tell them; wrong or zero where keys are missing. */
static void derive(pq_damo_net *net, const pq_state *s, pq_damo_kind kind)
{
    static const int out_of[3] = {5, 7, 6};
    const char *stem = kind == PQ_DAMO_CSP ? "backbone.csp_stage.0" : "backbone.block_list.0";
    *net = (pq_damo_net){.family = "DAMO-YOLO", .kind = kind};
    net->n_stages = kind == PQ_DAMO_CSP ? 4 : 5;
    const pq_state_entry *e = find(s, "%s.conv.conv.weight", stem);
    net->focus = e != NULL;
    if (!e) e = find(s, "%s.conv.conv1.weight", stem);
    net->stem = dim_of(e, 0);
    for (int i = 0; i < net->n_stages; i++) derive_stage(net, s, i);
    for (int i = 0; i < 3; i++)
        net->neck[i] = dim_of(find(s, "neck.merge_%d.conv3.conv.weight", out_of[i]), 0);
    const char *inner = kind == PQ_DAMO_MOB ? "conv.conv.0" : "conv1.conv";
    while (net->neck_blocks < MAX_BLOCKS && has(s, "neck.merge_3.convs.%d.", (int)net->neck_blocks))
        net->neck_blocks++;
    e = find(s, "neck.merge_3.convs.0.%s.weight", inner);
    const int64_t mid = dim_of(e, kind == PQ_DAMO_MOB), hidden = dim_of(e, kind != PQ_DAMO_MOB);
    net->hidden_ratio = mid > 0 ? (double)hidden / (double)mid : 0;
    net->head_kernel = dim_of(find(s, "head.gfl_cls.0.weight"), 2);
    net->classes = median_rows(s, "head.gfl_cls", 0);
    net->reg_max = median_rows(s, "head.gfl_reg", 0) / 4 - 1;
}

static bool sane(const pq_damo_net *net)
{
    const int64_t most = 1 << 16;
    bool ok = net->stem > 0 && net->stem < most && net->classes > 0 && net->classes < most &&
              net->reg_max > 0 && net->reg_max < 1024 && net->hidden_ratio > 0 &&
              net->hidden_ratio < 64 && net->neck_blocks > 0;
    for (int i = 0; i < net->n_stages; i++)
        ok = ok && net->stage[i].out > 1 && net->stage[i].out < most && net->stage[i].btn > 0 &&
             net->stage[i].btn < most && net->stage[i].blocks > 0;
    for (int i = 0; i < 3; i++) ok = ok && net->neck[i] > 1 && net->neck[i] < most;
    return ok && (net->head_kernel == 1 || net->head_kernel == 3);
}

/* "configs/damoyolo_tinynasL25_S.py" is the known net S; a file of another name may mention the
 * structure of one. NULL where nothing is to be learnt. */
static pq_status net_of_config(pq_ctx *ctx, const pq_damo_net **out, const char *config)
{
    pq_buf *b;
    *out = NULL;
    const char *base = pq_path_base(config);
    size_t n = strlen(base);
    if (n > 3 && strcmp(base + n - 3, ".py") == 0) n -= 3;
    for (int i = 0; i < N_NETS; i++)
        if (strlen(nets[i].config) == n && memcmp(nets[i].config, base, n) == 0) {
            *out = &nets[i];
            return PQ_OK;
        }
    if (!pq_file_exists(config) || pq_file_is_dir(config))
        return pq_fail(ctx, PQ_E_INVALID,
                       "config '%s' is neither a file nor a name of DAMO-YOLO's (like '%s')",
                       config, nets[0].config);
    pq_status st = pq_file_map(ctx, &b, config);
    if (st != PQ_OK) return st;
    const char *p = pq_buf_data(b);
    for (int i = 0; i < N_NETS && !*out; i++) {
        const size_t len = strlen(nets[i].structure);
        for (size_t at = 0; at + len <= pq_buf_bytes(b) && !*out; at++)
            if (memcmp(p + at, nets[i].structure, len) == 0) *out = &nets[i];
    }
    pq_buf_unref(b);
    return PQ_OK;
}

static pq_status check_config(pq_ctx *ctx, const pq_damo_net *net, const char *config)
{
    const pq_damo_net *want;
    pq_status st = net_of_config(ctx, &want, config);
    if (st != PQ_OK) return st;
    if (!want)
        pq_log(ctx, PQ_LOG_WARN, "read", "config '%s' names no known structure: not compared",
               config);
    else if (!net->config || strcmp(want->config, net->config) != 0)
        return pq_fail(ctx, PQ_E_INVALID, "config '%s' is %s, the checkpoint is %s%s%s%s", config,
                       want->family, net->config ? net->family : "of another structure",
                       net->config ? " (" : "", net->config ? net->config : "",
                       net->config ? ")" : "");
    return PQ_OK;
}

static pq_status kind_of(pq_ctx *ctx, pq_damo_kind *kind, const pq_state *s)
{
    if (has(s, "backbone.csp_stage."))
        *kind = PQ_DAMO_CSP;
    else if (has(s, "backbone.block_list.1.block_list.0.conv."))
        *kind = PQ_DAMO_MOB;
    else if (has(s, "backbone.block_list."))
        *kind = PQ_DAMO_RES;
    else
        return pq_fail(ctx, PQ_E_UNSUPPORTED,
                       "no DAMO-YOLO: none of the %zu tensors ('%s', …) is called "
                       "'backbone.block_list.…' or 'backbone.csp_stage.…'",
                       pq_state_count(s), pq_state_at(s, 0)->name);
    if (has(s, "head.cls_convs.") || has(s, "head.reg_convs."))
        return pq_fail(
            ctx, PQ_E_UNSUPPORTED,
            "a head with stacked convolutions ('head.cls_convs.…'), expected a ZeroHead");
    return PQ_OK;
}

pq_status pq_damo_recognise(pq_ctx *ctx, pq_damo_net *out, const pq_state *s, const char *config)
{
    pq_damo_kind kind = PQ_DAMO_RES;
    pq_damo_net own;
    size_t best = 0, n;
    pq_status st = kind_of(ctx, &kind, s);
    if (st != PQ_OK) return st;
    *out = (pq_damo_net){0};
    for (int i = 0; i < N_NETS; i++) {
        pq_damo_net net = nets[i];
        if (net.kind != kind) continue;
        net.classes = median_rows(s, "head.gfl_cls", net.classes);
        const int64_t rows = median_rows(s, "head.gfl_reg", 4 * (net.reg_max + 1));
        if (rows >= 8 && rows <= 4096 && rows % 4 == 0) net.reg_max = rows / 4 - 1;
        if ((st = count_matches(ctx, &n, s, &net)) != PQ_OK) return st;
        if (!out->family || n > best) {
            *out = net;
            best = n;
        }
    }
    derive(&own, s, kind); /* even where a known one fits: this one may have more blocks */
    if (sane(&own)) {
        if ((st = count_matches(ctx, &n, s, &own)) != PQ_OK) return st;
        if (n > best) *out = own;
    }
    return config ? check_config(ctx, out, config) : PQ_OK;
}
