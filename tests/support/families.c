/* Small graphs of the detector families. */
#include "support/families.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "support/small.h"

enum { C = FAMILY_CLASSES, BINS = 16, NANO_BINS = 8, PLACES = 84, WIDTH = 16, TOP = 20 };

typedef struct builder {
    pq_small s;
    family f;
    int made; /* constants and helpers, for their names */
} builder;

static const char *fresh(builder *b, const char *what, char text[48])
{
    snprintf(text, 48, "%s_%d", what, b->made++);
    return text;
}

static pq_value_id constant(builder *b, pq_dtype dtype, pq_shape shape, const void *data)
{
    char name[48];
    return pq_small_values(&b->s, fresh(b, "const", name), dtype, shape, data);
}

#define INTS(b, ...)                                                                               \
    constant((b), PQ_S64, PQ_SHAPE((int64_t)(sizeof((int64_t[]){__VA_ARGS__}) / 8)),               \
             (const int64_t[]){__VA_ARGS__})

static pq_value_id number(builder *b, float v) { return constant(b, PQ_F32, PQ_SHAPE(1), &v); }

static pq_value_id node(builder *b, pq_op op, const pq_value_id *in, int n, const pq_attr *attr)
{
    char name[48];
    return pq_small_node(&b->s, fresh(b, pq_op_name(op), name), op, in, n, attr);
}
static pq_value_id one(builder *b, pq_op op, pq_value_id x) { return node(b, op, &x, 1, NULL); }
static pq_value_id two(builder *b, pq_op op, pq_value_id x, pq_value_id y)
{
    return node(b, op, (pq_value_id[]){x, y}, 2, NULL);
}
static pq_value_id concat(builder *b, const pq_value_id *in, int n, int64_t axis)
{
    return node(b, PQ_OP_CONCAT, in, n, &(pq_attr){.axis = axis});
}
static pq_value_id slice(builder *b, pq_value_id x, int64_t axis, int64_t from, int64_t to)
{
    const pq_value_id in[4] = {x, INTS(b, from), INTS(b, to), INTS(b, axis)};
    return node(b, PQ_OP_SLICE, in, 4, NULL);
}

/* He's range, so that values neither grow nor vanish with depth. */
static pq_value_id conv(builder *b, pq_value_id x, int64_t in, int64_t out, int64_t kernel,
                        int64_t stride, int64_t groups, double gain)
{
    char name[48], text[64];
    const double reach = gain * sqrt(6.0 / (double)(in / groups * kernel * kernel));
    pq_attr a = {.window.groups = groups};
    for (int i = 0; i < 2; i++) {
        a.window.kernel[i] = kernel;
        a.window.stride[i] = stride;
        a.window.dilation[i] = 1;
        a.window.pad[i] = a.window.pad[i + 2] = kernel / 2;
    }
    fresh(b, "conv", name);
    snprintf(text, sizeof text, "%s.weight", name);
    const pq_value_id w =
        pq_small_const(&b->s, text, PQ_SHAPE(out, in / groups, kernel, kernel), -reach, reach);
    snprintf(text, sizeof text, "%s.bias", name);
    const pq_value_id bias = pq_small_const(&b->s, text, PQ_SHAPE(out), -0.2 * gain, 0.2 * gain);
    return pq_small_node(&b->s, name, PQ_OP_CONV, (pq_value_id[]){x, w, bias}, 3, &a);
}

static pq_value_id activate(builder *b, pq_value_id x)
{
    float slope[WIDTH];
    switch (b->f) {
    case FAMILY_YOLOV6: return one(b, PQ_OP_RELU, x);
    case FAMILY_NANODET: return node(b, PQ_OP_LEAKY_RELU, &x, 1, &(pq_attr){.alpha = 0.1f});
    case FAMILY_PICODET: return one(b, PQ_OP_HARD_SWISH, x);
    case FAMILY_FASTESTV2:
        for (int i = 0; i < WIDTH; i++) slope[i] = 0.05f * (float)i;
        return two(b, PQ_OP_PRELU, x, constant(b, PQ_F32, PQ_SHAPE(WIDTH, 1, 1), slope));
    default: return two(b, PQ_OP_MUL, x, one(b, PQ_OP_SIGMOID, x));
    }
}

/* Half of the channels through a depthwise convolution, then the halves' channels in turn. */
static pq_value_id shuffle(builder *b, pq_value_id x, int64_t side)
{
    pq_value_id half[2] = {slice(b, x, 1, 0, WIDTH / 2), slice(b, x, 1, WIDTH / 2, WIDTH)};
    half[1] = conv(b, half[1], WIDTH / 2, WIDTH / 2, 3, 1, WIDTH / 2, 1);
    x = concat(b, half, 2, 1);
    x = two(b, PQ_OP_RESHAPE, x, INTS(b, 0, 2, WIDTH / 2, side, side));
    x = node(b, PQ_OP_TRANSPOSE, &x, 1, &(pq_attr){.perm = {0, 2, 1, 3, 4}});
    return two(b, PQ_OP_RESHAPE, x, INTS(b, 0, -1, side, side));
}

static pq_value_id excite(builder *b, pq_value_id x)
{
    pq_value_id g = one(b, PQ_OP_GLOBAL_AVERAGE_POOL, x);
    g = one(b, PQ_OP_RELU, conv(b, g, WIDTH, 4, 1, 1, 1, 1));
    g = conv(b, g, 4, WIDTH, 1, 1, 1, 1);
    g = node(b, PQ_OP_HARD_SIGMOID, &g, 1, &(pq_attr){.alpha = 1.0f / 6, .beta = 0.5f});
    return two(b, PQ_OP_MUL, x, g);
}

static pq_value_id enlarge(builder *b, pq_value_id x)
{
    const float scales[4] = {1, 1, 2, 2};
    const bool linear = b->f == FAMILY_NANODET;
    const pq_attr a = {.resize = linear ? PQ_RESIZE_LINEAR : PQ_RESIZE_NEAREST,
                       .coord = linear ? PQ_COORD_HALF_PIXEL : PQ_COORD_ASYMMETRIC,
                       .nearest = PQ_NEAREST_FLOOR};
    pq_attr up = {.window = {.kernel = {2, 2}, .stride = {2, 2}, .dilation = {1, 1}, .groups = 1}};
    if (b->f == FAMILY_YOLOV6) {
        const pq_value_id w =
            pq_small_const(&b->s, "up.weight", PQ_SHAPE(WIDTH, WIDTH, 2, 2), -0.4, 0.4);
        return node(b, PQ_OP_CONV_TRANSPOSE, (pq_value_id[]){x, w}, 2, &up);
    }
    const pq_value_id in[3] = {x, PQ_NONE, constant(b, PQ_F32, PQ_SHAPE(4), scales)};
    return node(b, PQ_OP_RESIZE, in, 3, &a);
}

/* Maps at strides 8, 16, 32 and 64. */
static void backbone(builder *b, int channels, pq_value_id out[4])
{
    pq_value_id x = activate(b, conv(b, b->s.x, channels, WIDTH, 3, 2, 1, 1));
    x = activate(b, conv(b, x, WIDTH, WIDTH, 3, 2, 1, 1));
    for (int i = 0; i < 4; i++) {
        x = activate(b, conv(b, x, WIDTH, WIDTH, 3, 2, 1, 1));
        if (b->f == FAMILY_NANODET || b->f == FAMILY_FASTESTV2) x = shuffle(b, x, 8 >> i);
        if (b->f == FAMILY_PICODET) x = excite(b, x);
        out[i] = x;
    }
    const pq_value_id pair[2] = {enlarge(b, out[2]), out[1]};
    out[1] = activate(b, conv(b, concat(b, pair, 2, 1), 2 * WIDTH, WIDTH, 1, 1, 1, 1));
}

/* ---- heads ---- */

static void end(builder *b, const pq_value_id *v, size_t n)
{
    b->s.g->family = "ONNX";
    b->s.g->opset = 13;
    pq_small_outputs(&b->s, v, n);
}

static void yolov5(builder *b, const pq_value_id p[4])
{
    static const float anchor[3][6] = {
        {10, 13, 16, 30, 33, 23}, {30, 61, 62, 45, 59, 119}, {116, 90, 156, 198, 373, 326}};
    pq_value_id level[3];
    for (int l = 0; l < 3; l++) {
        const int64_t side = 8 >> l, k = 5 + C;
        float grid[8 * 8 * 2];
        for (int64_t i = 0; i < side * side; i++) {
            grid[2 * i] = (float)(i % side) - 0.5f;
            grid[2 * i + 1] = (float)(i / side) - 0.5f;
        }
        pq_value_id x = conv(b, p[l], WIDTH, 3 * k, 1, 1, 1, 1);
        x = two(b, PQ_OP_RESHAPE, x, INTS(b, 1, 3, k, side, side));
        x = node(b, PQ_OP_TRANSPOSE, &x, 1, &(pq_attr){.perm = {0, 1, 3, 4, 2}});
        level[l] = x;
        if (b->f == FAMILY_YOLOV5_RAW) continue;
        x = one(b, PQ_OP_SIGMOID, x);
        pq_value_id xy = two(b, PQ_OP_MUL, slice(b, x, 4, 0, 2), number(b, 2));
        xy = two(b, PQ_OP_ADD, xy, constant(b, PQ_F32, PQ_SHAPE(1, 1, side, side, 2), grid));
        xy = two(b, PQ_OP_MUL, xy, number(b, (float)(8 << l)));
        pq_value_id wh = two(b, PQ_OP_MUL, slice(b, x, 4, 2, 4), number(b, 2));
        wh = two(b, PQ_OP_POW, wh, number(b, 2));
        wh = two(b, PQ_OP_MUL, wh, constant(b, PQ_F32, PQ_SHAPE(1, 3, 1, 1, 2), anchor[l]));
        x = concat(b, (pq_value_id[]){xy, wh, slice(b, x, 4, 4, k)}, 3, 4);
        level[l] = two(b, PQ_OP_RESHAPE, x, INTS(b, 1, -1, k));
    }
    if (b->f == FAMILY_YOLOV5_RAW) {
        end(b, level, 3);
        return;
    }
    const pq_value_id all = concat(b, level, 3, 1);
    end(b, &all, 1);
}

/* Cell centres [2, 84] and strides [84] of the three levels. */
static void places(float centre[2 * PLACES], float stride[PLACES])
{
    int at = 0;
    for (int l = 0; l < 3; l++)
        for (int i = 0; i < (8 >> l) * (8 >> l); i++, at++) {
            centre[at] = (float)(i % (8 >> l)) + 0.5f;
            centre[PLACES + at] = (float)(i / (8 >> l)) + 0.5f;
            stride[at] = (float)(8 << l);
        }
}

static pq_value_id yolov8_boxes(builder *b, pq_value_id all, bool corners)
{
    float centre[2 * PLACES], stride[PLACES], bin[BINS];
    places(centre, stride);
    for (int i = 0; i < BINS; i++) bin[i] = (float)i;
    pq_attr a = {.window = {.kernel = {1, 1}, .stride = {1, 1}, .dilation = {1, 1}, .groups = 1}};
    pq_value_id x =
        two(b, PQ_OP_RESHAPE, slice(b, all, 1, 0, 4 * BINS), INTS(b, 1, 4, BINS, PLACES));
    x = node(b, PQ_OP_TRANSPOSE, &x, 1, &(pq_attr){.perm = {0, 2, 1, 3}});
    x = node(b, PQ_OP_SOFTMAX, &x, 1, &(pq_attr){.axis = 1});
    const pq_value_id w = constant(b, PQ_F32, PQ_SHAPE(1, BINS, 1, 1), bin);
    x = node(b, PQ_OP_CONV, (pq_value_id[]){x, w}, 2, &a);
    x = two(b, PQ_OP_RESHAPE, x, INTS(b, 1, 4, PLACES));
    const pq_value_id c = constant(b, PQ_F32, PQ_SHAPE(1, 2, PLACES), centre);
    const pq_value_id from = two(b, PQ_OP_SUB, c, slice(b, x, 1, 0, 2));
    const pq_value_id to = two(b, PQ_OP_ADD, c, slice(b, x, 1, 2, 4));
    const pq_value_id s = constant(b, PQ_F32, PQ_SHAPE(1, PLACES), stride);
    if (corners) return two(b, PQ_OP_MUL, concat(b, (pq_value_id[]){from, to}, 2, 1), s);
    const pq_value_id middle = two(b, PQ_OP_DIV, two(b, PQ_OP_ADD, from, to), number(b, 2));
    const pq_value_id size = two(b, PQ_OP_SUB, to, from);
    return two(b, PQ_OP_MUL, concat(b, (pq_value_id[]){middle, size}, 2, 1), s);
}

/* The best places of all, then their best class. */
static void rows(builder *b, pq_value_id box, pq_value_id cls)
{
    pq_node_id top;
    const pq_attr turn = {.perm = {0, 2, 1}}, last = {.axis = 2, .keepdims = true};
    const pq_attr best = {.axis = 1, .largest = true};
    box = node(b, PQ_OP_TRANSPOSE, &box, 1, &turn);
    cls = node(b, PQ_OP_TRANSPOSE, &cls, 1, &turn);
    const pq_attr most = {.keepdims = true, .n_axes = 1, .axes = {2}};
    const pq_value_id score = node(b, PQ_OP_REDUCE_MAX, &cls, 1, &most);
    pq_value_id label = node(b, PQ_OP_ARG_MAX, &cls, 1, &last);
    const pq_value_id in[2] = {score, INTS(b, TOP)};
    PQ_CHECK(b->s.ctx, pq_graph_add_node(b->s.ctx, &top, b->s.g, "top", PQ_OP_TOP_K, NULL, in, 2, 2,
                                         "top", &best));
    const pq_value_id value = b->s.g->node[top].out[0], at = b->s.g->node[top].out[1];
    const pq_value_id wide = two(b, PQ_OP_TILE, at, INTS(b, 1, 1, 4));
    const pq_attr rest = {.axis = 1};
    box = node(b, PQ_OP_GATHER_ELEMENTS, (pq_value_id[]){box, wide}, 2, &rest);
    label = node(b, PQ_OP_GATHER_ELEMENTS, (pq_value_id[]){label, at}, 2, &rest);
    label = node(b, PQ_OP_CAST, &label, 1, &(pq_attr){.to = PQ_F32});
    const pq_value_id out = concat(b, (pq_value_id[]){box, value, label}, 3, 2);
    end(b, &out, 1);
}

static void suppressed(builder *b, pq_value_id box, pq_value_id cls)
{
    const pq_attr turn = {.perm = {0, 2, 1}}, real = {.to = PQ_F32};
    box = node(b, PQ_OP_TRANSPOSE, &box, 1, &turn);
    const pq_value_id in[5] = {box, cls, INTS(b, 10), number(b, 0.7f), number(b, 0.3f)};
    const pq_value_id found = node(b, PQ_OP_NON_MAX_SUPPRESSION, in, 5, NULL);
    const pq_value_id image = slice(b, found, 1, 0, 1), label = slice(b, found, 1, 1, 2),
                      place = slice(b, found, 1, 2, 3);
    const pq_value_id where = concat(b, (pq_value_id[]){image, place}, 2, 1);
    box = two(b, PQ_OP_GATHER_ND, box, where);
    pq_value_id score = two(b, PQ_OP_GATHER_ND, cls, found);
    score = two(b, PQ_OP_UNSQUEEZE, score, INTS(b, 1));
    const pq_value_id first = node(b, PQ_OP_CAST, &image, 1, &real),
                      named = node(b, PQ_OP_CAST, &label, 1, &real);
    const pq_value_id out = concat(b, (pq_value_id[]){first, box, named, score}, 4, 1);
    end(b, &out, 1);
}

static void yolov8(builder *b, const pq_value_id p[4])
{
    pq_value_id level[3];
    const int64_t k = 4 * BINS + C;
    for (int l = 0; l < 3; l++) {
        const pq_value_id pair[2] = {conv(b, p[l], WIDTH, 4 * BINS, 1, 1, 1, 1),
                                     conv(b, p[l], WIDTH, C, 1, 1, 1, 1.5)};
        level[l] = concat(b, pair, 2, 1);
        if (b->f == FAMILY_YOLOV8_RAW) continue;
        level[l] = two(b, PQ_OP_RESHAPE, level[l], INTS(b, 1, k, -1));
    }
    if (b->f == FAMILY_YOLOV8_RAW) {
        end(b, level, 3);
        return;
    }
    const pq_value_id all = concat(b, level, 3, 2);
    const pq_value_id box = yolov8_boxes(b, all, b->f != FAMILY_YOLOV8);
    const pq_value_id cls = one(b, PQ_OP_SIGMOID, slice(b, all, 1, 4 * BINS, k));
    if (b->f == FAMILY_ROWS) rows(b, box, cls);
    if (b->f == FAMILY_SUPPRESSED) suppressed(b, box, cls);
    if (b->f != FAMILY_YOLOV8) return;
    const pq_value_id out = concat(b, (pq_value_id[]){box, cls}, 2, 1);
    end(b, &out, 1);
}

static void yolov6(builder *b, const pq_value_id p[4])
{
    pq_value_id reg[3], cls[3];
    float centre[2 * PLACES], stride[PLACES], turned[2 * PLACES], ones[PLACES];
    places(centre, stride);
    for (int i = 0; i < PLACES; i++) {
        turned[2 * i] = centre[i];
        turned[2 * i + 1] = centre[PLACES + i];
        ones[i] = 1;
    }
    for (int l = 0; l < 3; l++) {
        const pq_value_id r = one(b, PQ_OP_RELU, conv(b, p[l], WIDTH, 4, 1, 1, 1, 1));
        const pq_value_id c = one(b, PQ_OP_SIGMOID, conv(b, p[l], WIDTH, C, 1, 1, 1, 1.5));
        reg[l] = two(b, PQ_OP_RESHAPE, r, INTS(b, 1, 4, -1));
        cls[l] = two(b, PQ_OP_RESHAPE, c, INTS(b, 1, C, -1));
    }
    const pq_attr turn = {.perm = {0, 2, 1}};
    pq_value_id r = concat(b, reg, 3, 2), c = concat(b, cls, 3, 2);
    r = node(b, PQ_OP_TRANSPOSE, &r, 1, &turn);
    c = node(b, PQ_OP_TRANSPOSE, &c, 1, &turn);
    const pq_value_id middle = constant(b, PQ_F32, PQ_SHAPE(1, PLACES, 2), turned);
    const pq_value_id from = two(b, PQ_OP_SUB, middle, slice(b, r, 2, 0, 2));
    const pq_value_id to = two(b, PQ_OP_ADD, middle, slice(b, r, 2, 2, 4));
    const pq_value_id at = two(b, PQ_OP_DIV, two(b, PQ_OP_ADD, from, to), number(b, 2));
    pq_value_id box = concat(b, (pq_value_id[]){at, two(b, PQ_OP_SUB, to, from)}, 2, 2);
    box = two(b, PQ_OP_MUL, box, constant(b, PQ_F32, PQ_SHAPE(PLACES, 1), stride));
    const pq_value_id sure = constant(b, PQ_F32, PQ_SHAPE(1, PLACES, 1), ones);
    const pq_value_id out = concat(b, (pq_value_id[]){box, sure, c}, 3, 2);
    end(b, &out, 1);
}

static void nanodet(builder *b, const pq_value_id p[4])
{
    pq_value_id level[4];
    const int64_t k = C + 4 * NANO_BINS;
    for (int l = 0; l < 4; l++) {
        const pq_value_id x = conv(b, p[l], WIDTH, k, 1, 1, 1, 1.5);
        const pq_value_id pair[2] = {one(b, PQ_OP_SIGMOID, slice(b, x, 1, 0, C)),
                                     slice(b, x, 1, C, k)};
        level[l] = two(b, PQ_OP_RESHAPE, concat(b, pair, 2, 1), INTS(b, 1, k, -1));
    }
    const pq_value_id all = concat(b, level, 4, 2);
    const pq_value_id out = node(b, PQ_OP_TRANSPOSE, &all, 1, &(pq_attr){.perm = {0, 2, 1}});
    end(b, &out, 1);
}

static void picodet(builder *b, const pq_value_id p[4])
{
    pq_value_id out[8];
    const pq_attr turn = {.perm = {0, 2, 1}};
    for (int l = 0; l < 4; l++) {
        pq_value_id c = one(b, PQ_OP_SIGMOID, conv(b, p[l], WIDTH, C, 1, 1, 1, 1.5));
        pq_value_id r = conv(b, p[l], WIDTH, 4 * NANO_BINS, 1, 1, 1, 1.5);
        c = two(b, PQ_OP_RESHAPE, c, INTS(b, 1, C, -1));
        r = two(b, PQ_OP_RESHAPE, r, INTS(b, 1, 4 * NANO_BINS, -1));
        out[l] = node(b, PQ_OP_TRANSPOSE, &c, 1, &turn);
        out[4 + l] = node(b, PQ_OP_TRANSPOSE, &r, 1, &turn);
    }
    end(b, out, 8);
}

static void fastestv2(builder *b, const pq_value_id p[4])
{
    pq_value_id out[2];
    for (int l = 0; l < 2; l++) {
        const pq_value_id cls = conv(b, p[l + 1], WIDTH, C, 1, 1, 1, 1);
        const pq_value_id part[3] = {
            one(b, PQ_OP_SIGMOID, conv(b, p[l + 1], WIDTH, 12, 1, 1, 1, 1)),
            one(b, PQ_OP_SIGMOID, conv(b, p[l + 1], WIDTH, 3, 1, 1, 1, 1)),
            node(b, PQ_OP_SOFTMAX, &cls, 1, &(pq_attr){.axis = 1})};
        const pq_value_id all = concat(b, part, 3, 1);
        out[l] = node(b, PQ_OP_TRANSPOSE, &all, 1, &(pq_attr){.perm = {0, 2, 3, 1}});
    }
    end(b, out, 2);
}

pq_graph *family_graph(family f, int channels)
{
    builder b = {.f = f};
    pq_value_id p[4];
    pq_small_begin(&b.s, PQ_SHAPE(1, channels, FAMILY_SIDE, FAMILY_SIDE));
    backbone(&b, channels, p);
    switch (f) {
    case FAMILY_YOLOV5:
    case FAMILY_YOLOV5_RAW: yolov5(&b, p); break;
    case FAMILY_YOLOV6: yolov6(&b, p); break;
    case FAMILY_NANODET: nanodet(&b, p); break;
    case FAMILY_PICODET: picodet(&b, p); break;
    case FAMILY_FASTESTV2: fastestv2(&b, p); break;
    default: yolov8(&b, p);
    }
    pq_graph *g = b.s.g;
    pq_ctx_free(b.s.ctx);
    return g;
}

pq_head_family family_head(family f)
{
    static const pq_head_family heads[FAMILY_COUNT] = {
        PQ_HEAD_YOLOV5,  PQ_HEAD_YOLOV5_RAW, PQ_HEAD_YOLOV5,    PQ_HEAD_YOLOV8, PQ_HEAD_YOLOV8_RAW,
        PQ_HEAD_NANODET, PQ_HEAD_PICODET,    PQ_HEAD_FASTESTV2, PQ_HEAD_BOXES,  PQ_HEAD_BOXES};
    return heads[f];
}

const char *family_name(family f)
{
    static const char *const names[FAMILY_COUNT] = {
        "YOLOv5",  "YOLOv5 raw", "YOLOv6",    "YOLOv8", "YOLOv8 raw",
        "NanoDet", "PicoDet",    "FastestV2", "rows",   "suppressed"};
    return names[f];
}
