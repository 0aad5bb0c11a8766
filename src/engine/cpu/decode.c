/* Decoding of a GFL head, channels last: scores through the sigmoid, boxes from bin expectations.
 */
#include <string.h>

#include "engine/cpu/cpu.h"

enum { ROWS = 64, MOST_ROW = 4 * 64 }; /* anchors a thread takes at a time; bins of one */

typedef struct level {
    float stride, factor; /* factor: what the logits of the bins are multiplied by */
    int64_t w;
    size_t classes;
    int bins;
} level;

static void decode_boxes(const cpu_session *s, const level *v, float *boxes, const float *reg,
                         size_t first, size_t n)
{
    const size_t row = 4 * (size_t)v->bins, most = row <= MOST_ROW ? ROWS : 1;
    float scaled[ROWS * MOST_ROW];
    for (size_t k = 0, m; k < n; k += m) {
        const float *x = reg + k * row;
        m = n - k < most ? n - k : most;
        if (v->factor != 1.0f) {
            s->k->multiply_scalar(scaled, x, v->factor, m * row);
            x = scaled;
        }
        s->k->dfl_boxes(boxes + 4 * k, x, m, v->bins, v->stride, (int64_t)(first + k) % v->w,
                        (int64_t)(first + k) / v->w, v->w);
    }
}

static void decode_rows(const cpu_session *s, const level *v, float *scores, float *boxes,
                        const float *cls, const float *reg, size_t first, size_t n)
{
    s->k->activate(scores, cls, n * v->classes, PQ_ACT_SIGMOID, 0, 0);
    if (s->min_score <= 0) {
        decode_boxes(s, v, boxes, reg, first, n);
        return;
    }
    for (size_t k = 0; k < n; k++) {
        float best = 0;
        for (size_t j = 0; j < v->classes; j++)
            best = scores[k * v->classes + j] > best ? scores[k * v->classes + j] : best;
        if (best > s->min_score)
            decode_boxes(s, v, boxes + 4 * k, reg + 4 * (size_t)v->bins * k, first + k, 1);
        else
            memset(boxes + 4 * k, 0, 4 * sizeof *boxes);
    }
}

pq_status cpu_run_gfl_decode(pq_ctx *ctx, cpu_session *s, size_t i)
{
    const pq_step *step = cpu_step_of(s, i);
    const pq_attr *a = &cpu_node_of(s, i)->attr;
    const pq_shape *os = &cpu_slot_of(s, step->out[0])->shape;
    float *scores = cpu_data_of(s, step->out[0]), *boxes = cpu_data_of(s, step->out[1]);
    const size_t anchors = (size_t)os->dim[1], classes = (size_t)os->dim[2];
    size_t base = 0;
    (void)ctx;
    for (int l = 0; l < a->levels; l++) {
        const pq_slot_id in = step->in[l], bins = step->in[a->levels + l];
        const pq_shape *c = &cpu_slot_of(s, in)->shape, *r = &cpu_slot_of(s, bins)->shape;
        const float *cls = cpu_data_of(s, in), *reg = cpu_data_of(s, bins);
        const level v = {(float)a->strides[l], s->step[i].factor[l], c->dim[3], classes,
                         (int)(r->dim[1] / 4)};
        const size_t area = (size_t)(c->dim[2] * c->dim[3]), blocks = (area + ROWS - 1) / ROWS;
        const size_t n_images = (size_t)c->dim[0], row = (size_t)r->dim[1];
#pragma omp parallel for num_threads(s->n_threads) schedule(static)
        for (size_t k = 0; k < n_images * blocks; k++) {
            const size_t image = k / blocks, begin = k % blocks * ROWS;
            const size_t n = area - begin < ROWS ? area - begin : ROWS;
            const size_t to = image * anchors + base + begin, from = image * area + begin;
            decode_rows(s, &v, scores + to * classes, boxes + to * 4, cls + from * classes,
                        reg + from * row, begin, n);
        }
        base += area;
    }
    return PQ_OK;
}

/* A Mul by one number in front of the bins' logits is done while they are read. */
void cpu_merge_scales(cpu_session *s, size_t i)
{
    pq_program *p = s->stepped.program;
    const pq_step *step = &p->step[i];
    const int levels = p->graph->node[step->node].attr.levels;
    for (int l = 0; l < levels; l++) {
        const size_t j = cpu_sole_producer(s, step->in[levels + l], i);
        s->step[i].factor[l] = 1.0f;
        if (j == SIZE_MAX || p->step[j].convert || s->step[j].run != cpu_run_binary) continue;
        const pq_node *n = &p->graph->node[p->step[j].node];
        const pq_slot *x = cpu_slot_of(s, p->step[j].in[0]), *f = cpu_slot_of(s, p->step[j].in[1]);
        if (n->op != PQ_OP_MUL || n->attr.act != PQ_ACT_NONE || x->dtype != PQ_F32 ||
            x->shape.dim[1] > MOST_ROW || !f->constant || cpu_count_of(f) != 1)
            continue;
        s->step[i].factor[l] = *(const float *)pq_buf_data(p->graph->value[f->value].data);
        cpu_take_over(s, j, i, levels + l, "in pq_gfl_decode");
    }
}
