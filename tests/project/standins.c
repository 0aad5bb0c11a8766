/* Stand-ins for the files that the documentation's commands name, so that the commands can be run
 * in seconds and without any download: a detector of a few layers as yolox_nano.onnx, pictures with
 * annotations that it reproduces, and a picture.jpg. Usage: pquant_standins FOLDER */
#include "support/tiny.h"

#include <pquant/pquant.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"

enum { PICTURES = 6 };

static const char *in(const char *folder, const char *name)
{
    static char path[2][1024];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static void move(const char *folder, const char *from, const char *to)
{
    if (rename(in(folder, from), in(folder, to)) != 0) {
        perror(to);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    pq_ctx *ctx;
    pq_plan *plan;
    pq_image picture;
    if (argc != 2) return 2;
    const char *folder = argv[1];
    if (pq_ctx_new(&ctx) != PQ_OK) return 1;
    PQ_CHECK(ctx, pq_dir_make(ctx, folder));
    pq_graph *g = tiny_detector(ctx, TINY_YOLOX);
    PQ_CHECK(ctx, pq_plan_float(ctx, &plan, g, PQ_PREC_FP32));
    PQ_CHECK(ctx, pq_export_onnx_file(ctx, in(folder, "yolox_nano.onnx"), g, plan, NULL));
    tiny_data(ctx, folder, g, 0, PICTURES);
    move(folder, "images", "val2017");
    move(folder, "ann.json", "instances_val2017.json");
    tiny_data(ctx, folder, g, PICTURES, PICTURES);
    move(folder, "images", "train2017");
    move(folder, "ann.json", "instances_train2017.json");
    tiny_picture(ctx, &picture, 0);
    PQ_CHECK(ctx, pq_image_save(ctx, &picture, in(folder, "picture.jpg")));
    pq_image_clear(&picture);
    pq_plan_free(plan);
    pq_graph_free(g);
    pq_ctx_free(ctx);
    return 0;
}
