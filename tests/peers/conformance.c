/*
 * One plan on every engine that is here: a row of a Markdown table each.
 *   conformance MODEL PLAN SHARED [BOUND [REF_IMAGES]]
 * PLAN: int8, a preset (tiny, small, medium) or a plan.json. The first two are calibrated on 64 of
 * SHARED's calibration images, u8, and given twice: as made, and with outputs rounded.
 * Outputs are compared with ref's on a few images: the largest and the mean difference of each
 * output tensor, by the largest element of ref's. AP is over all images; its difference is to
 * cpu's. ref is slow: it gets a row, over the first REF_IMAGES images (0 or left out: no row),
 * beside cpu's AP over the same. Exit status 3 where a difference is beyond BOUND.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pquant/pquant.h>

#include "base/file.h"
#include "base/mem.h"

enum { IMAGES_AGAINST_REF = 2, CALIBRATION_IMAGES = 64, MAX_OUTPUTS = 4 };

typedef struct work {
    pq_ctx *ctx;
    const char *model; /* its file's name */
    pq_graph *g;
    pq_head head;
    pq_prep prep;
    pq_coco *coco;
    pq_dataset *images;
    pq_tensor *truth[IMAGES_AGAINST_REF]; /* ref's outputs */
    pq_session *ref;
    double bound;
    size_t ref_images;
    bool beyond;
} work;

static pq_status load(work *w, const char *model, const char *shared)
{
    pq_ctx *ctx = w->ctx;
    char *ann = NULL, *folder = NULL;
    pq_status st;
    PQ_TRY(pq_asprintf(ctx, &ann, "%s/coco128/annotations/instances_val2017.json", shared));
    PQ_TRY(pq_asprintf(ctx, &folder, "%s/coco128/images/val2017", shared));
    PQ_TRY(pq_read(ctx, &w->g, model, NULL));
    PQ_TRY(pq_pass_all(ctx, w->g));
    pq_graph_seal(w->g);
    PQ_TRY(pq_head_detect(ctx, &w->head, w->g));
    pq_head_prep(&w->prep, &w->head);
    PQ_TRY(pq_coco_load(ctx, &w->coco, ann));
    st = pq_dataset_from_coco(ctx, &w->images, w->coco, folder, 0);
out:
    pq_free(ann);
    pq_free(folder);
    return st;
}

static pq_status calibrate(work *w, pq_ranges **out, const char *shared)
{
    const pq_engine *cpu;
    pq_dataset *images = NULL;
    char *folder = NULL;
    pq_status st;
    PQ_TRY(pq_asprintf(w->ctx, &folder, "%s/coco128/images/train2017", shared));
    PQ_TRY(pq_dataset_from_folder(w->ctx, &images, folder, CALIBRATION_IMAGES));
    PQ_TRY(pq_engine_find(w->ctx, &cpu, "cpu"));
    st = pq_calibrate(w->ctx, out, cpu, w->g, images, &w->prep, NULL);
out:
    pq_dataset_free(images);
    pq_free(folder);
    return st;
}

static pq_status make_plan(work *w, pq_plan **out, const char *word, const pq_ranges *r)
{
    const size_t n = pq_graph_quantizable_count(w->g);
    bool *int8;
    pq_status st = pq_alloc(w->ctx, &int8, n, 1);
    if (st != PQ_OK) return st;
    if (strcmp(word, "int8") == 0)
        memset(int8, 1, n);
    else
        st = pq_preset(w->ctx, int8, n, word);
    if (st == PQ_OK) st = pq_plan_make(w->ctx, out, w->g, r, int8, PQ_SCHEME_U8, PQ_PREC_FP32);
    pq_free(int8);
    return st;
}

/* Input number i of the data set. */
static pq_status input(work *w, pq_tensor *in, size_t i)
{
    pq_image img = {0};
    pq_status st = pq_tensor_new(w->ctx, in, PQ_F32, &w->g->value[w->g->input[0]].shape);
    if (st == PQ_OK) st = pq_image_load(w->ctx, &img, w->images->sample[i].path);
    if (st == PQ_OK) st = pq_preprocess(w->ctx, pq_tensor_data(in), NULL, &img, &w->prep);
    pq_image_clear(&img);
    return st;
}

static pq_status run(work *w, pq_session *s, size_t i, pq_tensor **out)
{
    pq_tensor in = {0};
    pq_status st = input(w, &in, i);
    if (st == PQ_OK) st = pq_session_outputs(w->ctx, out, s);
    if (st == PQ_OK) st = pq_run(w->ctx, s, &in, 1, *out, s->n_outputs);
    pq_tensor_clear(&in);
    return st;
}

static void compare(const pq_tensor *a, const pq_tensor *b, double *worst, double *mean)
{
    const float *x = pq_tensor_data(a), *y = pq_tensor_data(b);
    const int64_t n = pq_shape_count(&a->shape);
    double top = 1e-30, most = 0, sum = 0;
    for (int64_t i = 0; i < n; i++) {
        const double d = fabs((double)x[i] - (double)y[i]);
        top = fmax(top, fabs((double)x[i]));
        most = fmax(most, d);
        sum += d;
    }
    *worst = fmax(*worst, most / top);
    *mean = fmax(*mean, n ? sum / (double)n / top : 0);
}

/* AP over the first n images. */
static pq_status average_precision(work *w, pq_session *s, size_t n, double *ap)
{
    const pq_dataset images = {.sample = w->images->sample, .n = n};
    pq_detections list = {0};
    pq_eval_matches *m = NULL;
    int64_t *id = NULL;
    pq_status st;
    PQ_TRY(pq_alloc(w->ctx, &id, n, sizeof *id));
    for (size_t i = 0; i < n; i++) id[i] = images.sample[i].id;
    PQ_TRY(pq_detect_dataset(w->ctx, &list, s, &images, &w->prep, &w->head, "evaluate"));
    PQ_TRY(pq_eval_match(w->ctx, &m, w->coco, list.at, list.n, id, n));
    st = pq_eval_ap(w->ctx, ap, m, NULL);
out:
    pq_eval_free(m);
    pq_detections_clear(&list);
    pq_free(id);
    return st;
}

/* ref's row: its AP over a few images, and how far that is from cpu's over the same. */
static pq_status ref_row(work *w, const char *label, const pq_plan *plan)
{
    const size_t n = plan->rounds_outputs           ? 0
                     : w->ref_images < w->images->n ? w->ref_images
                                                    : w->images->n;
    const pq_engine *cpu;
    pq_session *s = NULL;
    double ap = 0, cpu_ap = 0;
    pq_status st = PQ_OK;
    if (n == 0) return st;
    PQ_TRY(pq_engine_find(w->ctx, &cpu, "cpu"));
    PQ_TRY(pq_compile(w->ctx, &s, cpu, w->g, plan, NULL));
    PQ_TRY(average_precision(w, s, n, &cpu_ap));
    PQ_TRY(average_precision(w, w->ref, n, &ap));
    printf("| %s | %s | ref, %zu images | | %.4f | %+.4f |\n", w->model, label, n, ap, ap - cpu_ap);
    fflush(stdout);
    w->beyond = w->beyond || fabs(ap - cpu_ap) > w->bound;
out:
    pq_session_free(s);
    return st;
}

static pq_status row(work *w, const char *label, const pq_engine *e, const pq_plan *plan,
                     double *cpu_ap)
{
    double worst[MAX_OUTPUTS] = {0}, mean[MAX_OUTPUTS] = {0}, ap;
    pq_session *s = NULL;
    pq_status st;
    PQ_TRY(pq_compile(w->ctx, &s, e, w->g, plan, NULL));
    for (size_t i = 0; i < IMAGES_AGAINST_REF; i++) {
        pq_tensor *out = NULL;
        st = run(w, s, i, &out);
        for (size_t k = 0; st == PQ_OK && k < s->n_outputs && k < MAX_OUTPUTS; k++)
            compare(&w->truth[i][k], &out[k], &worst[k], &mean[k]);
        pq_session_outputs_free(out, s);
        if (st != PQ_OK) goto out;
    }
    PQ_TRY(average_precision(w, s, w->images->n, &ap));
    if (isnan(*cpu_ap)) *cpu_ap = ap;
    printf("| %s | %s | %s |", w->model, label, e->name);
    for (size_t k = 0; k < s->n_outputs && k < MAX_OUTPUTS; k++)
        printf(" %s %.1e, %.1e%s", s->output_name[k], worst[k], mean[k],
               k + 1 < s->n_outputs ? ";" : "");
    printf(" | %.4f | %+.4f |\n", ap, ap - *cpu_ap);
    fflush(stdout);
    w->beyond = w->beyond || fabs(ap - *cpu_ap) > w->bound;
out:
    pq_session_free(s);
    return st;
}

static pq_status truth(work *w, const pq_plan *plan)
{
    const pq_engine *ref;
    pq_status st;
    PQ_TRY(pq_engine_find(w->ctx, &ref, "ref"));
    PQ_TRY(pq_compile(w->ctx, &w->ref, ref, w->g, plan, NULL));
    for (size_t i = 0; i < IMAGES_AGAINST_REF; i++) PQ_TRY(run(w, w->ref, i, &w->truth[i]));
out:
    return st;
}

static void forget(work *w)
{
    for (size_t i = 0; i < IMAGES_AGAINST_REF; i++) {
        pq_session_outputs_free(w->truth[i], w->ref);
        w->truth[i] = NULL;
    }
    pq_session_free(w->ref);
    w->ref = NULL;
}

static pq_status rows(work *w, const char *label, const pq_plan *plan)
{
    static const char *const names[] = {"cpu", "openvino", "onnxruntime"};
    double cpu_ap = NAN;
    pq_status st = truth(w, plan);
    if (st == PQ_OK) st = ref_row(w, label, plan);
    for (size_t i = 0; i < sizeof names / sizeof *names && st == PQ_OK; i++) {
        const pq_engine *e;
        pq_engine_info info;
        st = pq_engine_find(w->ctx, &e, names[i]);
        if (st != PQ_OK) break;
        if (e->probe(w->ctx, &info) == PQ_OK)
            st = row(w, label, e, plan, &cpu_ap);
        else
            fprintf(stderr, "skipped: %s\n", pq_ctx_error(w->ctx));
    }
    forget(w);
    return st;
}

static pq_status both(work *w, const char *word, const char *shared)
{
    pq_ranges *r = NULL;
    pq_plan *plan = NULL;
    char *rounded = NULL;
    pq_status st;
    PQ_TRY(calibrate(w, &r, shared));
    PQ_TRY(make_plan(w, &plan, word, r));
    PQ_TRY(rows(w, word, plan));
    PQ_TRY(pq_plan_round_outputs(w->ctx, plan, w->g, r));
    PQ_TRY(pq_asprintf(w->ctx, &rounded, "%s, rounded", word));
    st = rows(w, rounded, plan);
out:
    pq_free(rounded);
    pq_plan_free(plan);
    pq_ranges_free(r);
    return st;
}

static pq_status one(work *w, const char *path)
{
    pq_plan *plan = NULL;
    pq_status st = pq_plan_load(w->ctx, &plan, path);
    if (st == PQ_OK) st = rows(w, plan->rounds_outputs ? "partial, rounded" : "partial", plan);
    pq_plan_free(plan);
    return st;
}

int main(int argc, char **argv)
{
    work w = {.bound = INFINITY};
    pq_status st;
    if (argc < 4 || argc > 6) {
        fprintf(stderr, "usage: conformance MODEL PLAN SHARED [BOUND [REF_IMAGES]]\n");
        return 2;
    }
    if (argc > 4) w.bound = strtod(argv[4], NULL);
    if (argc > 5) w.ref_images = strtoul(argv[5], NULL, 10);
    if (pq_ctx_new(&w.ctx) != PQ_OK) return 1;
    w.model = pq_path_base(argv[1]);
    st = load(&w, argv[1], argv[3]);
    if (st == PQ_OK) {
        puts("| model | plan | engine | outputs against ref: worst, mean | AP | to cpu |");
        puts("|---|---|---|---|---|---|");
        st = strstr(argv[2], ".json") ? one(&w, argv[2]) : both(&w, argv[2], argv[3]);
    }
    if (st != PQ_OK) fprintf(stderr, "conformance: %s\n", pq_ctx_error(w.ctx));
    pq_dataset_free(w.images);
    pq_coco_free(w.coco);
    pq_graph_free(w.g);
    pq_ctx_free(w.ctx);
    return st != PQ_OK ? 1 : w.beyond ? 3 : 0;
}
