/* QuantizeLinear and DequantizeLinear: pairs behind activations, weights of INT8 nodes. */
#include <math.h>
#include <string.h>

#include "base/ctx.h"
#include "base/mem.h"
#include "export/onnx_writer.h"

/* In an FP16 network scales are float16; below its smallest number they would vanish. */
static float usable_scale(const pq_onnx_writer *w, float scale)
{
    if (!w->fp16) return scale;
    return fmaxf(pq_f16_to_f32(pq_f32_to_f16(scale)), 0x1p-24f);
}

/* Is constant v the weights of a convolution that takes in a Focus? */
static bool over_focus(const pq_onnx_writer *w, pq_value_id v)
{
    for (size_t i = 0; w->g->value[v].shape.rank == 4 && i < w->g->n_nodes; i++) {
        const pq_node *n = &w->g->node[i];
        if (!n->dead && n->n_in > 1 && n->in[1] == v && pq_onnx_folded_focus(w, (pq_node_id)i))
            return true;
    }
    return false;
}

static pq_shape unfolded(const pq_shape *s)
{
    return PQ_SHAPE(s->dim[0], s->dim[1] / 4, 2 * s->dim[2], 2 * s->dim[3]);
}

pq_status pq_onnx_constant_init(pq_onnx_writer *w, pq_value_id v)
{
    const pq_value *value = &w->g->value[v];
    const void *data = pq_onnx_const_data(w, v);
    const size_t n = (size_t)pq_shape_count(&value->shape);
    if (w->name[v]) return PQ_OK;
    w->name[v] = value->name;
    if (w->fp16 && value->dtype == PQ_F32) {
        uint16_t *half;
        pq_status st = pq_arena_alloc(w->ctx, w->arena, &half, n, sizeof *half);
        if (st != PQ_OK) return st;
        for (size_t i = 0; i < n; i++) half[i] = pq_f32_to_f16(((const float *)data)[i]);
        data = half;
    }
    if (over_focus(w, v)) {
        const size_t size = w->fp16 ? 2 : 4;
        const pq_shape shape = unfolded(&value->shape);
        void *wide;
        pq_status st = pq_arena_alloc(w->ctx, w->arena, &wide, n, size);
        if (st != PQ_OK) return st;
        pq_onnx_unfold_focus(wide, data, &value->shape, size);
        return pq_onnx_init(w, value->name, pq_onnx_type(w, value->dtype), &shape, wide);
    }
    return pq_onnx_init(w, value->name, pq_onnx_type(w, value->dtype), &value->shape, data);
}

static pq_status zero_points(pq_onnx_writer *w, const char **out, const char *base, int type,
                             const pq_shape *shape, int32_t value)
{
    uint8_t *zero;
    const size_t n = (size_t)pq_shape_count(shape);
    pq_status st = pq_arena_alloc(w->ctx, w->arena, &zero, n, 1);
    if (st == PQ_OK) st = pq_onnx_value_name(w, out, base, "zero_point");
    if (st != PQ_OK) return st;
    memset(zero, (uint8_t)value, n);
    return pq_onnx_init(w, *out, type, shape, zero);
}

/* in -> [Q ->] DQ, scales along axis (-1: one scale). */
static pq_status dequantize(pq_onnx_writer *w, const char **out, const char *base, const char *in,
                            bool quantize, const char *scale, const char *zero, int axis)
{
    pq_status st;
    Onnx__NodeProto *n;
    const char *inputs[3] = {in, scale, zero};
    if (quantize) {
        PQ_TRY(pq_onnx_value_name(w, &inputs[0], base, "q"));
        const char *from[3] = {in, scale, zero};
        PQ_TRY(pq_onnx_add(w, &n, "QuantizeLinear", base, "q", from, 3, inputs, 1));
        if (axis >= 0) PQ_TRY(pq_onnx_put_int(w, n, "axis", axis));
    }
    PQ_TRY(pq_onnx_value_name(w, out, base, "dq"));
    PQ_TRY(pq_onnx_add(w, &n, "DequantizeLinear", base, "dq", inputs, 3, out, 1));
    if (axis >= 0) PQ_TRY(pq_onnx_put_int(w, n, "axis", axis));
out:
    return st;
}

pq_status pq_onnx_pair_of(pq_onnx_writer *w, const char **out, const char *base, const char *in,
                          const pq_plan_tensor *t)
{
    pq_status st;
    const char *scale, *zero;
    const float s = usable_scale(w, t->scale);
    const pq_shape scalar = {0, {0}};
    PQ_TRY(pq_onnx_floats_init(w, &scale, base, "scale", &scalar, &s, false));
    /* Q + 128 in 0..255 is the same number. OpenVINO 2026.4's CPU plugin computes signed
     * activations wrongly: AP 0.589 on DAMO-YOLO-T where ONNX Runtime has 0.914; written so it has
     * 0.915. ONNX Runtime leaves signed activations in float. */
    const bool shift = t->dtype == PQ_S8 &&
                       (w->target == PQ_TARGET_OPENVINO || w->target == PQ_TARGET_ONNXRUNTIME);
    PQ_TRY(zero_points(w, &zero, base, t->dtype == PQ_U8 || shift ? PQ_ONNX_U8 : PQ_ONNX_S8,
                       &scalar, shift ? t->zero_point + 128 : t->zero_point));
    st = dequantize(w, out, base, in, true, scale, zero, -1);
out:
    return st;
}

pq_status pq_onnx_pair(pq_onnx_writer *w, pq_value_id v)
{
    return pq_onnx_pair_of(w, &w->dequant[v], w->g->value[v].name, w->name[v], w->bind.tensor[v]);
}

pq_status pq_onnx_int8_weights(pq_onnx_writer *w, const char **out, pq_value_id v, int axis)
{
    pq_status st = PQ_OK;
    const pq_value *value = &w->g->value[v];
    const pq_plan_weight *corrected = w->bind.weight[v];
    const float *data = pq_onnx_const_data(w, v);
    const float *given = corrected ? pq_tensor_data(&corrected->scale) : NULL;
    int8_t *q = NULL, *kept;
    float *scale = NULL;
    const char *scale_name, *zero, *in;
    const size_t n = (size_t)pq_shape_count(&value->shape);
    const int64_t channels = value->shape.dim[axis];
    *out = w->dequant[v];
    if (*out && w->weight_axis[v] == axis + 1) return PQ_OK; /* two nodes share the weights */
    PQ_TRY(pq_plan_quantize_weights(w->ctx, &q, &scale, data, &value->shape, axis, given));
    if (w->fp16) { /* again, with the scales as they will be read */
        float *half;
        PQ_TRY(pq_arena_alloc(w->ctx, w->arena, &half, (size_t)channels, sizeof *half));
        for (int64_t i = 0; i < channels; i++) half[i] = usable_scale(w, scale[i]);
        pq_free(q);
        pq_free(scale);
        PQ_TRY(pq_plan_quantize_weights(w->ctx, &q, &scale, data, &value->shape, axis, half));
    }
    PQ_TRY(pq_onnx_floats_init(w, &scale_name, value->name, "scale", &PQ_SHAPE(channels), scale,
                               false));
    PQ_TRY(zero_points(w, &zero, value->name, PQ_ONNX_S8, &PQ_SHAPE(channels), 0));
    if (w->target == PQ_TARGET_TENSORRT) {
        PQ_TRY(pq_onnx_constant_init(w, v));
        in = w->name[v];
    } else {
        PQ_TRY(pq_arena_alloc(w->ctx, w->arena, &kept, n, 1));
        const bool focus = over_focus(w, v);
        const pq_shape shape = focus ? unfolded(&value->shape) : value->shape;
        if (focus)
            pq_onnx_unfold_focus(kept, q, &value->shape, 1);
        else
            memcpy(kept, q, n);
        PQ_TRY(pq_onnx_value_name(w, &in, value->name, "int8"));
        PQ_TRY(pq_onnx_init(w, in, PQ_ONNX_S8, &shape, kept));
    }
    PQ_TRY(dequantize(w, out, value->name, in, w->target == PQ_TARGET_TENSORRT, scale_name, zero,
                      axis));
    w->dequant[v] = *out;
    w->weight_axis[v] = axis + 1;
out:
    pq_free(q);
    pq_free(scale);
    return st;
}
