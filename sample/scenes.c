/* pquant-scenes: draws scenes and writes them with COCO annotations. DIR/images/000001.png … (or,
 * with --raw, all pixels in DIR/pixels.u8), DIR/instances.json. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/parallel.h"
#include "scene.h"

enum { MOST_SCENES = 1000000, PIXEL_BYTES = SCENE_SIDE * SCENE_SIDE * 3 };

typedef struct job {
    uint64_t seed, count, threads;
    const char *out;
    bool raw;
    char *images;   /* folder */
    FILE *pixels;   /* --raw */
    uint8_t *block; /* --raw: [BLOCK, PIXEL_BYTES] */
    uint64_t first; /* of the block */
    scene *scene;
    char (*hash)[65];
    scene_scratch **work; /* by worker */
} job;

enum { BLOCK = 64 }; /* scenes drawn between two writes of raw pixels */

static pq_status draw_one(pq_ctx *ctx, void *user, size_t item, int worker)
{
    job *j = user;
    const uint64_t i = j->first + item;
    char name[32], *path = NULL;
    pq_image img = {0};
    pq_sha256 sha;
    pq_status st;
    if (!j->work[worker]) PQ_TRY(pq_alloc(ctx, &j->work[worker], 1, sizeof **j->work));
    PQ_TRY(pq_image_new(ctx, &img, SCENE_SIDE, SCENE_SIDE));
    scene_draw(&j->scene[i], &img, j->work[worker], j->seed, i);
    pq_sha256_init(&sha);
    pq_sha256_add(&sha, img.data, PIXEL_BYTES);
    pq_sha256_hex(&sha, j->hash[i]);
    if (j->raw)
        memcpy(j->block + item * PIXEL_BYTES, img.data, PIXEL_BYTES);
    else {
        snprintf(name, sizeof name, "%06llu.png", (unsigned long long)(i + 1));
        PQ_TRY(pq_path_join(ctx, &path, j->images, name));
        st = pq_image_save(ctx, &img, path);
    }
out:
    pq_free(path);
    pq_image_clear(&img);
    return st;
}

static pq_status draw_raw(pq_ctx *ctx, job *j, int threads)
{
    pq_out out = {0};
    char *path = NULL;
    pq_status st;
    PQ_TRY(pq_path_join(ctx, &path, j->out, "pixels.u8"));
    PQ_TRY(pq_alloc(ctx, &j->block, BLOCK, PIXEL_BYTES));
    PQ_TRY(pq_out_open(ctx, &out, path));
    for (j->first = 0; st == PQ_OK && j->first < j->count; j->first += BLOCK) {
        const uint64_t left = j->count - j->first, n = left < BLOCK ? left : BLOCK;
        st = pq_parallel(ctx, NULL, threads, n, draw_one, j);
        if (st == PQ_OK) fwrite(j->block, PIXEL_BYTES, n, out.f); /* errors are sticky */
    }
    if (st == PQ_OK)
        st = pq_out_commit(ctx, &out);
    else
        pq_out_abort(&out);
out:
    pq_free(j->block);
    pq_free(path);
    return st;
}

/* ---- annotations ---- */

static bool add_number(cJSON *o, const char *key, double v)
{
    return cJSON_AddNumberToObject(o, key, v) != NULL;
}

/* A fresh object at the end of a list; NULL without memory. */
static cJSON *append(cJSON *list)
{
    cJSON *o = cJSON_CreateObject();
    if (cJSON_AddItemToArray(list, o)) return o;
    cJSON_Delete(o);
    return NULL;
}

static bool add_annotation(cJSON *list, const scene_object *o, uint64_t image, size_t id)
{
    const int box[4] = {o->x, o->y, o->w, o->h};
    cJSON *a = append(list);
    return a && add_number(a, "id", (double)id) && add_number(a, "image_id", (double)image) &&
           add_number(a, "category_id", o->cls + 1) &&
           cJSON_AddItemToObject(a, "bbox", cJSON_CreateIntArray(box, 4)) &&
           add_number(a, "area", o->area) && add_number(a, "iscrowd", o->crowd);
}

static bool add_image(cJSON *list, uint64_t id)
{
    char name[32];
    cJSON *o = append(list);
    snprintf(name, sizeof name, "%06llu.png", (unsigned long long)id);
    return o && add_number(o, "id", (double)id) && cJSON_AddStringToObject(o, "file_name", name) &&
           add_number(o, "width", SCENE_SIDE) && add_number(o, "height", SCENE_SIDE);
}

static bool add_category(cJSON *list, int cls)
{
    cJSON *o = append(list);
    return o && add_number(o, "id", cls + 1) &&
           cJSON_AddStringToObject(o, "name", scene_class_name[cls]);
}

/* The instances_*.json kind. *n_objects: how many were written. */
static pq_status save_annotations(pq_ctx *ctx, size_t *n_objects, const job *j)
{
    char *path = NULL;
    cJSON *doc = cJSON_CreateObject();
    cJSON *images = cJSON_AddArrayToObject(doc, "images");
    cJSON *annotations = cJSON_AddArrayToObject(doc, "annotations");
    cJSON *categories = cJSON_AddArrayToObject(doc, "categories");
    bool ok = images && annotations && categories;
    pq_status st;
    *n_objects = 0;
    for (uint64_t i = 0; ok && i < j->count; i++) {
        ok = add_image(images, i + 1);
        for (int k = 0; ok && k < j->scene[i].n; k++)
            ok = add_annotation(annotations, &j->scene[i].object[k], i + 1, ++*n_objects);
    }
    for (int k = 0; ok && k < SCENE_CLASSES; k++) ok = add_category(categories, k);
    PQ_TRY(pq_json_check(ctx, ok ? doc : NULL));
    PQ_TRY(pq_path_join(ctx, &path, j->out, "instances.json"));
    st = pq_json_save(ctx, doc, path);
out:
    pq_free(path);
    cJSON_Delete(doc);
    return st;
}

/* ---- the command ---- */

/* Hash of the scenes' hashes, in order. */
static void hash_all(const job *j, char hex[65])
{
    pq_sha256 sha;
    pq_sha256_init(&sha);
    for (uint64_t i = 0; i < j->count; i++) pq_sha256_add(&sha, j->hash[i], 64);
    pq_sha256_hex(&sha, hex);
}

static pq_status draw_all(pq_ctx *ctx, job *j)
{
    char hex[65];
    size_t n_objects;
    pq_status st;
    pq_ctx_set_threads(ctx, (int)j->threads);
    const int threads = pq_ctx_threads(ctx);
    PQ_TRY(pq_alloc(ctx, &j->scene, j->count, sizeof *j->scene));
    PQ_TRY(pq_alloc(ctx, &j->hash, j->count, sizeof *j->hash));
    PQ_TRY(pq_alloc(ctx, &j->work, (size_t)threads, sizeof *j->work));
    PQ_TRY(pq_path_join(ctx, &j->images, j->out, "images"));
    PQ_TRY(pq_dir_make(ctx, j->raw ? j->out : j->images));
    PQ_TRY(j->raw ? draw_raw(ctx, j, threads)
                  : pq_parallel(ctx, NULL, threads, j->count, draw_one, j));
    PQ_TRY(save_annotations(ctx, &n_objects, j));
    hash_all(j, hex);
    printf("%llu scenes, %zu objects, pixels %s\n", (unsigned long long)j->count, n_objects, hex);
out:
    for (int i = 0; j->work && i < threads; i++) pq_free(j->work[i]);
    pq_free(j->work);
    pq_free(j->images);
    pq_free(j->hash);
    pq_free(j->scene);
    return st;
}

static const char usage[] =
    "usage: pquant-scenes --seed S --count N --out DIR [--raw] [--threads N]\n"
    "\n"
    "Draws scenes of textured shapes, 416 x 416 pixels, with COCO annotations. A seed gives the\n"
    "same pixels on every machine, and scene i is the same whatever the count.\n"
    "\n"
    "  --seed S      which scenes\n"
    "  --count N     how many\n"
    "  --out DIR     gets images/000001.png … and instances.json\n"
    "  --raw         all pixels [N, 416, 416, 3] in DIR/pixels.u8 instead of PNG files\n"
    "  --threads N   default: all\n"
    "  --help        this text\n";

static bool number(uint64_t *out, const char *text, uint64_t most)
{
    char *end;
    errno = 0;
    *out = strtoull(text, &end, 10);
    return *text >= '0' && *text <= '9' && !*end && !errno && *out <= most;
}

/* -1, or the exit status. */
static int parse(job *j, int argc, char **argv)
{
    bool seeded = false;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : "";
        bool ok = false;
        if (strcmp(a, "--help") == 0) {
            fputs(usage, stdout);
            return 0;
        }
        if (strcmp(a, "--raw") == 0) {
            j->raw = true;
            continue;
        }
        if (strcmp(a, "--seed") == 0)
            ok = seeded = number(&j->seed, v, UINT64_MAX);
        else if (strcmp(a, "--count") == 0)
            ok = number(&j->count, v, MOST_SCENES) && j->count > 0;
        else if (strcmp(a, "--threads") == 0)
            ok = number(&j->threads, v, 1024);
        else if (strcmp(a, "--out") == 0)
            ok = *(j->out = v) != 0;
        if (!ok) {
            fprintf(stderr, "pquant-scenes: '%s %s' is not understood; see --help\n", a, v);
            return 2;
        }
        i++;
    }
    if (seeded && j->count && j->out) return -1;
    fputs("pquant-scenes: --seed, --count and --out are needed; see --help\n", stderr);
    return 2;
}

int main(int argc, char **argv)
{
    pq_ctx *ctx;
    job j = {0};
    const int rc = parse(&j, argc, argv);
    if (rc >= 0) return rc;
    if (pq_ctx_new(&ctx) != PQ_OK) return 1;
    const pq_status st = draw_all(ctx, &j);
    if (st != PQ_OK) fprintf(stderr, "pquant-scenes: %s\n", pq_ctx_error(ctx));
    pq_ctx_free(ctx);
    return st != PQ_OK;
}
