/*
 * Forms that a target runs fast. Each is the same function, number by number:
 *  - ONNX Runtime's integer MaxPool is slow on NCHW (T's three, 20 x 20: 16 ms against 0.4 in
 * float32) and it moves pairs through a MaxPool by itself. Rounding is monotone, so the largest of
 * rounded values is the rounded largest: where the input exists in float anyway, the pool and the
 * Concat behind it run there, and the pair stands behind them.
 *  - A Focus (four strided slices and a Concat) in front of a convolution is a convolution of twice
 *    the size and stride on the image itself: OpenVINO then touches the image once.
 *  - Elsewhere the image is quantized before a Focus, which then moves bytes.
 */
#include <string.h>

#include "export/onnx_writer.h"
#include "plan/names.h"

static bool weighted(const pq_node *n) { return pq_op_is_weighted(n->op) && n->quant_index >= 0; }

/* Same grid, or none in front? */
static bool same_grid(const pq_onnx_writer *w, pq_value_id in, pq_value_id out)
{
    const pq_plan_tensor *a = w->bind.tensor[in], *b = w->bind.tensor[out];
    return b && (!a || (a->dtype == b->dtype && a->zero_point == b->zero_point &&
                        memcmp(&a->scale, &b->scale, sizeof a->scale) == 0));
}

/* Is value v there in float without a conversion? An integer kernel writes what is linear or
 * clamped; behind another activation a convolution ends in float. */
static bool is_float(const pq_onnx_writer *w, pq_value_id v)
{
    const pq_node_id p = w->g->value[v].producer;
    if (p == PQ_NONE) return true;
    const pq_node *n = &w->g->node[p];
    if (!w->bind.int8[p] || w->late[p]) return true;
    return weighted(n) && n->attr.act > PQ_ACT_CLIP;
}

static bool may_be_late(const pq_onnx_writer *w, const pq_node *n, const bool *late)
{
    bool behind_pool = false;
    if (n->op != PQ_OP_MAX_POOL && n->op != PQ_OP_CONCAT) return false;
    for (int k = 0; k < n->n_in; k++) {
        const pq_node_id p = w->g->value[n->in[k]].producer;
        if (!is_float(w, n->in[k]) || !same_grid(w, n->in[k], n->out[0])) return false;
        behind_pool = behind_pool || (p != PQ_NONE && late[p]);
    }
    return n->op == PQ_OP_MAX_POOL || behind_pool;
}

static bool takes_focus(const pq_onnx_writer *w, const pq_node *n)
{
    const pq_graph *g = w->g;
    if (n->op != PQ_OP_CONV || n->quant_index < 0) return false;
    const pq_window *a = &n->attr.window;
    const pq_node_id p = g->value[n->in[0]].producer;
    if (p == PQ_NONE || g->node[p].op != PQ_OP_FOCUS || a->groups != 1) return false;
    for (int i = 0; i < 2; i++)
        if (a->stride[i] != 1 || a->dilation[i] != 1) return false;
    /* One reader each, or the Focus would be needed all the same. What stands before it has a pair
     * of its own only where its grid is the Focus's. */
    return pq_graph_count_readers(g, n->in[0]) == 1 && pq_graph_count_readers(g, n->in[1]) == 1 &&
           !pq_graph_is_output(g, n->in[0]) && !w->bind.tensor[g->node[p].in[0]];
}

void pq_onnx_choose_forms(pq_onnx_writer *w)
{
    for (size_t i = 0; i < w->g->n_nodes; i++) {
        const pq_node *n = &w->g->node[i];
        if (n->dead) continue;
        if (w->target == PQ_TARGET_ONNXRUNTIME && w->bind.int8[i])
            w->late[i] = may_be_late(w, n, w->late);
        if (w->target == PQ_TARGET_OPENVINO && takes_focus(w, n))
            w->folded[w->g->value[n->in[0]].producer] = true;
    }
}

const pq_node *pq_onnx_folded_focus(const pq_onnx_writer *w, pq_node_id id)
{
    const pq_node *n = &w->g->node[id];
    const pq_node_id p = n->op == PQ_OP_CONV ? w->g->value[n->in[0]].producer : PQ_NONE;
    return p != PQ_NONE && w->folded[p] ? &w->g->node[p] : NULL;
}

/* Part k of a Focus holds the pixels at row k mod 2, column k / 2 of each square. */
void pq_onnx_unfold_focus(void *dst, const void *src, const pq_shape *shape, size_t size)
{
    const int64_t channels = shape->dim[1] / 4, kh = shape->dim[2], kw = shape->dim[3];
    const uint8_t *from = src;
    uint8_t *to = dst;
    for (int64_t o = 0; o < shape->dim[0]; o++)
        for (int64_t k = 0; k < 4; k++)
            for (int64_t c = 0; c < channels; c++)
                for (int64_t y = 0; y < kh; y++)
                    for (int64_t x = 0; x < kw; x++, from += size) {
                        const int64_t row = 2 * y + (k & 1), col = 2 * x + (k >> 1);
                        const int64_t at = ((o * channels + c) * 2 * kh + row) * 2 * kw + col;
                        memcpy(to + (size_t)at * size, from, size);
                    }
}

bool pq_onnx_reads_pair(const pq_onnx_writer *w, pq_node_id id, int i)
{
    return pq_reads_quantized(&w->bind, id, i) && !w->late[id];
}
