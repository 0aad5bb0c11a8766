/* detect MODEL.pqe PICTURE: prints the boxes that the model finds in a JPEG or PNG picture. */
#include <pquant/pquant.h>
#include <stdio.h>

static int detect(pq_ctx *ctx, const char *model, const char *picture)
{
    pq_graph *graph = NULL;
    pq_plan *plan = NULL;
    const pq_engine *engine;
    pq_session *session = NULL;
    pq_head head;
    pq_prep prep;
    pq_image image = {0};
    pq_detector *detector = NULL;
    pq_detections found = {0};
    int failed = 1;

    if (pq_pqe_load(ctx, &graph, &plan, model) != PQ_OK) goto out;
    if (pq_engine_find(ctx, &engine, "cpu") != PQ_OK) goto out;
    if (pq_compile(ctx, &session, engine, graph, plan, NULL) != PQ_OK) goto out;
    if (pq_head_detect(ctx, &head, graph) != PQ_OK) goto out;
    pq_head_prep(&prep, &head);
    if (pq_detector_new(ctx, &detector, session, &prep, &head) != PQ_OK) goto out;

    /* From here on for each picture. */
    if (pq_image_load(ctx, &image, picture) != PQ_OK) goto out;
    if (pq_detector_images(ctx, detector, &found, &image, 1, &(int64_t){0}) != PQ_OK) goto out;
    for (size_t i = 0; i < found.n && found.at[i].score > 0.3; i++)
        printf("class %d, score %.3f: left %.1f, top %.1f, width %.1f, height %.1f\n",
               (int)found.at[i].cls, found.at[i].score, found.at[i].x, found.at[i].y, found.at[i].w,
               found.at[i].h);
    failed = 0;
out:
    if (failed) fprintf(stderr, "detect: %s\n", pq_ctx_error(ctx));
    pq_detections_clear(&found);
    pq_image_clear(&image);
    pq_detector_free(detector);
    pq_session_free(session);
    pq_plan_free(plan);
    pq_graph_free(graph);
    return failed;
}

int main(int argc, char **argv)
{
    pq_ctx *ctx;
    if (argc != 3) return fputs("usage: detect MODEL.pqe PICTURE\n", stderr), 2;
    if (pq_ctx_new(&ctx) != PQ_OK) return 1;
    const int failed = detect(ctx, argv[1], argv[2]);
    pq_ctx_free(ctx);
    return failed;
}
