/* Which head a graph ends in: by the shapes and names of its outputs, and by what they are put
 * together of where two heads have the same shape. */
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/ctx.h"
#include "detect/head.h"
#include "graph/tail.h"

static const char *const names[PQ_HEAD_FAMILIES] = {
    "damo",       "yolox",   "yolov5",  "yolov5-raw", "yolov8",
    "yolov8-raw", "nanodet", "picodet", "fastestv2",  "boxes"};

const char *pq_head_family_name(pq_head_family family)
{
    return (unsigned)family < PQ_HEAD_FAMILIES ? names[family] : "?";
}

pq_head_family pq_head_family_parse(const char *name)
{
    int i = 0;
    while (i < PQ_HEAD_FAMILIES && strcmp(names[i], name) != 0) i++;
    if (strcmp(name, "yolov6") == 0 || strcmp(name, "yolov7") == 0) return PQ_HEAD_YOLOV5;
    if (strcmp(name, "yolov11") == 0) return PQ_HEAD_YOLOV8;
    return (pq_head_family)i;
}

/* ---- what the families are trained with ---- */

static const float yolov5_anchors[3][6] = {
    {10, 13, 16, 30, 33, 23}, {30, 61, 62, 45, 59, 119}, {116, 90, 156, 198, 373, 326}};
static const float fastest_anchors[2][6] = {{12.64f, 19.39f, 37.88f, 51.48f, 55.71f, 138.31f},
                                            {126.91f, 78.23f, 131.57f, 214.55f, 279.92f, 258.87f}};

static const struct limits {
    double conf, iou;
    int max_det;
} limits[PQ_HEAD_FAMILIES] = {
    {0.05, 0.7, 500},  {0.01, 0.65, 300}, {0.001, 0.7, 300}, {0.001, 0.7, 300}, {0.001, 0.7, 300},
    {0.001, 0.7, 300}, {0.05, 0.6, 100},  {0.025, 0.6, 100}, {0.01, 0.4, 300},  {0.001, 0.7, 300}};

static void set_strides(pq_head *h, int first, int n)
{
    h->n_levels = n;
    for (int i = 0; i < n && i < PQ_HEAD_LEVELS; i++) h->stride[i] = first << i;
}

static void set_prep(pq_head *h)
{
    static const float nano_mean[3] = {103.53f, 116.28f, 123.675f};
    static const float nano_deviation[3] = {57.375f, 57.12f, 58.395f};
    pq_prep *p = &h->prep;
    *p = (pq_prep){.h = h->h, .w = h->w, .pad = 114};
    for (int c = 0; c < 3; c++) p->scale[c] = 1;
    switch (h->family) {
    case PQ_HEAD_YOLOX:
        p->fit = PQ_FIT_LETTERBOX;
        p->bgr = true;
        break;
    case PQ_HEAD_YOLOV5:
    case PQ_HEAD_YOLOV5_RAW:
    case PQ_HEAD_YOLOV8:
    case PQ_HEAD_YOLOV8_RAW:
    case PQ_HEAD_BOXES:
        p->fit = PQ_FIT_LETTERBOX_CENTER;
        for (int c = 0; c < 3; c++) p->scale[c] = 1.0f / 255;
        break;
    case PQ_HEAD_NANODET:
    case PQ_HEAD_PICODET:
        p->bgr = h->family == PQ_HEAD_NANODET;
        for (int c = 0; c < 3; c++) {
            const int k = p->bgr ? c : 2 - c;
            p->mean[c] = nano_mean[k];
            p->scale[c] = 1 / nano_deviation[k];
        }
        break;
    case PQ_HEAD_FASTESTV2:
        p->bgr = true;
        for (int c = 0; c < 3; c++) p->scale[c] = 1.0f / 255;
        break;
    default: break;
    }
}

void pq_head_defaults(pq_head *out, pq_head_family family, int h, int w)
{
    *out = (pq_head){
        .family = family, .h = h, .w = w, .scores_at = -1, .classes_at = -1, .count_at = -1};
    if ((unsigned)family >= PQ_HEAD_FAMILIES) return;
    out->conf = limits[family].conf;
    out->iou = limits[family].iou;
    out->max_det = limits[family].max_det;
    for (int i = 0; i < PQ_BOX_COLUMNS; i++) out->column[i] = i < 4 ? i : -1;
    if (family == PQ_HEAD_DAMO || family == PQ_HEAD_YOLOX) out->scores_at = 0;
    set_strides(out, 8, family == PQ_HEAD_NANODET || family == PQ_HEAD_PICODET ? 4 : 3);
    for (int i = 0; i < PQ_HEAD_LEVELS; i++) out->reg_at[i] = out->class_at[i] = i;
    switch (family) {
    case PQ_HEAD_YOLOV5_RAW:
        out->n_anchors = 3;
        out->logits = true;
        for (int i = 0; i < 3; i++) memcpy(out->anchor[i], yolov5_anchors[i], sizeof(float[6]));
        break;
    case PQ_HEAD_YOLOV8_RAW:
        out->reg_max = 15;
        out->offset = 0.5f;
        out->logits = true;
        break;
    case PQ_HEAD_NANODET:
    case PQ_HEAD_PICODET:
        out->reg_max = 7;
        out->offset = family == PQ_HEAD_PICODET ? 0.5f : 0;
        for (int i = 0; i < PQ_HEAD_LEVELS; i++) out->reg_at[i] = out->class_at[i] = 0;
        break;
    case PQ_HEAD_FASTESTV2:
        set_strides(out, 16, 2);
        out->n_anchors = 3;
        for (int i = 0; i < 2; i++) memcpy(out->anchor[i], fastest_anchors[i], sizeof(float[6]));
        break;
    default: break;
    }
    set_prep(out);
}

void pq_head_prep(pq_prep *out, const pq_head *head)
{
    pq_head h = *head;
    /* One made by hand, for a family alone, has no preprocessing of its own. */
    if (!h.prep.h) set_prep(&h);
    *out = h.prep;
    out->h = head->h;
    out->w = head->w;
}

/* ---- recognition ---- */

typedef struct seen {
    const pq_graph *g;
    size_t n;
    const pq_shape *shape[2 * PQ_HEAD_LEVELS];
    const char *name[2 * PQ_HEAD_LEVELS];
    int h, w;
} seen;

/* Does text hold part, whatever the case? */
static bool holds(const char *text, const char *part)
{
    const size_t n = strlen(part);
    for (; text && *text; text++)
        if (strncasecmp(text, part, n) == 0) return true;
    return false;
}

static bool may_be(const pq_graph *g, const char *name)
{
    return !g->family || strcmp(g->family, "ONNX") == 0 || holds(g->family, name);
}

static bool named(const seen *s, size_t i, const char *part) { return holds(s->name[i], part); }

static int64_t cells_of(const seen *s, int stride)
{
    return (int64_t)((s->h + stride - 1) / stride) * ((s->w + stride - 1) / stride);
}

/* Places of strides 8, 16, 32; and what else occurs: with 64, with 4. 0: n is none of them. */
static int levels_of(const seen *s, int64_t n, int *first)
{
    static const struct {
        int first, levels;
    } ways[] = {{8, 3}, {8, 4}, {4, 4}};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        int64_t sum = 0;
        for (int k = 0; k < ways[i].levels; k++) sum += cells_of(s, ways[i].first << k);
        *first = ways[i].first;
        if (sum == n) return ways[i].levels;
    }
    return 0;
}

static bool fits_int(int64_t v) { return v >= 1 && v <= 1 << 20; }

static bool as_damo(pq_head *h, const seen *s)
{
    if (s->n != 2 || !may_be(s->g, "DAMO")) return false;
    const pq_shape *a = s->shape[0], *b = s->shape[1];
    if (a->rank != 3 || b->rank != 3 || a->dim[1] != b->dim[1]) return false;
    const int boxes_at = b->dim[2] == 4 ? 1 : 0; /* with four classes: scores first */
    const pq_shape *scores = boxes_at ? a : b, *boxes = boxes_at ? b : a;
    if (boxes->dim[2] != 4 || !fits_int(scores->dim[2])) return false;
    int first; /* SSD and RetinaNet have several priors a place, and boxes that are not decoded */
    if (!levels_of(s, boxes->dim[1], &first)) return false;
    const bool nano = s->g->family && strstr(s->g->family, "DAMO-YOLO-N");
    pq_head_defaults(h, PQ_HEAD_DAMO, s->h, s->w);
    if (nano) h->conf = 0.03, h->iou = 0.65;
    h->boxes_at = boxes_at;
    h->scores_at = 1 - boxes_at;
    h->n_classes = (int)scores->dim[2];
    h->anchors = scores->dim[1];
    return true;
}

static int64_t yolox_cells(const seen *s)
{
    int64_t cells = 0;
    for (int i = 8; i <= 32; i *= 2) cells += (int64_t)(s->h / i) * (s->w / i);
    return cells;
}

static bool as_yolox(pq_head *h, const seen *s)
{
    const pq_shape *x = s->shape[0];
    if (!may_be(s->g, "YOLOX") || x->dim[1] != yolox_cells(s) || x->dim[2] < 6) return false;
    pq_head_defaults(h, PQ_HEAD_YOLOX, s->h, s->w);
    h->n_classes = (int)x->dim[2] - 5;
    return true;
}

/* [n, A, C + 4 (reg_max + 1)], or turned; c = 0: bins as usual, the rest are classes. */
static bool as_nanodet(pq_head *h, const seen *s, int levels, int first, int64_t k, int64_t c)
{
    const bool pico = holds(s->g->family, "pico");
    if (!c) c = k - 32;
    if (!may_be(s->g, pico ? "pico" : "nano") || c < 1 || (k - c) % 4) return false;
    pq_head_defaults(h, pico ? PQ_HEAD_PICODET : PQ_HEAD_NANODET, s->h, s->w);
    set_strides(h, first, levels);
    h->reg_max = (int)((k - c) / 4 - 1);
    h->n_classes = (int)c;
    /* Before NanoDet-Plus, which added stride 64, places were the middles of cells. */
    if (levels == 3) h->offset = 0.5f;
    return true;
}

/* Rows as detectors with suppression inside give them. */
static bool as_rows(pq_head *h, const seen *s, int64_t width, size_t at)
{
    static const int ultralytics[] = {0, 1, 2, 3, 4, 5, -1}, yolov7[] = {1, 2, 3, 4, 6, 5, 0},
                     paddle[] = {2, 3, 4, 5, 1, 0, -1};
    const int *columns = width == 7 ? yolov7 : s->shape[at]->rank == 3 ? ultralytics : paddle;
    pq_head_defaults(h, PQ_HEAD_BOXES, s->h, s->w);
    h->boxes_at = (int)at;
    h->scores_at = -1;
    for (int i = 0; i < PQ_BOX_COLUMNS; i++) h->column[i] = columns[i];
    h->n_classes = 80;
    if (columns == paddle) { /* PicoDet's own preprocessing and limits; rows are in input pixels */
        pq_head pico;
        pq_head_defaults(&pico, PQ_HEAD_PICODET, s->h, s->w);
        h->prep = pico.prep;
        h->conf = pico.conf;
        h->max_det = pico.max_det;
        if (s->n == 2) h->count_at = 1 - (int)at;
    }
    return true;
}

/* A list of boxes and their scores in one output. */
static bool as_list(pq_head *h, const seen *s)
{
    const pq_shape *x = s->shape[0];
    pq_tail tail;
    int first;
    if (s->n != 1 || x->rank != 3 || !fits_int(x->dim[1]) || !fits_int(x->dim[2])) return false;
    int64_t a = x->dim[1], k = x->dim[2];
    int levels = levels_of(s, a, &first);
    pq_graph_tail(&tail, s->g, s->g->output[0], 2);
    const bool tiny = k == cells_of(s, 16) + cells_of(s, 32); /* YOLOv3-tiny's two levels */
    if (!levels && (levels_of(s, k, &first) || tiny) && a > 4 && a < k && may_be(s->g, "YOLO")) {
        pq_head_defaults(h, PQ_HEAD_YOLOV8, s->h, s->w);
        h->n_classes = (int)a - 4;
        h->anchors = k;
        return true;
    }
    if (!levels && a % 3 == 0 && levels_of(s, a / 3, &first) && k > 5 && may_be(s->g, "YOLO")) {
        pq_head_defaults(h, PQ_HEAD_YOLOV5, s->h, s->w);
        h->n_classes = (int)k - 5;
        return true;
    }
    if (levels == 3 && tail.last && tail.n > 1 && k > 5 && may_be(s->g, "YOLO")) {
        pq_head_defaults(h, PQ_HEAD_YOLOV5, s->h, s->w); /* YOLOv6; YOLOX that decodes itself */
        h->n_classes = (int)k - 5;
        if (tail.n == 3 && !tail.constant[1]) {
            pq_head x0;
            pq_head_defaults(&x0, PQ_HEAD_YOLOX, s->h, s->w);
            h->prep = x0.prep;
        }
        return true;
    }
    if (levels && tail.n == 2 && tail.size[1] % 4 == 0 && tail.size[1] >= 4)
        return as_nanodet(h, s, levels, first, k, tail.size[0]);
    if (levels && ((levels == 4 && first == 8) || (!tail.n && k == 112)))
        if (as_nanodet(h, s, levels, first, k, 0)) return true;
    if (as_yolox(h, s)) return true;
    return !levels && k == 6 && as_rows(h, s, k, 0);
}

static bool is_reg(const seen *s, size_t i, int64_t channels)
{
    return channels % 4 == 0 &&
           (named(s, i, "reg") || named(s, i, "bbox") || named(s, i, "box") || named(s, i, "dis"));
}

/* Channels of a map or list whose places are cells of a square stride; 0: it is none. */
static int64_t channels_of(const seen *s, size_t i, int *stride)
{
    const pq_shape *x = s->shape[i];
    for (*stride = 4; *stride <= 128; *stride *= 2) {
        const int64_t n = cells_of(s, *stride);
        const int64_t w = (s->w + *stride - 1) / *stride;
        if (x->rank == 3 && x->dim[1] == n) return x->dim[2];
        if (x->rank == 3 && x->dim[2] == n) return x->dim[1];
        if (x->rank == 4 && x->dim[2] * x->dim[3] == n && x->dim[3] == w) return x->dim[1];
        if (x->rank == 4 && x->dim[1] * x->dim[2] == n && x->dim[2] == w) return x->dim[3];
        if (x->rank == 5 && x->dim[2] * x->dim[3] == n && x->dim[3] == w)
            return x->dim[1] * x->dim[4];
    }
    return 0;
}

/* Sort the levels of outputs by stride; false where one has no stride or two have the same. */
static bool sort_levels(pq_head *h, const int *stride, const int *reg, const int *cls, int n)
{
    h->n_levels = 0;
    for (int s = 4; s <= 128; s *= 2)
        for (int i = 0; i < n; i++) {
            if (stride[i] != s) continue;
            if (h->n_levels && h->stride[h->n_levels - 1] == s) return false;
            h->stride[h->n_levels] = s;
            h->reg_at[h->n_levels] = reg[i];
            h->class_at[h->n_levels++] = cls[i];
        }
    return h->n_levels == n;
}

/* One map a level. */
static bool as_maps(pq_head *h, const seen *s)
{
    int stride[PQ_HEAD_LEVELS], at[PQ_HEAD_LEVELS];
    int64_t k = 0;
    pq_tail tail;
    if (s->n < 2 || s->n > PQ_HEAD_LEVELS || s->shape[0]->rank < 4) return false;
    for (size_t i = 0; i < s->n; i++) {
        const int64_t c = channels_of(s, i, &stride[i]);
        if (!fits_int(c) || (i && c != k)) return false;
        k = c;
        at[i] = (int)i;
    }
    const pq_shape *x = s->shape[0];
    const bool maps_last = x->rank == 4 && x->dim[3] == k && x->dim[1] != k;
    pq_graph_tail(&tail, s->g, s->g->output[0], x->rank == 5 ? 4 : maps_last ? 3 : 1);
    if (s->n == 2 && x->rank == 4 && k > 15 && (maps_last || tail.n == 3)) {
        pq_head_defaults(h, PQ_HEAD_FASTESTV2, s->h, s->w);
        h->n_classes = (int)k - 15;
    } else if (x->rank == 4 && tail.n == 2 && tail.size[0] % 4 == 0) {
        pq_head_defaults(h, PQ_HEAD_YOLOV8_RAW, s->h, s->w);
        h->reg_max = (int)(tail.size[0] / 4) - 1;
        h->n_classes = (int)tail.size[1];
        h->logits = !tail.sigmoid[1];
    } else if (k % 3 == 0 && k > 15 && s->n == 3) {
        pq_head_defaults(h, PQ_HEAD_YOLOV5_RAW, s->h, s->w);
        h->n_classes = (int)(k / 3) - 5;
        h->logits = !pq_graph_is_sigmoid(s->g, s->g->output[0]);
    } else
        return false;
    return sort_levels(h, stride, at, at, (int)s->n) &&
           (h->family != PQ_HEAD_FASTESTV2 || h->stride[0] == 16) &&
           (h->family != PQ_HEAD_YOLOV5_RAW || h->stride[0] == 8);
}

/* Two outputs a level: distances of 4 (reg_max + 1) channels, and classes. */
static bool as_pairs(pq_head *h, const seen *s)
{
    int stride[PQ_HEAD_LEVELS], reg[PQ_HEAD_LEVELS], cls[PQ_HEAD_LEVELS], n = 0;
    int64_t channels[2 * PQ_HEAD_LEVELS], r = 0, c = 0;
    int own[2 * PQ_HEAD_LEVELS];
    if (s->n < 4 || s->n % 2 || s->n > 2 * PQ_HEAD_LEVELS) return false;
    for (size_t i = 0; i < s->n; i++)
        if (!fits_int(channels[i] = channels_of(s, i, &own[i]))) return false;
    for (size_t i = 0; i < s->n; i++)
        for (size_t k = i + 1; k < s->n; k++) {
            if (own[i] != own[k]) continue;
            /* By name, else the sigmoid tells the classes, else their place: first in lists, last
             * in maps. */
            const bool first_reg =
                is_reg(s, i, channels[i]) ||
                (!is_reg(s, k, channels[k]) && channels[i] % 4 == 0 &&
                 (pq_graph_is_sigmoid(s->g, s->g->output[k]) ||
                  (!pq_graph_is_sigmoid(s->g, s->g->output[i]) && s->shape[i]->rank == 4)));
            if (n == PQ_HEAD_LEVELS) return false;
            stride[n] = own[i];
            reg[n] = (int)(first_reg ? i : k);
            cls[n++] = (int)(first_reg ? k : i);
        }
    if ((size_t)n * 2 != s->n) return false;
    for (int i = 0; i < n; i++) {
        if (i && (channels[reg[i]] != r || channels[cls[i]] != c)) return false;
        r = channels[reg[i]];
        c = channels[cls[i]];
    }
    if (r % 4) return false;
    const bool maps = s->shape[0]->rank == 4;
    const bool nano = named(s, 0, "pred_stride") || (holds(s->g->family, "nano"));
    pq_head_defaults(h,
                     maps && r == 64 ? PQ_HEAD_YOLOV8_RAW
                     : nano          ? PQ_HEAD_NANODET
                                     : PQ_HEAD_PICODET,
                     s->h, s->w);
    if (!sort_levels(h, stride, reg, cls, n)) return false;
    if (nano && n == 3) h->offset = 0.5f;
    h->reg_max = (int)(r / 4) - 1;
    h->n_classes = (int)c;
    h->logits = !pq_graph_is_sigmoid(s->g, s->g->output[cls[0]]);
    return true;
}

/* Boxes, scores and classes as outputs of their own. */
static bool as_parts(pq_head *h, const seen *s)
{
    int boxes = -1, scores = -1, classes = -1, count = -1;
    if (s->n < 3 || s->n > 4) return false;
    for (size_t i = 0; i < s->n; i++) {
        const pq_shape *x = s->shape[i];
        const pq_dtype t = s->g->value[s->g->output[i]].dtype;
        if (named(s, i, "num") || named(s, i, "count"))
            count = (int)i;
        else if (x->rank >= 2 && x->dim[x->rank - 1] == 4)
            boxes = (int)i;
        else if (named(s, i, "class") || named(s, i, "label") || named(s, i, "cls") || t != PQ_F32)
            classes = (int)i;
        else
            scores = (int)i;
    }
    if (boxes < 0 || scores < 0 || classes < 0) return false;
    pq_head_defaults(h, PQ_HEAD_BOXES, s->h, s->w);
    h->boxes_at = boxes;
    h->scores_at = scores;
    h->classes_at = classes;
    h->count_at = count;
    h->n_classes = 80;
    return true;
}

static bool as_boxes(pq_head *h, const seen *s)
{
    for (size_t i = 0; i < s->n && s->n <= 2; i++) {
        const pq_shape *x = s->shape[i];
        const int64_t width = x->rank ? x->dim[x->rank - 1] : 0;
        if (x->rank == 2 && ((width == 7 && s->n == 1) || width == 6))
            return as_rows(h, s, width, i);
    }
    return as_parts(h, s);
}

static void shapes_text(const seen *s, char *text, size_t size)
{
    char one[96];
    size_t at = 0;
    for (size_t i = 0; i < s->n && at < size; i++)
        at += (size_t)snprintf(text + at, size - at, "%s%s", i ? " " : "",
                               pq_shape_text(s->shape[i], one, sizeof one));
}

/* Places of the whole head, and what the graph's own input says. */
static void finish(pq_head *h, const seen *s, const pq_shape *in)
{
    const pq_shape *x = s->shape[h->family == PQ_HEAD_BOXES ? h->boxes_at : 0];
    h->prep.channels = in->dim[1] == 1 ? 1 : 0;
    if (h->family == PQ_HEAD_BOXES)
        h->anchors = x->rank > 1 ? x->dim[x->rank - 2] : 1;
    else if (!h->anchors && x->rank == 3 && h->n_levels && h->reg_at[0] == h->class_at[0])
        h->anchors = x->dim[1];
}

pq_status pq_head_check(pq_ctx *ctx, const pq_head *head, const pq_graph *g)
{
    pq_head_level level[PQ_HEAD_LEVELS];
    pq_shape shape[2 * PQ_HEAD_LEVELS];
    int n;
    if (g->n_outputs > 2 * PQ_HEAD_LEVELS)
        return pq_fail(ctx, PQ_E_UNSUPPORTED, "%zu outputs, at most %d", g->n_outputs,
                       2 * PQ_HEAD_LEVELS);
    for (size_t i = 0; i < g->n_outputs; i++) shape[i] = g->value[g->output[i]].shape;
    switch (head->family) {
    case PQ_HEAD_DAMO:
    case PQ_HEAD_YOLOX: return PQ_OK; /* recognised by the very shapes */
    case PQ_HEAD_BOXES: return pq_boxes_check(ctx, head, shape, g->n_outputs);
    default: return pq_head_layout(ctx, level, &n, head, shape, g->n_outputs);
    }
}

pq_status pq_head_detect(pq_ctx *ctx, pq_head *out, const pq_graph *g)
{
    enum { MAX_SIDE = 1 << 20 };
    char text[512] = "none";
    seen s = {.g = g, .n = g->n_outputs};
    const pq_shape *in = g->n_inputs == 1 ? &g->value[g->input[0]].shape : NULL;
    memset(out, 0, sizeof *out);
    if (s.n > 2 * PQ_HEAD_LEVELS) s.n = 2 * PQ_HEAD_LEVELS;
    for (size_t i = 0; i < s.n; i++) {
        s.shape[i] = &g->value[g->output[i]].shape;
        s.name[i] = g->value[g->output[i]].name;
    }
    if (in && in->rank == 4 && (in->dim[1] == 1 || in->dim[1] == 3) && in->dim[2] > 0 &&
        in->dim[3] > 0 && in->dim[2] <= MAX_SIDE && in->dim[3] <= MAX_SIDE && s.n == g->n_outputs &&
        s.n) {
        s.h = (int)in->dim[2];
        s.w = (int)in->dim[3];
        if (as_damo(out, &s) || as_list(out, &s) || as_maps(out, &s) || as_pairs(out, &s) ||
            as_boxes(out, &s)) {
            finish(out, &s, in);
            return pq_head_check(ctx, out, g);
        }
    }
    memset(out, 0, sizeof *out);
    shapes_text(&s, text, sizeof text);
    return pq_fail(ctx, PQ_E_UNSUPPORTED,
                   "detection head of %s with %zu inputs and outputs %s is not known, expected one "
                   "image and the outputs of a DAMO-YOLO, YOLOX, YOLOv5 to v11, NanoDet, PicoDet, "
                   "FastestV2 or of boxes: name the decoding in a sidecar (pquant inspect)",
                   g->family ? g->family : "unknown family", g->n_inputs, text);
}
