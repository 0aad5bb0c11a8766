/* Small detectors, pictures and annotations. */
#include "support/tiny.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "engine/engines.h"
#include "support/small.h"

enum { LEVELS = 3, REG_MAX = 4, PICTURE_W = 96, PICTURE_H = 80 };

typedef struct builder {
    pq_small s;
    pq_act act;
} builder;

/* He's range, so that values neither grow nor vanish with depth. */
static pq_value_id conv(builder *b, const char *name, pq_value_id x, int64_t in, int64_t out,
                        int64_t kernel, int64_t stride, pq_act act, double gain)
{
    char text[64];
    const double reach = gain * sqrt(6.0 / (double)(in * kernel * kernel));
    pq_attr a = {.act = act, .window.groups = 1};
    for (int i = 0; i < 2; i++) {
        a.window.kernel[i] = kernel;
        a.window.stride[i] = stride;
        a.window.dilation[i] = 1;
        a.window.pad[i] = a.window.pad[i + 2] = kernel / 2;
    }
    snprintf(text, sizeof text, "%s.weight", name);
    const pq_value_id w =
        pq_small_const(&b->s, text, PQ_SHAPE(out, in, kernel, kernel), -reach, reach);
    snprintf(text, sizeof text, "%s.bias", name);
    const pq_value_id in_ids[3] = {
        x, w, pq_small_const(&b->s, text, PQ_SHAPE(out), -0.2 * gain, 0.1 * gain)};
    return pq_small_node(&b->s, name, PQ_OP_CONV, in_ids, 3, &a);
}

static pq_value_id concat(builder *b, const char *name, const pq_value_id *in, int n, int64_t axis)
{
    return pq_small_node(&b->s, name, PQ_OP_CONCAT, in, n, &(pq_attr){.axis = axis});
}

/* Feature maps of 32, 48 and 48 channels at strides 8, 16 and 32. */
static void backbone(builder *b, pq_value_id out[LEVELS])
{
    const pq_act act = b->act;
    pq_attr pool = {.window = {.kernel = {5, 5}, .stride = {1, 1}, .dilation = {1, 1}}};
    for (int i = 0; i < 4; i++) pool.window.pad[i] = 2;
    pq_value_id x = pq_small_unary(&b->s, "focus", PQ_OP_FOCUS, b->s.x);
    x = conv(b, "stem", x, 12, 16, 3, 1, act, 1.0 / 128); /* pixels are 0 .. 255 */
    x = conv(b, "down2", x, 16, 24, 3, 2, act, 1);
    x = conv(b, "down3", x, 24, 32, 3, 2, act, 1);
    pq_value_id r = conv(b, "block.conv1", x, 32, 16, 1, 1, act, 1);
    r = conv(b, "block.conv2", r, 16, 32, 3, 1, PQ_ACT_NONE, 1);
    out[0] = pq_small_node(&b->s, "block.add", PQ_OP_ADD, (pq_value_id[]){x, r}, 2,
                           &(pq_attr){.act = act});
    x = conv(b, "down4", out[0], 32, 24, 3, 2, act, 1);
    r = pq_small_node(&b->s, "pool", PQ_OP_MAX_POOL, &x, 1, &pool);
    x = concat(b, "spp", (pq_value_id[]){x, r}, 2, 1);
    out[1] = conv(b, "spp.conv", x, 48, 48, 1, 1, act, 1);
    out[2] = conv(b, "down5", out[1], 48, 48, 3, 2, act, 1);
    const pq_attr twice = {.resize = PQ_RESIZE_NEAREST,
                           .coord = PQ_COORD_ASYMMETRIC,
                           .nearest = PQ_NEAREST_FLOOR,
                           .scale = {2, 2}};
    x = pq_small_node(&b->s, "up", PQ_OP_RESIZE, &out[2], 1, &twice);
    x = concat(b, "neck", (pq_value_id[]){x, out[1]}, 2, 1);
    out[1] = conv(b, "neck.conv", x, 96, 48, 1, 1, act, 1);
}

static pq_value_id constant_shape(builder *b, const char *name, int64_t n, const int64_t *dim)
{
    pq_tensor t;
    pq_value_id id;
    PQ_CHECK(b->s.ctx, pq_tensor_new(b->s.ctx, &t, PQ_S64, &PQ_SHAPE(n)));
    memcpy(pq_tensor_data(&t), dim, (size_t)n * sizeof *dim);
    PQ_CHECK(b->s.ctx, pq_graph_add_const(b->s.ctx, &id, b->s.g, name, PQ_S64, &t.shape, t.buf));
    pq_tensor_clear(&t);
    return id;
}

static const int64_t channels[LEVELS] = {32, 48, 48};

static void yolox_head(builder *b, const pq_value_id p[LEVELS])
{
    pq_value_id level[LEVELS];
    char name[32];
    const pq_value_id rows =
        constant_shape(b, "rows", 3, (const int64_t[]){1, 5 + TINY_CLASSES, -1});
    for (int i = 0; i < LEVELS; i++) {
        pq_value_id part[3];
        snprintf(name, sizeof name, "head%d.stem", i);
        const pq_value_id x = conv(b, name, p[i], channels[i], 24, 3, 1, b->act, 1);
        snprintf(name, sizeof name, "head%d.reg", i);
        part[0] = conv(b, name, x, 24, 4, 1, 1, PQ_ACT_NONE, 0.5);
        snprintf(name, sizeof name, "head%d.obj", i);
        part[1] = conv(b, name, x, 24, 1, 1, 1, PQ_ACT_SIGMOID, 3);
        snprintf(name, sizeof name, "head%d.cls", i);
        part[2] = conv(b, name, x, 24, TINY_CLASSES, 1, 1, PQ_ACT_SIGMOID, 3);
        snprintf(name, sizeof name, "head%d.concat", i);
        const pq_value_id joined = concat(b, name, part, 3, 1);
        snprintf(name, sizeof name, "head%d.rows", i);
        level[i] =
            pq_small_node(&b->s, name, PQ_OP_RESHAPE, (pq_value_id[]){joined, rows}, 2, NULL);
    }
    const pq_value_id all = concat(b, "head.concat", level, LEVELS, 2);
    const pq_value_id out =
        pq_small_node(&b->s, "output", PQ_OP_TRANSPOSE, &all, 1, &(pq_attr){.perm = {0, 2, 1}});
    b->s.g->family = "YOLOX";
    pq_small_outputs(&b->s, &out, 1);
}

static void damo_head(builder *b, const pq_value_id p[LEVELS])
{
    pq_value_id in[2 * LEVELS];
    pq_node_id decode;
    char name[32];
    for (int i = 0; i < LEVELS; i++) {
        snprintf(name, sizeof name, "head.cls.%d", i);
        in[i] = conv(b, name, p[i], channels[i], TINY_CLASSES, 3, 1, PQ_ACT_NONE, 2);
        snprintf(name, sizeof name, "head.reg.%d", i);
        in[LEVELS + i] = conv(b, name, p[i], channels[i], 4 * (REG_MAX + 1), 3, 1, PQ_ACT_NONE, 1);
    }
    const pq_attr a = {.levels = LEVELS, .reg_max = REG_MAX, .strides = {8, 16, 32}};
    PQ_CHECK(b->s.ctx, pq_graph_add_node(b->s.ctx, &decode, b->s.g, "decode", PQ_OP_GFL_DECODE,
                                         NULL, in, 2 * LEVELS, 2, "scores", &a));
    b->s.g->family = "DAMO-YOLO-tiny";
    pq_small_outputs(&b->s, b->s.g->node[decode].out, 2);
}

pq_graph *tiny_detector(pq_ctx *ctx, tiny_family family)
{
    builder b = {.act = family == TINY_YOLOX ? PQ_ACT_SILU : PQ_ACT_RELU};
    pq_value_id p[LEVELS];
    pq_small_begin(&b.s, PQ_SHAPE(1, 3, TINY_SIDE, TINY_SIDE));
    backbone(&b, p);
    if (family == TINY_YOLOX)
        yolox_head(&b, p);
    else
        damo_head(&b, p);
    pq_graph *g = b.s.g;
    b.s.g = NULL;
    pq_small_end(&b.s);
    g->value[g->input[0]].name = "images";
    pq_graph_mark_quantizable(g);
    PQ_CHECK(ctx, pq_graph_verify(ctx, g));
    pq_graph_seal(g);
    return g;
}

void tiny_picture(pq_ctx *ctx, pq_image *out, int i)
{
    pq_rng rng = {(uint64_t)i + 1};
    PQ_CHECK(ctx, pq_image_new(ctx, out, PICTURE_W, PICTURE_H));
    for (int k = 0; k < 3 * PICTURE_W * PICTURE_H; k++)
        out->data[k] = (uint8_t)(90 + pq_rng_below(&rng, 40));
    for (int box = 0; box < 5; box++) {
        uint8_t colour[3];
        const int x = (int)pq_rng_below(&rng, PICTURE_W - 20),
                  y = (int)pq_rng_below(&rng, PICTURE_H - 20), w = 8 + (int)pq_rng_below(&rng, 30),
                  h = 8 + (int)pq_rng_below(&rng, 30);
        for (int k = 0; k < 3; k++) colour[k] = (uint8_t)pq_rng_below(&rng, 256);
        for (int v = y; v < y + h && v < PICTURE_H; v++)
            for (int u = x; u < x + w && u < PICTURE_W; u++)
                memcpy(out->data + 3 * (v * PICTURE_W + u), colour, 3);
    }
}

/* ---- running ---- */

static pq_session *compile(pq_ctx *ctx, const pq_graph *g)
{
    pq_plan *plan;
    pq_session *s;
    PQ_CHECK(ctx, pq_plan_float(ctx, &plan, g, PQ_PREC_FP32));
    PQ_CHECK(ctx, pq_compile(ctx, &s, &pq_engine_ref, g, plan, NULL));
    pq_plan_free(plan);
    return s;
}

/* Detections of a picture, appended. */
static void detect(pq_ctx *ctx, pq_detections *list, pq_session *s, const pq_graph *g,
                   const pq_image *img, int64_t id)
{
    pq_head head;
    pq_prep prep;
    pq_geometry geo;
    pq_tensor in, *out;
    PQ_CHECK(ctx, pq_head_detect(ctx, &head, g));
    pq_head_prep(&prep, &head);
    PQ_CHECK(ctx, pq_tensor_new(ctx, &in, PQ_F32, &s->input_shape[0]));
    PQ_CHECK(ctx, pq_session_outputs(ctx, &out, s));
    PQ_CHECK(ctx, pq_preprocess(ctx, pq_tensor_data(&in), &geo, img, &prep));
    PQ_CHECK(ctx, pq_run(ctx, s, &in, 1, out, s->n_outputs));
    PQ_CHECK(ctx, pq_head_decode(ctx, list, &head, out, s->n_outputs, 1, &geo, &id));
    pq_session_outputs_free(out, s);
    pq_tensor_clear(&in);
}

/* ---- data ---- */

static int best_first(const void *a, const void *b)
{
    const pq_detection *x = a, *y = b;
    return (x->score < y->score) - (x->score > y->score);
}

/* The n best of all pictures together: then every class ranks its true boxes first. */
static void add_annotations(cJSON *list, pq_detections *found, size_t n)
{
    qsort(found->at, found->n, sizeof *found->at, best_first);
    for (size_t i = 0; i < found->n && i < n; i++) {
        const pq_detection *d = &found->at[i];
        const double box[4] = {d->x, d->y, d->w, d->h};
        cJSON *o = cJSON_CreateObject();
        cJSON_AddItemToArray(list, o);
        cJSON_AddNumberToObject(o, "id", cJSON_GetArraySize(list));
        cJSON_AddNumberToObject(o, "image_id", (double)d->image);
        cJSON_AddNumberToObject(o, "category_id", d->cls + 1);
        cJSON_AddItemToObject(o, "bbox", cJSON_CreateDoubleArray(box, 4));
        cJSON_AddNumberToObject(o, "area", d->w * d->h);
        cJSON_AddNumberToObject(o, "iscrowd", 0);
    }
}

static void add_picture(pq_ctx *ctx, const char *folder, int number, pq_session *s,
                        const pq_graph *g, cJSON *images, pq_detections *found)
{
    char path[512], name[32];
    pq_image img;
    tiny_picture(ctx, &img, number);
    snprintf(name, sizeof name, "%012d.png", number);
    snprintf(path, sizeof path, "%s/images/%s", folder, name);
    PQ_CHECK(ctx, pq_image_save(ctx, &img, path));
    detect(ctx, found, s, g, &img, number);
    cJSON *o = cJSON_CreateObject();
    cJSON_AddItemToArray(images, o);
    cJSON_AddNumberToObject(o, "id", number);
    cJSON_AddStringToObject(o, "file_name", name);
    cJSON_AddNumberToObject(o, "width", img.w);
    cJSON_AddNumberToObject(o, "height", img.h);
    pq_image_clear(&img);
}

void tiny_data(pq_ctx *ctx, const char *folder, const pq_graph *g, int first, int n)
{
    char path[512];
    snprintf(path, sizeof path, "%s/images", folder);
    PQ_CHECK(ctx, pq_dir_make(ctx, path));
    pq_session *s = compile(ctx, g);
    cJSON *doc = cJSON_CreateObject();
    cJSON *images = cJSON_AddArrayToObject(doc, "images");
    cJSON *annotations = cJSON_AddArrayToObject(doc, "annotations");
    cJSON *categories = cJSON_AddArrayToObject(doc, "categories");
    for (int i = 0; i < TINY_CLASSES; i++) {
        static const char *const names[TINY_CLASSES] = {"circle", "square", "star"};
        cJSON *o = cJSON_CreateObject();
        cJSON_AddItemToArray(categories, o);
        cJSON_AddNumberToObject(o, "id", i + 1);
        cJSON_AddStringToObject(o, "name", names[i]);
    }
    pq_detections found = {0};
    for (int i = 0; i < n; i++) add_picture(ctx, folder, first + i, s, g, images, &found);
    add_annotations(annotations, &found, 4 * (size_t)n);
    pq_detections_clear(&found);
    snprintf(path, sizeof path, "%s/ann.json", folder);
    PQ_CHECK(ctx, pq_json_save(ctx, doc, path));
    cJSON_Delete(doc);
    pq_session_free(s);
}

pq_plan *tiny_int8_plan(pq_ctx *ctx, const pq_graph *g, pq_scheme scheme, int n)
{
    char folder[] = "/tmp/pquant-tiny-XXXXXX", path[128];
    pq_head head;
    pq_prep prep;
    pq_dataset *data;
    pq_ranges *ranges;
    pq_plan *plan;
    bool *int8;
    assert_non_null(mkdtemp(folder));
    for (int i = 0; i < n; i++) {
        pq_image img;
        tiny_picture(ctx, &img, i);
        snprintf(path, sizeof path, "%s/%d.png", folder, i);
        PQ_CHECK(ctx, pq_image_save(ctx, &img, path));
        pq_image_clear(&img);
    }
    PQ_CHECK(ctx, pq_dataset_from_folder(ctx, &data, folder, 0));
    PQ_CHECK(ctx, pq_head_detect(ctx, &head, g));
    pq_head_prep(&prep, &head);
    PQ_CHECK(ctx, pq_calibrate(ctx, &ranges, &pq_engine_ref, g, data, &prep,
                               &(pq_calibrate_opts){.calibrator = PQ_CALIB_MAX}));
    const size_t n_ops = pq_graph_quantizable_count(g);
    PQ_CHECK(ctx, pq_alloc(ctx, &int8, n_ops, sizeof *int8));
    memset(int8, 1, n_ops * sizeof *int8);
    PQ_CHECK(ctx, pq_plan_make(ctx, &plan, g, ranges, int8, scheme, PQ_PREC_FP32));
    pq_free(int8);
    pq_ranges_free(ranges);
    for (size_t i = 0; i < data->n; i++) unlink(data->sample[i].path);
    rmdir(folder);
    pq_dataset_free(data);
    return plan;
}
