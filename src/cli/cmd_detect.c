/* pquant detect: boxes of pictures, listed, drawn or as COCO results. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/mem.h"
#include "cli/cli.h"

enum { MAX_WORDS = 4096 };
static const double least_drawn = 0.3; /* what people want to see, unless --conf-thres says */

typedef struct options {
    cli_common c;
    const char *precision, *out, *coco;
} options;

typedef struct work {
    const options *o;
    cli_model m;
    pq_coco *coco; /* of --ann */
    pq_session *session;
    pq_detector *detector;
    char **path; /* pictures */
    size_t n_paths, room;
    const char **name; /* per class, or category of --ann */
    size_t n_names;
    cJSON *json;
    pq_detections all; /* for --coco */
} work;

static void clear(work *w)
{
    for (size_t i = 0; i < w->n_paths; i++) pq_free(w->path[i]);
    pq_free(w->path);
    pq_free(w->name);
    pq_detector_free(w->detector);
    pq_session_free(w->session);
    pq_detections_clear(&w->all);
    cJSON_Delete(w->json);
    pq_coco_free(w->coco);
    cli_model_clear(&w->m);
}

/* ---- pictures and names ---- */

static pq_status add_path(pq_ctx *ctx, work *w, const char *path)
{
    pq_status st;
    if (w->n_paths == w->room) {
        const size_t room = 2 * w->room + 64;
        if ((st = pq_grow(ctx, &w->path, w->n_paths, room, sizeof *w->path)) != PQ_OK) return st;
        w->room = room;
    }
    st = pq_strdup(ctx, &w->path[w->n_paths], path);
    if (st == PQ_OK) w->n_paths++;
    return st;
}

static pq_status add_word(pq_ctx *ctx, work *w, const char *word)
{
    pq_dataset *d;
    if (!pq_file_is_dir(word)) return add_path(ctx, w, word);
    pq_status st = pq_dataset_from_folder(ctx, &d, word, 0);
    if (st != PQ_OK) return st;
    for (size_t i = 0; st == PQ_OK && i < d->n; i++) st = add_path(ctx, w, d->sample[i].path);
    pq_dataset_free(d);
    return st;
}

/* From --ann, else the model's own. */
static pq_status find_names(pq_ctx *ctx, work *w)
{
    pq_status st = PQ_OK;
    if (w->o->c.ann) {
        PQ_TRY(pq_coco_load(ctx, &w->coco, w->o->c.ann));
        PQ_TRY(cli_match_classes(ctx, &w->m, w->coco));
    }
    const size_t n = (size_t)w->m.head.n_classes;
    w->n_names = w->coco && w->coco->n_categories > n ? w->coco->n_categories : n;
    PQ_TRY(pq_alloc(ctx, &w->name, w->n_names, sizeof *w->name));
    for (size_t i = 0; i < w->n_names; i++) {
        if (w->coco)
            w->name[i] = i < w->coco->n_categories ? w->coco->category[i].name : NULL;
        else if (w->m.class_name)
            w->name[i] = w->m.class_name[i];
    }
out:
    return st;
}

static const char *label(const work *w, int cls, char text[16])
{
    if (w->name[cls]) return w->name[cls];
    snprintf(text, 16, "%d", cls);
    return text;
}

/* As in the annotations, else the number that the file is called by. */
static int64_t image_id(const work *w, const char *path)
{
    const char *name = pq_path_base(path);
    char *end;
    for (size_t i = 0; w->coco && i < w->coco->n_images; i++)
        if (strcmp(pq_path_base(w->coco->image[i].file_name), name) == 0)
            return w->coco->image[i].id;
    const long long id = strtoll(name, &end, 10);
    return end != name && *end == '.' && id >= 0 ? (int64_t)id : -1;
}

/* ---- one picture ---- */

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static bool names_picture(const char *path)
{
    const char *dot = strrchr(pq_path_base(path), '.');
    return dot && (strcasecmp(dot, ".png") == 0 || strcasecmp(dot, ".jpg") == 0 ||
                   strcasecmp(dot, ".jpeg") == 0);
}

/* OUT itself where it names a picture, else a file of the same name in that folder. */
static pq_status draw(pq_ctx *ctx, work *w, pq_image *img, const pq_detections *found,
                      const char *path)
{
    const char *out = w->o->out;
    const double least = w->o->c.conf >= 0 ? w->m.head.conf : least_drawn;
    size_t n = 0;
    char *to = NULL;
    pq_status st;
    while (n < found->n && found->at[n].score > least) n++; /* best first */
    PQ_TRY(pq_draw(ctx, img, found->at, n, w->name, w->n_names));
    PQ_TRY(names_picture(out) ? pq_strdup(ctx, &to, out)
                              : pq_path_join(ctx, &to, out, pq_path_base(path)));
    if (same_file(to, path))
        st = pq_fail(ctx, PQ_E_INVALID, "%s: the picture itself, expected another place to draw to",
                     to);
    else
        st = pq_image_save(ctx, img, to);
out:
    pq_free(to);
    return st;
}

static void print_found(const work *w, const pq_detections *found, const char *path)
{
    char text[16];
    for (size_t i = 0; i < found->n; i++) {
        const pq_detection *d = &found->at[i];
        printf("%s: %s %.3f at %.1f %.1f, %.1f x %.1f\n", path, label(w, d->cls, text), d->score,
               d->x, d->y, d->w, d->h);
    }
}

static bool add_found(work *w, const pq_detections *found, const char *path)
{
    cJSON *o = cJSON_CreateObject(), *list = NULL;
    char text[16];
    bool ok = cJSON_AddItemToArray(w->json, o) && cJSON_AddStringToObject(o, "file", path) &&
              (list = cJSON_AddArrayToObject(o, "detections")) != NULL;
    for (size_t i = 0; ok && i < found->n; i++) {
        const pq_detection *d = &found->at[i];
        const double box[4] = {d->x, d->y, d->w, d->h};
        cJSON *e = cJSON_CreateObject();
        ok = cJSON_AddItemToArray(list, e) && cJSON_AddNumberToObject(e, "label", d->cls) &&
             cJSON_AddStringToObject(e, "class", label(w, d->cls, text)) &&
             cJSON_AddNumberToObject(e, "score", d->score) &&
             cJSON_AddItemToObject(e, "box", cJSON_CreateDoubleArray(box, 4));
    }
    return ok;
}

static pq_status one_picture(pq_ctx *ctx, work *w, const char *path)
{
    pq_image img = {0};
    pq_detections found = {0};
    const int64_t id = image_id(w, path);
    pq_status st;
    if (w->o->coco && id < 0) {
        st = pq_fail(ctx, PQ_E_INVALID,
                     "%s: no image id, expected one in --ann or a number as name", path);
        goto out;
    }
    PQ_TRY(pq_image_load(ctx, &img, path));
    PQ_TRY(pq_detector_images(ctx, w->detector, &found, &img, 1, &id));
    if (w->o->out) PQ_TRY(draw(ctx, w, &img, &found, path));
    if (w->o->c.json)
        PQ_TRY(add_found(w, &found, path) ? PQ_OK : pq_json_check(ctx, NULL));
    else
        print_found(w, &found, path);
    for (size_t i = 0; w->o->coco && i < found.n; i++)
        PQ_TRY(pq_detections_push(ctx, &w->all, &found.at[i]));
out:
    pq_image_clear(&img);
    pq_detections_clear(&found);
    return st;
}

/* ---- all of it ---- */

static pq_status compile(pq_ctx *ctx, work *w)
{
    const options *o = w->o;
    const pq_compile_opts opts = {.threads = (int)o->c.threads, .min_score = (float)w->m.head.conf};
    const pq_engine *engine;
    cli_calibration calibration = {0};
    pq_plan *plan = NULL;
    pq_status st;
    PQ_TRY(pq_engine_find(ctx, &engine, o->c.engine));
    if (o->precision || !w->m.plan)
        PQ_TRY(cli_plan(ctx, &plan, o->precision ? o->precision : "fp32", &w->m, &o->c, engine,
                        &calibration, NULL));
    PQ_TRY(pq_compile(ctx, &w->session, engine, w->m.graph, plan ? plan : w->m.plan, &opts));
    st = pq_detector_new(ctx, &w->detector, w->session, &w->m.prep, &w->m.head);
out:
    pq_plan_free(plan);
    cli_calibration_clear(&calibration);
    return st;
}

static pq_status detect(pq_ctx *ctx, work *w, const char **word, size_t n_words)
{
    const options *o = w->o;
    pq_status st;
    PQ_TRY(cli_model_load(ctx, &w->m, word[0], &o->c));
    PQ_TRY(cli_need_head(ctx, &w->m));
    for (size_t i = 1; i < n_words; i++) PQ_TRY(add_word(ctx, w, word[i]));
    if (o->out && names_picture(o->out) && w->n_paths > 1) {
        st = pq_fail(ctx, PQ_E_INVALID, "%s: one picture for %zu, expected a folder", o->out,
                     w->n_paths);
        goto out;
    }
    PQ_TRY(find_names(ctx, w));
    if (o->out && !names_picture(o->out)) PQ_TRY(pq_dir_make(ctx, o->out));
    if (o->c.json) {
        w->json = cJSON_CreateArray();
        PQ_TRY(pq_json_check(ctx, w->json));
    }
    PQ_TRY(compile(ctx, w));
    for (size_t i = 0; i < w->n_paths; i++) {
        PQ_TRY(pq_progress(ctx, "detect", i, w->n_paths));
        PQ_TRY(one_picture(ctx, w, w->path[i]));
    }
    PQ_TRY(pq_progress(ctx, "detect", w->n_paths, w->n_paths));
    if (o->coco) st = pq_detections_save(ctx, &w->all, w->coco, w->m.head.n_classes, o->coco);
out:
    return st;
}

int cmd_detect(int argc, char **argv)
{
    static const char *word[MAX_WORDS];
    options o = {0};
    work w = {.o = &o};
    size_t n_words;
    pq_ctx *ctx;
    cli_common_init(&o.c);
    const cli_opt opt[] = {
        {"--precision", CLI_TEXT, &o.precision, "P",
         "fp32, bf16, fp16, int8 or a plan.json (default fp32, of a .pqe its plan)"},
        {"-o", CLI_TEXT, &o.out, "OUT",
         "draw into this folder or picture: boxes above 0.3, or above --conf-thres"},
        {"--coco", CLI_TEXT, &o.coco, "FILE", "write COCO results"},
        {"--ann", CLI_TEXT, &o.c.ann, "COCO.json", "names of classes, ids of images"},
        CLI_OPT_ENGINE(o.c),
        CLI_OPT_CALIB(o.c),
        CLI_OPT_HEAD(o.c),
        CLI_OPT_MODEL(o.c),
        CLI_OPT_JSON(o.c)};
    int rc = cli_parse("detect", "MODEL IMAGE|FOLDER ... [-o OUT] [options]", opt,
                       sizeof opt / sizeof *opt, argc, argv, word, MAX_WORDS, &n_words);
    if (rc >= 0) return rc;
    if (n_words < 1) return cli_usage("detect", "no MODEL given");
    if (n_words < 2) return cli_usage("detect", "no IMAGE given");
    if (o.precision && (rc = cli_check_precisions("detect", o.precision, &o.c)) >= 0) return rc;
    if ((rc = cli_check_engines("detect", o.c.engine)) >= 0) return rc;
    if (cli_context_for(&ctx, &o.c) != PQ_OK) return CLI_FAILED;
    const pq_status st = detect(ctx, &w, word, n_words);
    if (st != PQ_OK)
        rc = cli_fail(ctx, st);
    else if (o.c.json) {
        rc = cli_print_json(ctx, w.json);
        w.json = NULL;
    } else
        rc = CLI_DONE;
    clear(&w);
    pq_ctx_free(ctx);
    return rc;
}
