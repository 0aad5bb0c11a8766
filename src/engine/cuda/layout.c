/* Where values lie. Concatenated maps are written by their producers, slice by slice; conversions
 * and upsamplings become further places of the result that they follow. */
#include <limits.h>
#include <string.h>

#include "engine/cuda/cuda.h"

int cu_whole_factor(const cu_session *s, size_t i)
{
    const pq_step *step = &s->program->step[i];
    if (step->convert) return 0;
    const pq_node *n = cu_node_of(s, i);
    const pq_shape *a = &cu_slot_of(s, step->in[0])->shape;
    const pq_shape *b = &cu_slot_of(s, step->out[0])->shape;
    if (n->op != PQ_OP_RESIZE || n->attr.resize != PQ_RESIZE_NEAREST || a->rank != 4 ||
        a->dim[0] != b->dim[0] || a->dim[1] != b->dim[1] || b->dim[2] % a->dim[2] ||
        b->dim[3] % a->dim[3] || b->dim[2] / a->dim[2] != b->dim[3] / a->dim[3])
        return 0;
    const int factor = (int)(b->dim[2] / a->dim[2]);
    /* Half pixels lie between two: they are repeated only where they are rounded, never to a tie
     * while the factor is whole. */
    const bool rounds = n->attr.nearest == PQ_NEAREST_ROUND_PREFER_FLOOR ||
                        n->attr.nearest == PQ_NEAREST_ROUND_PREFER_CEIL;
    const bool repeats = n->attr.coord == PQ_COORD_ASYMMETRIC
                             ? n->attr.nearest == PQ_NEAREST_FLOOR
                             : n->attr.coord == PQ_COORD_HALF_PIXEL && rounds;
    return repeats && n->attr.scale[0] == (float)factor && n->attr.scale[1] == (float)factor
               ? factor
               : 0;
}

pq_slot_id cu_root_of(const cu_session *s, pq_slot_id id, int *channel)
{
    *channel = 0;
    while (s->slot[id].root != id) {
        *channel += s->slot[id].channel;
        id = s->slot[id].root;
    }
    return id;
}

int cu_pitch(const cu_session *s, pq_slot_id id)
{
    int channel;
    const pq_slot *r = cu_slot_of(s, cu_root_of(s, id, &channel));
    if (r->shape.rank != 4) return cu_channels(r);
    return pq_cu_ceil(cu_channels(r), PQ_CU_PITCH) * PQ_CU_PITCH;
}

uint8_t *cu_data(const cu_session *s, pq_slot_id id)
{
    int channel;
    const pq_slot_id root = cu_root_of(s, id, &channel);
    return s->slot[root].device + (size_t)channel * pq_dtype_size(cu_slot_of(s, root)->dtype);
}

bool cu_vector(const cu_session *s, pq_slot_id id)
{
    int channel;
    cu_root_of(s, id, &channel);
    return channel % 8 == 0 && cu_pitch(s, id) % 8 == 0;
}

bool cu_pads(const cu_session *s, pq_slot_id id)
{
    return s->slot[id].root == id && (s->slot[id].owner >= 0 || s->slot[id].plain) &&
           cu_slot_of(s, id)->shape.rank == 4;
}

/* ---- who writes what ---- */

/* Does the step's kernel store through a list of places? */
static bool stores_list(const cu_session *s, size_t i)
{
    const pq_program *p = s->program;
    const pq_step *step = &p->step[i];
    if (step->convert) return true;
    if (cu_is_weighted(s, i)) return true;
    const pq_slot *x = cu_slot_of(s, step->in[0]);
    const bool plain = s->slot[step->in[0]].plain;
    if (x->constant) return false;
    switch (cu_node_of(s, i)->op) {
    case PQ_OP_FOCUS: return plain;
    case PQ_OP_MAX_POOL:
    case PQ_OP_AVERAGE_POOL: return x->shape.rank == 4;
    case PQ_OP_RESIZE: return cu_whole_factor(s, i) > 0;
    case PQ_OP_RELU:
    case PQ_OP_LEAKY_RELU:
    case PQ_OP_SIGMOID:
    case PQ_OP_SILU:
    case PQ_OP_HARD_SIGMOID:
    case PQ_OP_HARD_SWISH:
    case PQ_OP_TANH:
    case PQ_OP_CLIP: return true;
    case PQ_OP_MUL:
        if (cu_slot_of(s, step->in[1])->constant &&
            pq_shape_count(&cu_slot_of(s, step->in[1])->shape) == 1)
            return true;
        /* fallthrough */
    case PQ_OP_ADD:
    case PQ_OP_SUB:
        return !cu_slot_of(s, step->in[1])->constant &&
               pq_shape_equal(&x->shape, &cu_slot_of(s, step->in[1])->shape);
    default: return false;
    }
}

static bool room_for(const cu_session *s, int owner)
{
    return owner >= 0 && s->step[s->step[owner].leader].n_dest < PQ_CU_DESTS;
}

static void count_dest(cu_session *s, int owner) { s->step[s->step[owner].leader].n_dest++; }

static bool same_grid(const pq_slot *a, const pq_slot *b)
{
    return a->form == PQ_FORM_QUANTIZED && b->form == PQ_FORM_QUANTIZED && a->dtype == b->dtype &&
           memcmp(&a->scale, &b->scale, sizeof a->scale) == 0 && a->zero_point == b->zero_point;
}

/* What a value passes that goes through slot `via` to a slot of form `to`; false: more than a list
 * entry can say. */
static bool chain(const cu_session *s, pq_slot_id via, const pq_slot *to, cu_slot *out)
{
    const cu_slot *c = &s->slot[via];
    const pq_slot *v = cu_slot_of(s, via);
    out->pre = c->pre;
    out->round16 = c->round16;
    out->up = c->up;
    if (v->form == PQ_FORM_QUANTIZED && !same_grid(v, to)) {
        if (c->pre != PQ_NONE) return false;
        out->pre = via;
    } else if (v->dtype == PQ_F16) {
        if (c->pre != PQ_NONE && to->dtype != PQ_F16) return false;
        out->round16 = out->round16 || c->pre == PQ_NONE;
    }
    return true;
}

/* Lets the owner of `from` also make `to`, `factor` times as large. */
static bool absorb(cu_session *s, pq_slot_id from, pq_slot_id to, int factor)
{
    cu_slot t = s->slot[to];
    const int owner = s->slot[from].owner;
    if (!room_for(s, owner) || !chain(s, from, cu_slot_of(s, to), &t)) return false;
    t.owner = owner;
    t.up *= factor;
    s->slot[to] = t;
    count_dest(s, owner);
    return true;
}

static pq_status add_extra(pq_ctx *ctx, cu_session *s, pq_slot_id from, pq_slot_id to, int channel)
{
    if (s->n_extra == s->room_extra) {
        const size_t room = s->room_extra ? 2 * s->room_extra : 32;
        pq_status st = pq_grow(ctx, &s->extra, s->n_extra, room, sizeof *s->extra);
        if (st != PQ_OK) return st;
        s->room_extra = room;
    }
    s->extra[s->n_extra++] = (cu_extra){from, to, channel};
    count_dest(s, s->slot[from].owner);
    return PQ_OK;
}

static size_t readers_of(const cu_session *s, pq_slot_id id)
{
    const pq_program *p = s->program;
    size_t n = p->slot[id].last == (int)p->n_steps;
    for (size_t i = 0; i < p->n_steps; i++) {
        for (int k = 0; k < p->step[i].n_in; k++) n += p->step[i].in[k] == id;
        n += p->step[i].residual == id;
    }
    return n;
}

static int producer_of(const cu_session *s, pq_slot_id id) { return s->program->slot[id].first; }

static bool is_concat(const cu_session *s, size_t i)
{
    const pq_step *step = &s->program->step[i];
    return !step->convert && cu_node_of(s, i)->op == PQ_OP_CONCAT &&
           cu_slot_of(s, step->out[0])->shape.rank == 4 && cu_node_of(s, i)->attr.axis == 1;
}

/* Each input of a concat is written in place, or as one more place of its producer. What neither
 * fits is copied by the concat's own launches. */
static pq_status place_concat(pq_ctx *ctx, cu_session *s, size_t i)
{
    const pq_step *step = &s->program->step[i];
    const pq_slot *out = cu_slot_of(s, step->out[0]);
    int channel = 0;
    bool all = true;
    pq_status st;
    for (int k = 0; k < step->n_in; k++) {
        const pq_slot_id id = step->in[k];
        const pq_slot *x = cu_slot_of(s, id);
        cu_slot *at = &s->slot[id];
        const int from = producer_of(s, id);
        const bool same =
            x->dtype == out->dtype && (x->form != PQ_FORM_QUANTIZED || same_grid(x, out));
        const bool made = !x->constant && !at->plain && from >= 0;
        const bool aligned = channel % PQ_CU_PITCH == 0;
        const bool concat = made && is_concat(s, (size_t)from) && s->step[from].skip;
        if (same && made && at->root == id && (at->owner >= 0 || concat) &&
            x->last != (int)s->program->n_steps &&
            (aligned || (!concat && readers_of(s, id) == 1))) {
            at->root = step->out[0];
            at->channel = channel;
        } else if (made && room_for(s, at->owner)) {
            PQ_TRY(add_extra(ctx, s, id, step->out[0], channel));
        } else
            all = false;
        channel += cu_channels(x);
    }
    st = PQ_OK;
    s->step[i].skip = all;
out:
    return st;
}

/* The concat behind slot `from` in another form as well: each producer stores that form too. */
static pq_status convert_concat(pq_ctx *ctx, bool *done, cu_session *s, pq_slot_id from,
                                pq_slot_id to)
{
    const int i = producer_of(s, from);
    pq_status st = PQ_OK;
    *done = false;
    if (i < 0 || !is_concat(s, (size_t)i) || !s->step[i].skip) return PQ_OK;
    const pq_step *step = &s->program->step[i];
    int channel = 0;
    for (int k = 0; k < step->n_in; k++) {
        cu_slot unused;
        if (!room_for(s, s->slot[step->in[k]].owner) ||
            !chain(s, step->in[k], cu_slot_of(s, to), &unused))
            return PQ_OK;
    }
    for (int k = 0; k < step->n_in; k++) {
        PQ_TRY(add_extra(ctx, s, step->in[k], to, channel));
        channel += cu_channels(cu_slot_of(s, step->in[k]));
    }
    s->slot[to].owner = -1; /* many: nothing else can be hung on one of them */
    *done = true;
out:
    return st;
}

/* ---- convolutions of one input ---- */

static bool same_conv(const cu_session *s, size_t i, size_t j)
{
    const pq_step *a = &s->program->step[i], *b = &s->program->step[j];
    const pq_attr *x = &cu_node_of(s, i)->attr, *y = &cu_node_of(s, j)->attr;
    const pq_window *v = &x->window, *w = &y->window;
    for (int k = 0; k < 4; k++)
        if (v->pad[k] != w->pad[k]) return false;
    for (int k = 0; k < 2; k++)
        if (v->kernel[k] != w->kernel[k] || v->stride[k] != w->stride[k] ||
            v->dilation[k] != w->dilation[k])
            return false;
    return a->in[0] == b->in[0] && a->precision == b->precision && b->residual == PQ_NONE &&
           x->act == y->act && memcmp(&x->alpha, &y->alpha, sizeof x->alpha) == 0 &&
           memcmp(&x->beta, &y->beta, sizeof x->beta) == 0;
}

static void lead(cu_session *s)
{
    const pq_program *p = s->program;
    for (size_t i = 0; i < p->n_steps; i++) {
        int members = 1;
        if (!cu_is_weighted(s, i) || s->step[i].leader != i || p->step[i].residual != PQ_NONE ||
            cu_node_of(s, i)->op != PQ_OP_CONV || !cu_conv_is_dense(s, i))
            continue;
        for (size_t j = i + 1; j < p->n_steps && members < 4; j++)
            if (cu_is_weighted(s, j) && cu_node_of(s, j)->op == PQ_OP_CONV &&
                s->step[j].leader == j && cu_conv_is_dense(s, j) && same_conv(s, i, j)) {
                s->step[j].leader = i;
                s->step[i].n_dest += s->step[j].n_dest;
                members++;
            }
    }
}

bool cu_pool_is_same(const cu_session *s, size_t i)
{
    const pq_step *step = &s->program->step[i];
    const pq_shape *x = &cu_slot_of(s, step->in[0])->shape;
    if (step->convert || cu_node_of(s, i)->op != PQ_OP_MAX_POOL || x->rank != 4) return false;
    const pq_window *w = &cu_node_of(s, i)->attr.window;
    for (int k = 0; k < 2; k++)
        if (w->stride[k] != 1 || w->dilation[k] != 1) return false;
    return pq_shape_equal(x, &cu_slot_of(s, step->out[0])->shape) &&
           x->dim[2] * x->dim[3] * PQ_CU_SPP_BYTES <= PQ_CU_SPP_SMEM;
}

/* Poolings of one input, as SPP has them. */
static void lead_pools(cu_session *s)
{
    const pq_program *p = s->program;
    for (size_t i = 0; i < p->n_steps; i++) {
        int members = 1;
        if (s->step[i].leader != i || !cu_pool_is_same(s, i)) continue;
        for (size_t j = i + 1; j < p->n_steps && members < PQ_CU_WINDOWS; j++)
            if (s->step[j].leader == j && cu_pool_is_same(s, j) &&
                p->step[j].in[0] == p->step[i].in[0]) {
                s->step[j].leader = i;
                s->step[i].n_dest += s->step[j].n_dest;
                members++;
            }
    }
}

/* A Mul by one number in front of the bins' logits is done while they are read. */
static void merge_scales(cu_session *s, size_t i)
{
    pq_program *p = s->program;
    pq_step *step = &p->step[i];
    const int levels = cu_node_of(s, i)->attr.levels;
    for (int l = 0; l < levels; l++) {
        const pq_slot_id id = step->in[levels + l];
        const int j = producer_of(s, id);
        if (j < 0 || p->step[j].convert || readers_of(s, id) != 1) continue;
        const pq_node *n = cu_node_of(s, (size_t)j);
        if (n->op != PQ_OP_MUL || n->attr.act != PQ_ACT_NONE) continue;
        const pq_slot *f = cu_slot_of(s, p->step[j].in[1]);
        if (!f->constant || pq_shape_count(&f->shape) != 1 || f->dtype != PQ_F32 ||
            s->slot[p->step[j].in[0]].plain)
            continue;
        s->step[i].factor[l] = *(const float *)pq_buf_data(p->graph->value[f->value].data);
        s->step[j].skip = true;
        step->in[levels + l] = p->step[j].in[0];
    }
}

/* Focus of a converted image: of the image itself, converted as it is stored. */
static void merge_image(cu_session *s, size_t i)
{
    pq_program *p = s->program;
    pq_step *step = &p->step[i];
    const int j = producer_of(s, step->in[0]);
    const pq_slot *x = cu_slot_of(s, step->in[0]), *y = cu_slot_of(s, step->out[0]);
    if (j < 0 || !p->step[j].convert || !s->slot[p->step[j].in[0]].plain ||
        readers_of(s, step->in[0]) != 1 ||
        !(x->dtype == PQ_F16 ? y->dtype == PQ_F16 : same_grid(x, y)))
        return;
    s->step[j].skip = true;
    s->slot[step->in[0]].owner = -1;
    step->in[0] = p->step[j].in[0];
    s->slot[step->out[0]].owner = (int)i;
    s->step[i].n_dest = 1;
}

static pq_status find_places(pq_ctx *ctx, cu_session *s)
{
    const pq_program *p = s->program;
    pq_status st = PQ_OK;
    for (size_t i = 0; i < p->n_slots; i++) {
        const pq_slot *slot = &p->slot[i];
        s->slot[i] = (cu_slot){.owner = -1, .pre = PQ_NONE, .up = 1, .root = (pq_slot_id)i};
        s->slot[i].plain = slot->first < 0 && !slot->constant;
    }
    for (size_t i = 0; i < p->n_steps; i++) {
        s->step[i].leader = i;
        s->step[i].stem = PQ_NONE;
        for (int l = 0; l < PQ_CU_LEVELS; l++) s->step[i].factor[l] = 1.0f;
        if (!stores_list(s, i)) continue;
        s->slot[p->step[i].out[0]].owner = (int)i;
        s->step[i].n_dest = 1;
    }
    for (size_t i = 0; i < p->n_steps; i++)
        if (!p->step[i].convert && cu_node_of(s, i)->op == PQ_OP_FOCUS) merge_image(s, i);
    lead(s);
    lead_pools(s);
    for (size_t i = 0; i < p->n_steps; i++)
        if (!p->step[i].convert && cu_node_of(s, i)->op == PQ_OP_GFL_DECODE) merge_scales(s, i);
    for (size_t i = 0; i < p->n_steps; i++) {
        const pq_step *step = &p->step[i];
        const int factor = cu_whole_factor(s, i);
        if (is_concat(s, i)) {
            PQ_TRY(place_concat(ctx, s, i));
        } else if (!s->step[i].skip && (step->convert || factor)) {
            bool done = absorb(s, step->in[0], step->out[0], factor ? factor : 1);
            if (!done && step->convert)
                PQ_TRY(convert_concat(ctx, &done, s, step->in[0], step->out[0]));
            s->step[i].skip = done;
        }
    }
out:
    return st;
}

/* ---- lifetimes ---- */

static void find_needed(cu_session *s)
{
    const pq_program *p = s->program;
    for (size_t i = 0; i < p->n_slots; i++)
        s->slot[i].needed = p->slot[i].last == (int)p->n_steps && !p->slot[i].constant;
    for (size_t i = 0; i < p->n_steps; i++) {
        const pq_step *step = &p->step[i];
        if (s->step[i].skip) continue;
        for (int k = 0; k < step->n_in; k++)
            if (step->in[k] != PQ_NONE) s->slot[step->in[k]].needed = true;
        if (step->residual != PQ_NONE) s->slot[step->residual].needed = true;
    }
    for (size_t i = p->n_slots; i-- > 0;) /* slices of what is needed; concats come after parts */
        if (s->slot[i].root != i && s->slot[s->slot[i].root].needed) s->slot[i].needed = true;
}

/* Focus of a plain image, for a 3 x 3 convolution alone, which then makes it for itself. */
static void merge_stem(cu_session *s, size_t i)
{
    pq_program *p = s->program;
    const pq_shape *image = &cu_slot_of(s, p->step[i].in[0])->shape;
    pq_slot_id id = PQ_NONE;
    size_t j = i + 1;
    if (s->step[i].skip || !s->slot[p->step[i].in[0]].plain || image->rank != 4 ||
        image->dim[1] != 3 || image->dim[0] > UINT16_MAX || image->dim[2] > UINT16_MAX)
        return;
    for (size_t k = 0; k < p->n_slots; k++) {
        if (s->slot[k].owner != (int)i || !s->slot[k].needed) continue;
        if (id != PQ_NONE || s->slot[k].root != k || s->slot[k].up != 1) return;
        id = (pq_slot_id)k;
    }
    for (size_t k = 0; k < s->n_extra; k++)
        if (s->slot[s->extra[k].from].owner == (int)i) return;
    if (id == PQ_NONE || readers_of(s, id) != 1) return;
    while (j < p->n_steps && p->step[j].in[0] != id) j++;
    if (j == p->n_steps || !cu_is_weighted(s, j) || cu_node_of(s, j)->op != PQ_OP_CONV ||
        !cu_conv_is_dense(s, j) || cu_slot_of(s, id)->dtype == PQ_F32 ||
        p->step[j].residual != PQ_NONE ||
        cu_channels(cu_slot_of(s, p->step[j].out[0])) > PQ_CU_STEM_CHANNELS)
        return;
    const pq_window *w = &cu_node_of(s, j)->attr.window;
    for (int k = 0; k < 4; k++)
        if (w->pad[k] != 1) return;
    for (int k = 0; k < 2; k++)
        if (w->kernel[k] != 3 || w->stride[k] != 1 || w->dilation[k] != 1) return;
    s->step[i].skip = true;
    s->slot[id].needed = false;
    s->step[j].stem = id;
    p->step[j].in[0] = p->step[i].in[0];
}

/* A slice in a concat that nobody reads may still be read itself: then the concat's bytes exist. */
static void touch(const cu_session *s, int *first, int *last, pq_slot_id id, int from, int to)
{
    int channel;
    const pq_slot_id r = cu_root_of(s, id, &channel);
    if (from < first[r]) first[r] = from;
    if (to > last[r]) last[r] = to;
}

/* By a step, whenever it may run. */
static void touch_by(const cu_session *s, int *first, int *last, pq_slot_id id, size_t step)
{
    const cu_step *x = &s->step[s->step[step].leader];
    touch(s, first, last, id, x->from, x->to);
}

static void find_lives(const cu_session *s, int *first, int *last)
{
    const pq_program *p = s->program;
    const int end = (int)p->n_steps;
    for (size_t i = 0; i < p->n_slots; i++) {
        first[i] = INT_MAX;
        last[i] = -1;
    }
    for (size_t i = 0; i < p->n_slots; i++) {
        const cu_slot *c = &s->slot[i];
        const int made = p->slot[i].first < 0 ? 0 : p->slot[i].first;
        if (!c->needed || p->slot[i].constant) continue;
        if (c->owner >= 0)
            touch_by(s, first, last, (pq_slot_id)i, (size_t)c->owner);
        else
            touch(s, first, last, (pq_slot_id)i, made, made);
        if (p->slot[i].last == end) touch(s, first, last, (pq_slot_id)i, end, end);
    }
    for (size_t i = 0; i < s->n_extra; i++)
        if (s->slot[s->extra[i].to].needed)
            touch_by(s, first, last, s->extra[i].to, (size_t)s->slot[s->extra[i].from].owner);
    for (size_t i = 0; i < p->n_steps; i++) {
        const pq_step *step = &p->step[i];
        if (s->step[i].skip) continue;
        for (int k = 0; k < step->n_in; k++)
            if (step->in[k] != PQ_NONE && !p->slot[step->in[k]].constant)
                touch_by(s, first, last, step->in[k], i);
        if (step->residual != PQ_NONE) touch_by(s, first, last, step->residual, i);
        for (int k = 0; k < step->n_out; k++) /* written by its own launches where not skipped */
            if (s->slot[step->out[k]].owner < 0) {
                s->slot[step->out[k]].needed = true;
                touch_by(s, first, last, step->out[k], i);
            }
    }
}

size_t cu_slot_bytes(const cu_session *s, pq_slot_id id)
{
    const pq_slot *slot = cu_slot_of(s, id);
    const pq_cu_pixels px = cu_pixels(slot);
    return (size_t)px.n * (size_t)px.h * (size_t)px.w * (size_t)cu_pitch(s, id) *
           pq_dtype_size(slot->dtype);
}

pq_status cu_layout(pq_ctx *ctx, cu_session *s, const cu_force *force)
{
    const pq_program *p = s->program;
    size_t *size = NULL, *offset = NULL;
    int *first = NULL, *last = NULL;
    pq_status st;
    PQ_TRY(find_places(ctx, s));
    find_needed(s);
    for (size_t i = 0; i < p->n_steps; i++)
        if (!p->step[i].convert && cu_node_of(s, i)->op == PQ_OP_FOCUS) merge_stem(s, i);
    PQ_TRY(cu_branch(ctx, s));
    PQ_TRY(pq_alloc(ctx, &size, p->n_slots, sizeof *size));
    PQ_TRY(pq_alloc(ctx, &offset, p->n_slots, sizeof *offset));
    PQ_TRY(pq_alloc(ctx, &first, p->n_slots, sizeof *first));
    PQ_TRY(pq_alloc(ctx, &last, p->n_slots, sizeof *last));
    find_lives(s, first, last);
    for (size_t i = 0; i < p->n_slots; i++) {
        if (last[i] < 0) {
            first[i] = 0;
            continue;
        }
        if (force && force->apart) {
            first[i] = 0;
            last[i] = (int)p->n_steps;
        }
        /* CU_SPARE more: eight channels are read at a time, also behind the last pixel's */
        size[i] = (cu_slot_bytes(s, (pq_slot_id)i) + CU_SPARE + 255) / 256 * 256;
    }
    PQ_TRY(pq_memory_plan(ctx, offset, &s->arena_bytes, size, first, last, p->n_slots));
    PQ_TRY(cu_alloc(ctx, &s->arena, s->arena_bytes + CU_SPARE, "feature maps"));
    for (size_t i = 0; i < p->n_slots; i++) s->slot[i].device = s->arena + offset[i];
    s->base.arena_bytes = s->arena_bytes;
out:
    pq_free(size);
    pq_free(offset);
    pq_free(first);
    pq_free(last);
    return st;
}

/* ---- lists of places ---- */

static void fill_dest(const cu_session *s, pq_cu_dest *d, const cu_slot *c, pq_slot_id to,
                      int extra, int first, int n)
{
    const pq_slot *slot = cu_slot_of(s, to);
    const size_t e = pq_dtype_size(slot->dtype);
    int channel;
    cu_root_of(s, to, &channel);
    memset(d, 0, sizeof *d);
    d->data = cu_data(s, to) + (size_t)extra * e;
    d->pitch = cu_pitch(s, to);
    d->up = c->up;
    d->first = first;
    d->last = first + n;
    d->vector = (channel + extra) % 8 == 0 && d->pitch % 8 == 0 && first % 8 == 0;
    d->spare = cu_pads(s, to) && n == cu_channels(slot);
    d->round16 = c->round16;
    if (c->pre != PQ_NONE) {
        d->pre = cu_form(cu_slot_of(s, c->pre));
        d->pre_inv = 1.0f / d->pre.scale;
    }
    d->form = cu_form(slot);
    d->inv = d->form.scale != 0 ? 1.0f / d->form.scale : 0.0f;
}

int cu_dests(const cu_session *s, size_t i, int first, pq_cu_dest dest[PQ_CU_DESTS])
{
    const pq_program *p = s->program;
    const int n = cu_channels(cu_slot_of(s, p->step[i].out[0]));
    int k = 0;
    for (size_t j = 0; j < p->n_slots; j++)
        if (s->slot[j].owner == (int)i && s->slot[j].needed && k < PQ_CU_DESTS)
            fill_dest(s, &dest[k++], &s->slot[j], (pq_slot_id)j, 0, first, n);
    for (size_t j = 0; j < s->n_extra; j++) {
        const cu_extra *x = &s->extra[j];
        cu_slot c = s->slot[x->from];
        if (c.owner != (int)i || !s->slot[x->to].needed || k == PQ_CU_DESTS) continue;
        if (chain(s, x->from, cu_slot_of(s, x->to), &c))
            fill_dest(s, &dest[k++], &c, x->to, x->channel, first, n);
    }
    return k;
}

pq_cu_dest cu_stem_input(const cu_session *s, size_t i)
{
    const pq_slot_id id = s->step[i].stem;
    pq_cu_dest d;
    fill_dest(s, &d, &s->slot[id], id, 0, 0, cu_channels(cu_slot_of(s, id)));
    return d;
}
