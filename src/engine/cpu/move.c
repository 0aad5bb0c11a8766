/* Steps that move values without changing them, channels last: Focus, concat, pooling, nearest
 * resizing, reshapes that only rename. */
#include <math.h>
#include <string.h>

#include "engine/cpu/cpu.h"

/* Focus of a float image: quantized or rounded to bfloat16 while it is taken apart. */
pq_status cpu_run_focus(pq_ctx *ctx, cpu_session *s, size_t i)
{
    const pq_step *step = cpu_step_of(s, i);
    const pq_slot *out = cpu_slot_of(s, step->out[0]);
    const pq_shape *in = &cpu_slot_of(s, step->in[0])->shape;
    const int64_t c = in->dim[1], h = in->dim[2], w = in->dim[3];
    const float *x = cpu_data_of(s, step->in[0]);
    void *y = cpu_data_of(s, step->out[0]);
    const size_t row = (size_t)(2 * w * c), plane = (size_t)(h * w);
    (void)ctx;
#pragma omp parallel for num_threads(s->n_threads) schedule(static)
    for (int64_t r = 0; r < in->dim[0] * (h / 2); r++) {
        const float *top = x + r / (h / 2) * c * h * w + r % (h / 2) * 2 * w, *bottom = top + w;
        if (out->form == PQ_FORM_QUANTIZED)
            s->k->focus_row_q8((uint8_t *)y + (size_t)r * row, top, bottom, c, w, plane,
                               cpu_grid(out));
        else if (out->dtype == PQ_BF16)
            s->k->focus_row_bf16((uint16_t *)y + (size_t)r * row, top, bottom, c, w, plane);
        else
            s->k->focus_row((float *)y + (size_t)r * row, top, bottom, c, w, plane);
    }
    return PQ_OK;
}

/* ---- concat ---- */

/* One input's channels of n pixels that lie side by side. */
static void place(const cpu_session *s, uint8_t *dst, size_t pitch, const uint8_t *x,
                  const pq_slot *in, const pq_slot *out, size_t n)
{
    enum { ROOM = 8192 };
    uint8_t room[ROOM];
    const size_t c = (size_t)in->shape.dim[1], e = pq_dtype_size(in->dtype), most = ROOM / c;
    if (in->form != PQ_FORM_QUANTIZED ||
        (in->scale == out->scale && in->zero_point == out->zero_point)) {
        s->k->copy_rows(dst, pitch, x, c * e, n);
        return;
    }
    for (size_t p = 0, m; p < n; p += m) {
        m = most > n - p ? n - p : most ? most : 1;
        uint8_t *to = most ? room : dst + p * pitch;
        s->k->requantize(to, x + p * c, m * c, cpu_grid(in), cpu_grid(out));
        if (most) s->k->copy_rows(dst + p * pitch, pitch, room, c, m);
    }
}

/* Along channels: each pixel takes its inputs' channels in turn. An input may be a whole factor
 * smaller than the output: its pixels are repeated, as the Resize that stood there did. */
pq_status cpu_run_concat(pq_ctx *ctx, cpu_session *s, size_t i)
{
    const pq_step *step = cpu_step_of(s, i);
    const pq_slot *out = cpu_slot_of(s, step->out[0]);
    const int64_t oh = out->shape.dim[2], ow = out->shape.dim[3];
    const size_t e = pq_dtype_size(out->dtype), pitch = (size_t)out->shape.dim[1] * e;
    uint8_t *y = cpu_data_of(s, step->out[0]);
    (void)ctx;
#pragma omp parallel for num_threads(cpu_threads(s, cpu_count_of(out) * e)) schedule(static)
    for (int64_t r = 0; r < out->shape.dim[0] * oh; r++) {
        uint8_t *to = y + (size_t)(r * ow) * pitch;
        for (int k = 0; k < step->n_in; k++) {
            const pq_slot *in = cpu_slot_of(s, step->in[k]);
            const int64_t h = in->shape.dim[2], w = in->shape.dim[3], f = ow / w;
            const size_t pixel = (size_t)in->shape.dim[1] * e;
            const uint8_t *x = cpu_data_of(s, step->in[k]);
            x += (size_t)((r / oh * h + r % oh * h / oh) * w) * pixel;
            for (int64_t j = 0; j < f; j++)
                place(s, to + (size_t)j * pitch, pitch * (size_t)f, x, in, out, (size_t)w);
            to += pixel;
        }
    }
    return PQ_OK;
}

/* Along length (axis 2 of [n, c, l] channels last): whole blocks follow each other. */
pq_status cpu_run_concat_length(pq_ctx *ctx, cpu_session *s, size_t i)
{
    const pq_step *step = cpu_step_of(s, i);
    const pq_slot *out = cpu_slot_of(s, step->out[0]);
    const size_t e = pq_dtype_size(out->dtype), c = (size_t)out->shape.dim[1];
    uint8_t *y = cpu_data_of(s, step->out[0]);
    (void)ctx;
    for (int64_t n = 0; n < out->shape.dim[0]; n++)
        for (int k = 0; k < step->n_in; k++) {
            const size_t bytes = (size_t)cpu_slot_of(s, step->in[k])->shape.dim[2] * c * e;
            cpu_copy(s, y, (const uint8_t *)cpu_data_of(s, step->in[k]) + (size_t)n * bytes, bytes);
            y += bytes;
        }
    return PQ_OK;
}

/* The bytes are right already, under another shape. */
pq_status cpu_run_copy(pq_ctx *ctx, cpu_session *s, size_t i)
{
    const pq_step *step = cpu_step_of(s, i);
    const pq_slot *out = cpu_slot_of(s, step->out[0]);
    (void)ctx;
    if (cpu_data_of(s, step->out[0]) != cpu_data_of(s, step->in[0]))
        cpu_copy(s, cpu_data_of(s, step->out[0]), cpu_data_of(s, step->in[0]),
                 cpu_count_of(out) * pq_dtype_size(out->dtype));
    return PQ_OK;
}

/* ---- pooling ---- */

static void fill_lowest(void *y, pq_dtype t, size_t n)
{
    float *f = y;
    uint16_t *b = y;
    switch (t) {
    case PQ_U8: memset(y, 0, n); break;
    case PQ_S8: memset(y, 0x80, n); break;
    case PQ_BF16:
        for (size_t i = 0; i < n; i++) b[i] = 0xff80;
        break;
    default:
        for (size_t i = 0; i < n; i++) f[i] = -INFINITY;
    }
}

static void raise(const cpu_session *s, pq_dtype t, void *dst, const void *x, size_t n)
{
    switch (t) {
    case PQ_S8: s->k->max_s8(dst, x, n); break;
    case PQ_U8: s->k->max_u8(dst, x, n); break;
    case PQ_BF16: s->k->max_bf16(dst, x, n); break;
    default: s->k->max_f32(dst, x, n);
    }
}

/* The maximum over a window is that over its rows' maxima: first down, then across, whole rows of
 * pixels at a time. column: room for one row [w, c]. */
static void pool_row(const cpu_session *s, const pq_window *v, const pq_shape *in, pq_dtype t,
                     char *y, int64_t oy, int64_t ow, const char *image, char *column)
{
    const int64_t c = in->dim[1], h = in->dim[2], w = in->dim[3];
    const size_t pixel = (size_t)c * pq_dtype_size(t);
    fill_lowest(column, t, (size_t)(w * c));
    fill_lowest(y, t, (size_t)(ow * c));
    for (int64_t k = 0; k < v->kernel[0]; k++) {
        const int64_t iy = oy * v->stride[0] + k * v->dilation[0] - v->pad[0];
        if (iy >= 0 && iy < h)
            raise(s, t, column, image + (size_t)(iy * w) * pixel, (size_t)(w * c));
    }
    for (int64_t k = 0; k < v->kernel[1]; k++) {
        const int64_t shift = k * v->dilation[1] - v->pad[1];
        if (v->stride[1] == 1) {
            const int64_t b = shift < 0 ? -shift : 0, e = w - shift < ow ? w - shift : ow;
            if (b < e)
                raise(s, t, y + (size_t)b * pixel, column + (size_t)(b + shift) * pixel,
                      (size_t)((e - b) * c));
            continue;
        }
        for (int64_t ox = 0; ox < ow; ox++) {
            const int64_t ix = ox * v->stride[1] + shift;
            if (ix >= 0 && ix < w)
                raise(s, t, y + (size_t)ox * pixel, column + (size_t)ix * pixel, (size_t)c);
        }
    }
}

pq_status cpu_run_max_pool(pq_ctx *ctx, cpu_session *s, size_t i)
{
    const pq_step *step = cpu_step_of(s, i);
    const pq_window *v = &cpu_node_of(s, i)->attr.window;
    const pq_slot *in = cpu_slot_of(s, step->in[0]), *out = cpu_slot_of(s, step->out[0]);
    const int64_t oh = out->shape.dim[2], ow = out->shape.dim[3], n = out->shape.dim[0];
    const size_t pixel = (size_t)in->shape.dim[1] * pq_dtype_size(in->dtype),
                 row = (size_t)in->shape.dim[3] * pixel, image = (size_t)in->shape.dim[2] * row;
    const char *x = cpu_data_of(s, step->in[0]);
    char *y = cpu_data_of(s, step->out[0]);
    (void)ctx;
#pragma omp parallel num_threads(s->n_threads)
    {
        char *column = cpu_scratch_of_thread(s, row);
#pragma omp for schedule(static)
        for (int64_t r = 0; r < n * oh; r++)
            pool_row(s, v, &in->shape, in->dtype, y + (size_t)(r * ow) * pixel, r % oh, ow,
                     x + (size_t)(r / oh) * image, column);
    }
    return PQ_OK;
}

/* Nearest by a whole factor: each pixel is repeated. */
pq_status cpu_run_upsample(pq_ctx *ctx, cpu_session *s, size_t i)
{
    const pq_step *step = cpu_step_of(s, i);
    const pq_slot *in = cpu_slot_of(s, step->in[0]), *out = cpu_slot_of(s, step->out[0]);
    const int64_t h = in->shape.dim[2], w = in->shape.dim[3], oh = out->shape.dim[2],
                  ow = out->shape.dim[3], f = ow / w;
    const size_t e = pq_dtype_size(in->dtype), pixel = (size_t)in->shape.dim[1] * e;
    const uint8_t *x = cpu_data_of(s, step->in[0]);
    uint8_t *y = cpu_data_of(s, step->out[0]);
    (void)ctx;
#pragma omp parallel for num_threads(cpu_threads(s, cpu_count_of(out) * e)) schedule(static)
    for (int64_t r = 0; r < out->shape.dim[0] * oh; r++) {
        const uint8_t *row = x + (size_t)((r / oh * h + r % oh * h / oh) * w) * pixel;
        for (int64_t j = 0; j < f; j++)
            s->k->copy_rows(y + (size_t)(r * ow + j) * pixel, pixel * (size_t)f, row, pixel,
                            (size_t)w);
    }
    return PQ_OK;
}
