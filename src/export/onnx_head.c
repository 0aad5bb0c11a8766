/* Focus and GflDecode written out in ONNX operators. */
#include <string.h>

#include "base/ctx.h"
#include "base/mem.h"
#include "export/onnx_writer.h"

/* Four stride-2 slices and a concat: top-left, bottom-left, top-right, bottom-right. */
pq_status pq_onnx_write_focus(pq_onnx_writer *w, pq_node_id id)
{
    static const char *const what[4] = {"top_left", "bottom_left", "top_right", "bottom_right"};
    pq_status st;
    const pq_node *n = &w->g->node[id];
    const pq_shape *x = &pq_in(w->g, n, 0)->shape;
    const int64_t step[4] = {1, 1, 2, 2};
    const int64_t count[4] = {x->dim[0], x->dim[1], x->dim[2] / 2, x->dim[3] / 2};
    const char *in, *part[4];
    Onnx__NodeProto *concat;
    PQ_TRY(pq_onnx_input(w, &in, id, 0));
    if (w->target == PQ_TARGET_ONNXRUNTIME && w->bind.int8[id] && !w->bind.tensor[n->in[0]])
        PQ_TRY(pq_onnx_pair_of(w, &in, n->name, in, w->bind.tensor[n->out[0]]));
    for (int k = 0; k < 4; k++) {
        const int64_t begin[4] = {0, 0, k & 1, k >> 1};
        PQ_TRY(pq_onnx_value_name(w, &part[k], n->name, what[k]));
        PQ_TRY(pq_onnx_write_slice(w, n->name, what[k], x, begin, step, count, in, part[k]));
    }
    PQ_TRY(pq_onnx_add(w, &concat, "Concat", n->name, NULL, part, 4, &w->name[n->out[0]], 1));
    st = pq_onnx_put_int(w, concat, "axis", 1);
out:
    return st;
}

static pq_status reshape(pq_onnx_writer *w, const char **out, const char *base, const char *what,
                         const char *in, const int64_t *dim, int rank)
{
    const char *to, *inputs[2] = {in, NULL};
    pq_status st;
    PQ_TRY(pq_onnx_ints_init(w, &to, base, "shape", dim, rank));
    inputs[1] = to;
    PQ_TRY(pq_onnx_value_name(w, out, base, what));
    st = pq_onnx_add(w, NULL, "Reshape", base, what, inputs, 2, out, 1);
out:
    return st;
}

static pq_status transpose(pq_onnx_writer *w, const char *base, const char *what, const char *in,
                           const char *out)
{
    static const int64_t perm[3] = {0, 2, 1};
    Onnx__NodeProto *n;
    pq_status st = pq_onnx_add(w, &n, "Transpose", base, what, &in, 1, &out, 1);
    return st == PQ_OK ? pq_onnx_put_ints(w, n, "perm", perm, 3) : st;
}

/* Every level's input of one kind (first input: from) reshaped to dim with its area last, then
 * joined. */
static pq_status join_levels(pq_onnx_writer *w, const char **out, pq_node_id id, int from,
                             const char *what, int64_t *dim, int rank)
{
    pq_status st = PQ_OK;
    const pq_node *n = &w->g->node[id];
    const char *part[8];
    Onnx__NodeProto *concat;
    for (int l = 0; l < n->attr.levels; l++) {
        const pq_shape *s = &pq_in(w->g, n, from + l)->shape;
        const char *in;
        dim[rank - 1] = s->dim[2] * s->dim[3];
        PQ_TRY(pq_onnx_input(w, &in, id, from + l));
        PQ_TRY(reshape(w, &part[l], n->name, what, in, dim, rank));
    }
    PQ_TRY(pq_onnx_value_name(w, out, n->name, what));
    PQ_TRY(pq_onnx_add(w, &concat, "Concat", n->name, what, part, n->attr.levels, out, 1));
    st = pq_onnx_put_int(w, concat, "axis", rank - 1);
out:
    return st;
}

/* Priors [1, A, 4] as x y x y and the signed strides [1, A, 4] that distances are multiplied with.
 */
static pq_status anchor_tables(pq_onnx_writer *w, const char **prior, const char **scale,
                               const pq_node *n, int64_t anchors)
{
    float *p, *s;
    pq_status st;
    int64_t a = 0;
    PQ_TRY(pq_arena_alloc(w->ctx, w->arena, &p, (size_t)anchors, 4 * sizeof *p));
    PQ_TRY(pq_arena_alloc(w->ctx, w->arena, &s, (size_t)anchors, 4 * sizeof *s));
    for (int l = 0; l < n->attr.levels; l++) {
        const pq_shape *map = &pq_in(w->g, n, l)->shape;
        const float stride = (float)n->attr.strides[l];
        for (int64_t i = 0; i < map->dim[2] * map->dim[3]; i++, a++)
            for (int k = 0; k < 4; k++) {
                p[4 * a + k] = stride * (float)(k % 2 ? i / map->dim[3] : i % map->dim[3]);
                s[4 * a + k] = k < 2 ? -stride : stride;
            }
    }
    const pq_shape shape = PQ_SHAPE(1, anchors, 4);
    PQ_TRY(pq_onnx_floats_init(w, prior, n->name, "priors", &shape, p, true));
    st = pq_onnx_floats_init(w, scale, n->name, "strides", &shape, s, true);
out:
    return st;
}

/* scores = sigmoid(cls) as [n, A, C] */
static pq_status write_scores(pq_onnx_writer *w, pq_node_id id)
{
    pq_status st;
    const pq_node *n = &w->g->node[id];
    const pq_shape *s = &pq_out_value(w->g, n, 0)->shape;
    int64_t dim[3] = {s->dim[0], s->dim[2], 0};
    const char *all, *sigmoid;
    PQ_TRY(join_levels(w, &all, id, 0, "cls", dim, 3));
    PQ_TRY(pq_onnx_op(w, &sigmoid, "Sigmoid", n->name, "sigmoid", all, NULL));
    st = transpose(w, n->name, "scores", sigmoid, w->name[n->out[0]]);
out:
    return st;
}

/*
 * boxes = priors + strides * E[bin], E as a product of [1, bins] with the softmax [n, 4, bins, A],
 * which needs no transposition of the large tensor. In an FP16 network it is float32 from E on:
 * float16 has half-pixel steps beyond 512.
 */
static pq_status write_boxes(pq_onnx_writer *w, pq_node_id id)
{
    pq_status st;
    const pq_node *n = &w->g->node[id];
    const pq_shape *s = &pq_out_value(w->g, n, 1)->shape;
    const int bins = n->attr.reg_max + 1;
    int64_t dim[4] = {s->dim[0], 4, bins, 0};
    const int64_t flat[3] = {s->dim[0], 4, s->dim[1]};
    const char *all, *soft, *bin, *mean, *distance, *rows, *prior, *scale, *scaled, *last;
    float *index;
    Onnx__NodeProto *node;
    PQ_TRY(join_levels(w, &all, id, n->attr.levels, "reg", dim, 4));
    PQ_TRY(pq_onnx_value_name(w, &soft, n->name, "softmax"));
    PQ_TRY(pq_onnx_add(w, &node, "Softmax", n->name, "softmax", &all, 1, &soft, 1));
    PQ_TRY(pq_onnx_put_int(w, node, "axis", 2));
    PQ_TRY(pq_arena_alloc(w->ctx, w->arena, &index, (size_t)bins, sizeof *index));
    for (int k = 0; k < bins; k++) index[k] = (float)k;
    PQ_TRY(pq_onnx_floats_init(w, &bin, n->name, "bins", &PQ_SHAPE(1, bins), index, false));
    PQ_TRY(pq_onnx_op(w, &mean, "MatMul", n->name, "expectation", bin, soft));
    PQ_TRY(reshape(w, &distance, n->name, "distances", mean, flat, 3));
    PQ_TRY(pq_onnx_value_name(w, &rows, n->name, "distances_rows"));
    PQ_TRY(transpose(w, n->name, "distances_rows", distance, rows));
    if (w->fp16) PQ_TRY(pq_onnx_cast(w, &rows, rows, PQ_ONNX_F32, n->name, "to_fp32"));
    PQ_TRY(anchor_tables(w, &prior, &scale, n, s->dim[1]));
    PQ_TRY(pq_onnx_op(w, &scaled, "Mul", n->name, "scaled", rows, scale));
    const char *sum[2] = {prior, scaled};
    last = w->name[n->out[1]];
    const bool direct = pq_graph_is_output(w->g, n->out[1]);
    if (w->fp16 && direct) last = w->g->value[n->out[1]].name;
    if (w->fp16 && !direct) PQ_TRY(pq_onnx_value_name(w, &last, n->name, "boxes"));
    PQ_TRY(pq_onnx_add(w, NULL, "Add", n->name, "boxes", sum, 2, &last, 1));
    if (w->fp16 && (!direct || pq_graph_count_readers(w->g, n->out[1]))) {
        PQ_TRY(pq_onnx_add(w, &node, "Cast", n->name, "to_fp16", &last, 1, &w->name[n->out[1]], 1));
        PQ_TRY(pq_onnx_put_int(w, node, "to", PQ_ONNX_F16));
    }
out:
    return st;
}

pq_status pq_onnx_write_gfl_decode(pq_onnx_writer *w, pq_node_id id)
{
    pq_status st = write_scores(w, id);
    return st == PQ_OK ? write_boxes(w, id) : st;
}
