/* Steps to launches. What has no kernel of its own runs on the generic strided ones. */
#include <string.h>

#include "engine/cuda/cuda.h"

enum { BLOB_ALIGN = 256 };

pq_status cu_blob_add(pq_ctx *ctx, cu_session *s, size_t *at, size_t n)
{
    *at = (s->blob_bytes + BLOB_ALIGN - 1) / BLOB_ALIGN * BLOB_ALIGN;
    if (*at + n > s->blob_room) {
        const size_t room = *at + n > 2 * s->blob_room ? *at + n : 2 * s->blob_room;
        pq_status st = pq_grow(ctx, &s->blob, s->blob_bytes, room, 1);
        if (st != PQ_OK) return st;
        memset(s->blob + s->blob_bytes, 0, room - s->blob_bytes);
        s->blob_room = room;
    }
    s->blob_bytes = *at + n;
    return PQ_OK;
}

pq_status cu_add_node(pq_ctx *ctx, cu_node **out, cu_session *s, size_t step, const char *impl,
                      const void *kernel, int64_t threads)
{
    if (s->n_nodes == s->room_nodes) {
        const size_t room = s->room_nodes ? 2 * s->room_nodes : 128;
        pq_status st = pq_grow(ctx, &s->node, s->n_nodes, room, sizeof *s->node);
        if (st != PQ_OK) return st;
        s->room_nodes = room;
    }
    cu_node *n = &s->node[s->n_nodes++];
    memset(n, 0, sizeof *n);
    n->kernel = kernel;
    n->step = step;
    n->impl = impl;
    n->kind = n->wait = -1;
    n->weight_at = n->scale_at = n->bias_at = SIZE_MAX;
    n->block = PQ_CU_THREADS;
    n->grid[0] = (unsigned)((threads + PQ_CU_THREADS - 1) / PQ_CU_THREADS);
    n->grid[1] = n->grid[2] = 1;
    *out = n;
    return PQ_OK;
}

/* ---- views ---- */

/* Strides of a slot along its own dimensions. Constants get their place in the blob, as an offset
 * that is made an address when the blob is uploaded (session.c). */
static pq_status view_of(pq_ctx *ctx, pq_cu_view *v, cu_session *s, pq_slot_id id, size_t *blob_at)
{
    const pq_slot *slot = cu_slot_of(s, id);
    const pq_shape *sh = &slot->shape;
    int64_t next = 1;
    memset(v, 0, sizeof *v);
    v->form = cu_form(slot);
    *blob_at = SIZE_MAX;
    for (int d = sh->rank - 1; d >= 0; d--) {
        v->stride[d] = next;
        next *= sh->dim[d];
    }
    if (slot->constant) {
        const pq_buf *data = s->program->graph->value[slot->value].data;
        pq_status st = cu_blob_add(ctx, s, blob_at, pq_buf_bytes(data));
        if (st == PQ_OK) memcpy(s->blob + *blob_at, pq_buf_data(data), pq_buf_bytes(data));
        return st;
    }
    v->data = cu_data(s, id);
    if (s->slot[id].plain) {
        for (size_t k = 0; k < s->base.n_inputs; k++)
            if (s->program->graph->input[k] == slot->value) v->data = (uint8_t *)s->input[k];
    } else if (sh->rank == 4) {
        const int64_t pitch = cu_pitch(s, id);
        v->stride[1] = 1;
        v->stride[3] = pitch;
        v->stride[2] = sh->dim[3] * pitch;
        v->stride[0] = sh->dim[2] * v->stride[2];
    }
    return PQ_OK;
}

/* Strides of v, of shape `from`, along the dimensions of `to` (broadcast where they are 1). */
static void align_view(pq_cu_view *v, const pq_shape *from, const pq_shape *to)
{
    int64_t stride[PQ_CU_RANK] = {0};
    for (int d = 0; d < from->rank; d++) {
        const int at = d + to->rank - from->rank;
        if (at >= 0) stride[at] = from->dim[d] == 1 && to->dim[at] != 1 ? 0 : v->stride[d];
    }
    memcpy(v->stride, stride, sizeof stride);
}

static pq_status add_map(pq_ctx *ctx, cu_node **out, cu_session *s, size_t i, pq_slot_id to,
                         const pq_shape *dim)
{
    size_t unused;
    pq_status st =
        cu_add_node(ctx, out, s, i, "map", pq_cu_kernels_get()->map, pq_shape_count(dim));
    if (st != PQ_OK) return st;
    pq_cu_map *p = &(*out)->p.map;
    p->op = PQ_OP_IDENTITY;
    p->rank = dim->rank;
    p->n_in = 1;
    p->count = pq_shape_count(dim);
    for (int d = 0; d < dim->rank; d++) p->dim[d] = dim->dim[d];
    return view_of(ctx, &p->out, s, to, &unused);
}

/* ---- single operators ---- */

float *cu_staging_of(const cu_session *s, pq_slot_id id)
{
    for (size_t k = 0; k < s->base.n_inputs; k++)
        if (s->program->graph->input[k] == cu_slot_of(s, id)->value) return s->input[k];
    return NULL;
}

static pq_status build_image(pq_ctx *ctx, cu_session *s, size_t i, bool focus)
{
    const pq_step *step = &s->program->step[i];
    const pq_slot *x = cu_slot_of(s, step->in[0]), *y = cu_slot_of(s, step->out[0]);
    const pq_cu_pixels px = cu_pixels(y);
    cu_node *n;
    pq_status st = cu_add_node(ctx, &n, s, i, focus ? "focus" : "image", pq_cu_kernels_get()->image,
                               (int64_t)px.n * px.h * px.w);
    if (st != PQ_OK) return st;
    n->p.image = (pq_cu_image){.x = cu_staging_of(s, step->in[0]),
                               .c = (int)x->shape.dim[1],
                               .h = (int)x->shape.dim[2],
                               .w = (int)x->shape.dim[3],
                               .focus = focus,
                               .out = px};
    n->p.image.n_dest = cu_dests(s, i, 0, n->p.image.dest);
    return PQ_OK;
}

static void rows_operand(const cu_session *s, pq_cu_rows *p, int k, pq_slot_id id)
{
    p->x[k] = cu_data(s, id);
    p->pitch[k] = cu_pitch(s, id);
    p->vector[k] = cu_vector(s, id);
    p->form[k] = cu_form(cu_slot_of(s, id));
    p->up[k] = 1;
}

static pq_status add_rows(pq_ctx *ctx, cu_node **out, cu_session *s, size_t i, const char *impl,
                          pq_slot_id in, const pq_slot *like)
{
    const pq_cu_pixels px = cu_pixels(like);
    const int c = cu_channels(like);
    pq_status st = cu_add_node(ctx, out, s, i, impl, pq_cu_kernels_get()->rows,
                               (int64_t)px.n * px.h * px.w * pq_cu_ceil(c, 8));
    if (st != PQ_OK) return st;
    pq_cu_rows *p = &(*out)->p.rows;
    p->out = px;
    p->c = c;
    p->op = PQ_OP_IDENTITY;
    p->exact = true;
    rows_operand(s, p, 0, in);
    return PQ_OK;
}

static pq_status build_rows(pq_ctx *ctx, cu_session *s, size_t i)
{
    const pq_step *step = &s->program->step[i];
    cu_node *n;
    pq_status st = add_rows(ctx, &n, s, i, "rows", step->in[0], cu_slot_of(s, step->out[0]));
    if (st != PQ_OK) return st;
    pq_cu_rows *p = &n->p.rows;
    p->n_dest = cu_dests(s, i, 0, p->dest);
    if (step->convert) return PQ_OK;
    const pq_node *node = cu_node_of(s, i);
    p->exact = step->precision != PQ_PREC_FP16;
    if (node->op == PQ_OP_RESIZE) {
        p->up[0] = cu_whole_factor(s, i);
        return PQ_OK;
    }
    p->op = (int)node->op;
    p->alpha = node->attr.alpha;
    p->beta = node->attr.beta;
    p->act = (pq_cu_act){(int)node->attr.act, node->attr.alpha, node->attr.beta};
    if (step->n_in < 2 || step->in[1] == PQ_NONE || node->op == PQ_OP_CLIP) return PQ_OK;
    const pq_slot *b = cu_slot_of(s, step->in[1]);
    if (b->constant)
        p->factor = *(const float *)pq_buf_data(s->program->graph->value[b->value].data);
    else
        rows_operand(s, p, 1, step->in[1]);
    return PQ_OK;
}

static pq_status build_pool(pq_ctx *ctx, cu_session *s, size_t i)
{
    const pq_step *step = &s->program->step[i];
    const pq_window *w = &cu_node_of(s, i)->attr.window;
    const pq_slot *x = cu_slot_of(s, step->in[0]);
    const pq_cu_pixels px = cu_pixels(cu_slot_of(s, step->out[0]));
    const int c = cu_channels(x);
    cu_node *n;
    pq_status st = cu_add_node(ctx, &n, s, i, "pool", pq_cu_kernels_get()->pool,
                               (int64_t)px.n * px.h * px.w * pq_cu_ceil(c, 8));
    if (st != PQ_OK) return st;
    n->p.pool = (pq_cu_pool){.x = cu_data(s, step->in[0]),
                             .pitch = cu_pitch(s, step->in[0]),
                             .h = (int)x->shape.dim[2],
                             .w = (int)x->shape.dim[3],
                             .c = c,
                             .form = cu_form(x),
                             .kh = (int)w->kernel[0],
                             .kw = (int)w->kernel[1],
                             .sh = (int)w->stride[0],
                             .sw = (int)w->stride[1],
                             .dh = (int)w->dilation[0],
                             .dw = (int)w->dilation[1],
                             .ph = (int)w->pad[0],
                             .pw = (int)w->pad[1],
                             .vector = cu_vector(s, step->in[0]),
                             .average = cu_node_of(s, i)->op == PQ_OP_AVERAGE_POOL,
                             .count_pad = w->count_include_pad,
                             .h_padded = (int)(x->shape.dim[2] + w->pad[2]),
                             .w_padded = (int)(x->shape.dim[3] + w->pad[3]),
                             .out = px};
    n->p.pool.n_dest = cu_dests(s, i, 0, n->p.pool.dest);
    return PQ_OK;
}

static pq_status build_spp(pq_ctx *ctx, cu_session *s, size_t i)
{
    const pq_program *p = s->program;
    const pq_slot_id in = p->step[i].in[0];
    const pq_slot *x = cu_slot_of(s, in);
    cu_node *n;
    unsigned windows = 0;
    int dests = 0;
    pq_status st = cu_add_node(ctx, &n, s, i, "spp", pq_cu_kernels_get()->spp, 1);
    if (st != PQ_OK) return st;
    pq_cu_spp *v = &n->p.spp;
    *v = (pq_cu_spp){.x = cu_data(s, in),
                     .pitch = cu_pitch(s, in),
                     .h = (int)x->shape.dim[2],
                     .w = (int)x->shape.dim[3],
                     .c = cu_channels(x),
                     .form = cu_form(x),
                     .vector = cu_vector(s, in),
                     .out = cu_pixels(x)};
    for (size_t j = i; j < p->n_steps; j++) {
        if (s->step[j].leader != i) continue;
        const pq_window *w = &cu_node_of(s, j)->attr.window;
        v->window[windows].kh = (int)w->kernel[0], v->window[windows].kw = (int)w->kernel[1];
        v->window[windows].ph = (int)w->pad[0], v->window[windows].pw = (int)w->pad[1];
        v->window[windows].first_dest = dests;
        v->window[windows].n_dest = cu_dests(s, j, 0, v->dest + dests);
        dests += v->window[windows++].n_dest;
    }
    n->block = PQ_CU_SPP_THREADS;
    n->grid[0] = (unsigned)(v->out.n * pq_cu_ceil(v->c, 8));
    n->grid[1] = windows;
    n->smem = (unsigned)(v->h * v->w * PQ_CU_SPP_BYTES);
    return PQ_OK;
}

static pq_status build_decode(pq_ctx *ctx, cu_session *s, size_t i)
{
    const pq_step *step = &s->program->step[i];
    const pq_attr *a = &cu_node_of(s, i)->attr;
    const pq_shape *os = &cu_slot_of(s, step->out[0])->shape;
    cu_node *n;
    int first = 0;
    const int64_t anchors = os->dim[0] * os->dim[1],
                  scores = anchors * pq_cu_ceil((int)os->dim[2], 8);
    pq_status st = cu_add_node(ctx, &n, s, i, "decode", pq_cu_kernels_get()->decode, scores);
    if (st != PQ_OK) return st;
    pq_cu_decode *p = &n->p.decode;
    p->score_blocks = (int)n->grid[0];
    n->grid[0] += (unsigned)((16 * anchors + PQ_CU_THREADS - 1) / PQ_CU_THREADS);
    p->levels = a->levels;
    p->classes = (int)os->dim[2];
    p->bins = a->reg_max + 1;
    p->anchors = (int)os->dim[1];
    p->n = (int)os->dim[0];
    p->scores = (float *)(void *)cu_data(s, step->out[0]);
    p->boxes = (float *)(void *)cu_data(s, step->out[1]);
    for (int l = 0; l < a->levels; l++) {
        const pq_slot_id cls = step->in[l], reg = step->in[a->levels + l];
        const pq_shape *c = &cu_slot_of(s, cls)->shape;
        p->level[l] = (pq_cu_level){.cls = cu_data(s, cls),
                                    .reg = cu_data(s, reg),
                                    .cls_pitch = cu_pitch(s, cls),
                                    .reg_pitch = cu_pitch(s, reg),
                                    .h = (int)c->dim[2],
                                    .w = (int)c->dim[3],
                                    .cls_form = cu_form(cu_slot_of(s, cls)),
                                    .cls_vector = cu_vector(s, cls),
                                    .reg_form = cu_form(cu_slot_of(s, reg)),
                                    .factor = s->step[i].factor[l],
                                    .stride = (float)a->strides[l],
                                    .first = first};
        first += (int)(c->dim[2] * c->dim[3]);
    }
    return PQ_OK;
}

/* ---- generic ---- */

/* Elementwise with broadcasting, and whatever gives each input element one place. */
static pq_status build_map(pq_ctx *ctx, cu_session *s, size_t i)
{
    const pq_step *step = &s->program->step[i];
    const pq_node *node = cu_node_of(s, i);
    const pq_shape *to = &cu_slot_of(s, step->out[0])->shape;
    const pq_shape *from = &cu_slot_of(s, step->in[0])->shape;
    cu_node *n;
    pq_status st;
    PQ_TRY(add_map(ctx, &n, s, i, step->out[0], to));
    pq_cu_map *p = &n->p.map;
    PQ_TRY(view_of(ctx, &p->in[0], s, step->in[0], &n->weight_at));
    switch (node->op) {
    case PQ_OP_TRANSPOSE: {
        pq_cu_view v = p->in[0];
        for (int d = 0; d < to->rank; d++) p->in[0].stride[d] = v.stride[node->attr.perm[d]];
        break;
    }
    case PQ_OP_SLICE:
        for (int d = 0; d < to->rank; d++) {
            p->in[0].data += node->attr.begin[d] * p->in[0].stride[d] *
                             (int64_t)pq_dtype_size((pq_dtype)p->in[0].form.dtype);
            p->in[0].stride[d] *= node->attr.step[d];
        }
        break;
    case PQ_OP_RESHAPE:
    case PQ_OP_FLATTEN:
    case PQ_OP_SQUEEZE:
    case PQ_OP_UNSQUEEZE:
        p->reshape = true;
        p->in_rank = from->rank;
        for (int d = 0; d < from->rank; d++) p->in_dim[d] = from->dim[d];
        break;
    case PQ_OP_IDENTITY:
    case PQ_OP_CAST: break;
    case PQ_OP_EXPAND: align_view(&p->in[0], from, to); break;
    default:
        align_view(&p->in[0], from, to);
        p->op = (int)node->op;
        p->alpha = node->attr.alpha;
        p->beta = node->attr.beta;
        p->fmod = node->attr.fmod;
        if (node->op == PQ_OP_ADD)
            p->act = (pq_cu_act){(int)node->attr.act, node->attr.alpha, node->attr.beta};
        if (step->n_in < 2 || step->in[1] == PQ_NONE || node->op == PQ_OP_CLIP) break;
        p->n_in = 2;
        PQ_TRY(view_of(ctx, &p->in[1], s, step->in[1], &n->bias_at));
        align_view(&p->in[1], &cu_slot_of(s, step->in[1])->shape, to);
    }
out:
    return st;
}

/* A box of `dim` elements from one view to another, both moved by a number of elements. */
static pq_status copy_box(pq_ctx *ctx, cu_session *s, size_t i, pq_slot_id from, pq_slot_id to,
                          const pq_shape *dim, int64_t from_at, int64_t to_at, int64_t stretch)
{
    cu_node *n;
    pq_status st;
    PQ_TRY(add_map(ctx, &n, s, i, to, dim));
    pq_cu_map *p = &n->p.map;
    PQ_TRY(view_of(ctx, &p->in[0], s, from, &n->weight_at));
    p->in[0].data += from_at * (int64_t)pq_dtype_size((pq_dtype)p->in[0].form.dtype);
    p->out.data += to_at * (int64_t)pq_dtype_size((pq_dtype)p->out.form.dtype);
    if (stretch > 1) {
        p->in[0].stride[2] *= stretch;
        p->in[0].stride[3] *= stretch;
    }
out:
    return st;
}

/* Concat, Split and Focus of what is no image: a copy for each part. */
static pq_status build_parts(pq_ctx *ctx, cu_session *s, size_t i)
{
    const pq_step *step = &s->program->step[i];
    const pq_node *node = cu_node_of(s, i);
    const bool split = node->op == PQ_OP_SPLIT, focus = node->op == PQ_OP_FOCUS;
    const pq_slot_id whole = split ? step->in[0] : step->out[0];
    const int axis = focus ? 1 : (int)node->attr.axis;
    pq_cu_view v, x;
    size_t unused;
    int64_t at = 0;
    pq_status st;
    PQ_TRY(view_of(ctx, &v, s, whole, &unused));
    for (int k = 0; k < (focus ? 4 : split ? step->n_out : step->n_in); k++) {
        const pq_slot_id part = focus ? step->in[0] : split ? step->out[k] : step->in[k];
        pq_shape dim = cu_slot_of(s, part)->shape;
        const bool in_place = !split && !focus && s->slot[part].root == whole;
        bool placed = in_place;
        for (size_t j = 0; !split && !focus && j < s->n_extra; j++)
            placed = placed || (s->extra[j].from == part && s->extra[j].to == whole &&
                                s->extra[j].channel == at);
        if (focus) {
            PQ_TRY(view_of(ctx, &x, s, part, &unused));
            dim.dim[2] /= 2;
            dim.dim[3] /= 2;
            PQ_TRY(copy_box(ctx, s, i, part, whole, &dim, k % 2 * x.stride[2] + k / 2 * x.stride[3],
                            at * v.stride[1], 2));
        } else if (!placed)
            PQ_TRY(copy_box(ctx, s, i, split ? whole : part, split ? part : whole, &dim,
                            split ? at * v.stride[axis] : 0, split ? 0 : at * v.stride[axis], 1));
        at += dim.dim[axis];
    }
out:
    return st;
}

static pq_status build_reduce(pq_ctx *ctx, cu_session *s, size_t i)
{
    const pq_step *step = &s->program->step[i];
    const pq_node *node = cu_node_of(s, i);
    const pq_shape *from = &cu_slot_of(s, step->in[0])->shape;
    const pq_shape *to = &cu_slot_of(s, step->out[0])->shape;
    bool reduced[PQ_CU_RANK] = {false};
    int64_t count = 1;
    size_t unused;
    cu_node *n;
    pq_cu_view y;
    pq_status st;
    const bool softmax = node->op == PQ_OP_SOFTMAX || node->op == PQ_OP_LOG_SOFTMAX;
    if (softmax)
        reduced[node->attr.axis] = true;
    else if (node->op == PQ_OP_GLOBAL_AVERAGE_POOL)
        for (int d = 2; d < from->rank; d++) reduced[d] = true;
    else
        for (int d = 0; d < node->attr.n_axes; d++) reduced[node->attr.axes[d]] = true;
    for (int d = 0; d < from->rank; d++) count *= reduced[d] ? 1 : from->dim[d];
    PQ_TRY(cu_add_node(ctx, &n, s, i, "reduce", pq_cu_kernels_get()->reduce, count));
    pq_cu_reduce *p = &n->p.reduce;
    p->op = (int)node->op;
    p->rank = from->rank;
    p->count = count;
    memcpy(p->reduced, reduced, sizeof reduced);
    for (int d = 0; d < from->rank; d++) p->dim[d] = from->dim[d];
    PQ_TRY(view_of(ctx, &p->in, s, step->in[0], &n->weight_at));
    PQ_TRY(view_of(ctx, &y, s, step->out[0], &unused));
    p->out = y;
    for (int d = 0, k = 0; d < from->rank; d++) {
        const bool gone = reduced[d] && to->rank != from->rank;
        p->out.stride[d] = gone || (reduced[d] && !softmax) ? 0 : y.stride[k];
        k += !gone;
    }
out:
    return st;
}

static pq_status build_resize(pq_ctx *ctx, cu_session *s, size_t i)
{
    const pq_step *step = &s->program->step[i];
    const pq_attr *a = &cu_node_of(s, i)->attr;
    const pq_shape *x = &cu_slot_of(s, step->in[0])->shape,
                   *y = &cu_slot_of(s, step->out[0])->shape;
    cu_node *n;
    size_t unused;
    pq_status st;
    PQ_TRY(cu_add_node(ctx, &n, s, i, "resize", pq_cu_kernels_get()->resize, pq_shape_count(y)));
    pq_cu_resize *p = &n->p.resize;
    p->n = x->dim[0], p->c = x->dim[1], p->h = x->dim[2], p->w = x->dim[3];
    p->oh = y->dim[2], p->ow = y->dim[3];
    p->resize = (int)a->resize, p->coord = (int)a->coord, p->nearest = (int)a->nearest;
    memcpy(p->scale, a->scale, sizeof p->scale);
    PQ_TRY(view_of(ctx, &p->in, s, step->in[0], &unused));
    PQ_TRY(view_of(ctx, &p->out, s, step->out[0], &unused));
out:
    return st;
}

/* ---- all ---- */

static pq_status build_step(pq_ctx *ctx, cu_session *s, size_t i)
{
    const pq_step *step = &s->program->step[i];
    const bool listed = s->slot[step->out[0]].owner == (int)i;
    if (step->convert)
        return s->slot[step->in[0]].plain && cu_slot_of(s, step->in[0])->shape.rank == 4
                   ? build_image(ctx, s, i, false)
                   : build_rows(ctx, s, i);
    const pq_op op = cu_node_of(s, i)->op;
    if (cu_is_weighted(s, i)) return cu_build_conv(ctx, s, i);
    switch (op) {
    case PQ_OP_FOCUS: return listed ? build_image(ctx, s, i, true) : build_parts(ctx, s, i);
    case PQ_OP_CONCAT:
    case PQ_OP_SPLIT: return build_parts(ctx, s, i);
    case PQ_OP_MAX_POOL:
    case PQ_OP_AVERAGE_POOL:
        return cu_pool_is_same(s, i) && listed ? build_spp(ctx, s, i) : build_pool(ctx, s, i);
    case PQ_OP_GFL_DECODE: return build_decode(ctx, s, i);
    case PQ_OP_SOFTMAX:
    case PQ_OP_LOG_SOFTMAX:
    case PQ_OP_REDUCE_SUM:
    case PQ_OP_REDUCE_MEAN:
    case PQ_OP_REDUCE_MAX:
    case PQ_OP_REDUCE_MIN:
    case PQ_OP_REDUCE_PROD:
    case PQ_OP_GLOBAL_AVERAGE_POOL: return build_reduce(ctx, s, i);
    case PQ_OP_RESIZE: return listed ? build_rows(ctx, s, i) : build_resize(ctx, s, i);
    default: return listed ? build_rows(ctx, s, i) : build_map(ctx, s, i);
    }
}

/* Images that others than Focus read are brought into NHWC first. */
static pq_status build_input(pq_ctx *ctx, cu_session *s, pq_slot_id id)
{
    const pq_program *p = s->program;
    const pq_slot *slot = cu_slot_of(s, id);
    bool wanted = false;
    size_t by = 0;
    cu_node *n;
    pq_status st = PQ_OK;
    for (size_t i = 0; i < p->n_steps && !wanted; i++) {
        const pq_step *step = &p->step[i];
        bool reads = step->residual == id;
        for (int k = 0; k < step->n_in; k++) reads = reads || step->in[k] == id;
        if (!reads || s->step[i].skip) continue;
        if (s->step[i].stem != PQ_NONE || (step->convert && slot->shape.rank == 4)) continue;
        if (!step->convert && cu_node_of(s, i)->op == PQ_OP_FOCUS) continue;
        wanted = true;
        by = i;
    }
    if (!wanted) return PQ_OK;
    if (slot->shape.rank != 4) { /* stored as it comes */
        for (size_t k = 0; k < s->base.n_inputs; k++)
            if (p->graph->input[k] == slot->value) s->slot[id].device = (uint8_t *)s->input[k];
        return PQ_OK;
    }
    const pq_cu_pixels px = cu_pixels(slot);
    PQ_TRY(cu_add_node(ctx, &n, s, by, "image", pq_cu_kernels_get()->image,
                       (int64_t)px.n * px.h * px.w));
    n->p.image = (pq_cu_image){.x = cu_staging_of(s, id),
                               .c = (int)slot->shape.dim[1],
                               .h = px.h,
                               .w = px.w,
                               .out = px,
                               .n_dest = 1};
    n->p.image.dest[0] = (pq_cu_dest){.data = cu_data(s, id),
                                      .pitch = cu_pitch(s, id),
                                      .up = 1,
                                      .last = n->p.image.c,
                                      .vector = true,
                                      .spare = true,
                                      .form = cu_form(slot)};
out:
    return st;
}

/* Outputs that are not stored as they are given out. */
static pq_status build_outputs(pq_ctx *ctx, cu_session *s)
{
    const pq_program *p = s->program;
    pq_status st = PQ_OK;
    for (size_t k = 0; k < s->base.n_outputs; k++) {
        const pq_shape *shape = &s->base.output_shape[k];
        pq_slot_id id = PQ_NONE;
        cu_node *n;
        for (size_t i = 0; i < p->n_slots; i++)
            if (p->slot[i].value == p->graph->output[k] && p->slot[i].form == PQ_FORM_REAL &&
                p->slot[i].dtype == PQ_F32)
                id = (pq_slot_id)i;
        PQ_ASSERT(ctx, id != PQ_NONE);
        s->output_slot[k] = id;
        if (shape->rank != 4 && s->slot[id].root == id && !s->slot[id].plain &&
            !p->slot[id].constant)
            continue;
        PQ_TRY(cu_alloc(ctx, &s->output[k], (size_t)pq_shape_count(shape) * sizeof(float) + 1,
                        "an output"));
        PQ_TRY(add_map(ctx, &n, s, p->n_steps ? p->n_steps - 1 : 0, id, shape));
        pq_cu_map *m = &n->p.map;
        PQ_TRY(view_of(ctx, &m->in[0], s, id, &n->weight_at));
        m->out.form = (pq_cu_form){PQ_F32, 0, 0};
        m->out.data = (uint8_t *)s->output[k];
        int64_t next = 1;
        for (int d = shape->rank - 1; d >= 0; d--) {
            m->out.stride[d] = next;
            next *= shape->dim[d];
        }
    }
out:
    return st;
}

/* The nodes of step i, from `before` on: the first waits for the last of the step that i waits for.
 */
static void put_on_branch(cu_session *s, size_t i, size_t before)
{
    const cu_step *x = &s->step[i];
    for (size_t k = before; k < s->n_nodes; k++) s->node[k].side = x->side;
    if (before < s->n_nodes) s->node[before].wait = x->wait;
}

/* Of waiting for a step: for its last node. */
static void wait_for_nodes(cu_session *s)
{
    for (size_t i = 0; i < s->n_nodes; i++) {
        const int step = s->node[i].wait;
        for (size_t k = 0; k < s->n_nodes && step >= 0; k++)
            if (s->node[k].step == (size_t)step && s->node[k].side != s->node[i].side)
                s->node[i].wait = (int)k;
    }
}

/* Room for the weights as they will be stored, about: growing it step by step would copy them. */
static size_t expected_bytes(const cu_session *s)
{
    const pq_program *p = s->program;
    size_t n = 1 << 16;
    for (size_t i = 0; i < p->n_steps; i++) {
        if (!cu_is_weighted(s, i)) continue;
        const int64_t count = pq_shape_count(&pq_in(p->graph, cu_node_of(s, i), 1)->shape);
        const size_t each = p->step[i].precision == PQ_PREC_INT8   ? 1
                            : p->step[i].precision == PQ_PREC_FP16 ? 2
                                                                   : 4;
        n += (count > 0 ? (size_t)count : 0) * each * 9 / 8 + BLOB_ALIGN;
    }
    return n;
}

pq_status cu_build(pq_ctx *ctx, cu_session *s)
{
    const pq_program *p = s->program;
    pq_status st;
    s->blob_room = expected_bytes(s);
    PQ_TRY(pq_alloc(ctx, &s->blob, s->blob_room, 1));
    for (size_t i = 0; i < p->n_slots; i++)
        if (s->slot[i].plain) PQ_TRY(build_input(ctx, s, (pq_slot_id)i));
    for (size_t i = 0; i < p->n_steps; i++) {
        const size_t before = s->n_nodes;
        if (s->step[i].skip || s->step[i].leader != i) continue;
        PQ_TRY(pq_prefix(ctx, build_step(ctx, s, i), "step %zu", i));
        put_on_branch(s, i, before);
    }
    PQ_TRY(build_outputs(ctx, s));
    wait_for_nodes(s);
out:
    return st;
}
