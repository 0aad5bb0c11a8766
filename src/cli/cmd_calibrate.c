/* pquant calibrate: activation ranges from images. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "cli/cli.h"

static void print_table(const pq_ranges *r, const char *path)
{
    int width = 5;
    for (size_t i = 0; i < r->n; i++) {
        const int len = (int)strlen(r->range[i].name);
        if (len > width) width = len < 60 ? len : 60;
    }
    printf("%-*s %11s %11s %11s %11s %11s  %s\n", width, "value", "min", "max", "amax", "lo", "hi",
           "method");
    for (size_t i = 0; i < r->n; i++) {
        const pq_range *x = &r->range[i];
        printf("%-*s %11.5g %11.5g %11.5g %11.5g %11.5g  %s\n", width, x->name, (double)x->min,
               (double)x->max, (double)x->amax, (double)x->lo, (double)x->hi,
               pq_calibrator_name(x->method));
    }
    printf("\n%zu values from %zu images: %s\n", r->n, r->n_images, path);
}

/* The images that will be evaluated, where they are named: cli_ranges warns of an overlap. */
static pq_status evaluated(pq_ctx *ctx, cli_data *d, const cli_common *c)
{
    if (!c->data) return PQ_OK;
    if (c->ann) return cli_data_load(ctx, d, c);
    return pq_dataset_from_folder(ctx, &d->images, c->data, 0);
}

static pq_status calibrate(pq_ctx *ctx, cli_calibration *k, const char *model, const char *path,
                           const cli_common *c)
{
    cli_model m = {0};
    cli_data d = {0};
    char *journal = NULL;
    const pq_engine *engine;
    pq_status st;
    PQ_TRY(cli_beside_ranges(ctx, &journal, path, ".corrections.journal"));
    PQ_TRY(cli_model_load(ctx, &m, model, c));
    PQ_TRY(cli_try_writing(ctx, path));
    PQ_TRY(evaluated(ctx, &d, c));
    PQ_TRY(pq_engine_find(ctx, &engine, c->engine));
    PQ_TRY(cli_calibrate(ctx, k, &m, c, engine, d.images, journal));
    st = cli_calibration_save(ctx, k, path);
    if (st == PQ_OK) (void)remove(journal); /* it has served */
out:
    pq_free(journal);
    cli_data_clear(&d);
    cli_model_clear(&m);
    return st;
}

static int show(pq_ctx *ctx, const cli_calibration *k, const char *path, bool json)
{
    cJSON *doc;
    if (!json) {
        print_table(k->ranges, path);
        cli_print_corrections(k->corrections);
        return CLI_DONE;
    }
    const pq_status st = pq_json_load(ctx, &doc, path);
    return st == PQ_OK ? cli_print_json(ctx, doc) : cli_fail(ctx, st);
}

int cmd_calibrate(int argc, char **argv)
{
    cli_common c;
    const char *word[1], *path = "ranges.json";
    size_t n_words;
    pq_ctx *ctx;
    cli_calibration k = {0};
    cli_common_init(&c);
    const cli_opt opt[] = {
        {"--calib-data", CLI_TEXT, &c.calib_data, "IMAGES", "folder of calibration images"},
        {"--calib-images", CLI_INT, &c.calib_images, "N", "use the first N of them (default 128)"},
        {"--calibrator", CLI_TEXT, &c.calibrator, "NAME",
         "auto, max, percentile, entropy or mse (default auto)"},
        {"--scheme", CLI_TEXT, &c.scheme, "s8|u8",
         "that corrections are made for (default: the engine's)"},
        CLI_OPT_CORRECT(c),
        {"-o", CLI_TEXT, &path, "FILE", "where to write (default ranges.json)"},
        CLI_OPT_DATA(c),
        CLI_OPT_ENGINE(c),
        CLI_OPT_MODEL(c),
        CLI_OPT_JSON(c)};
    int rc = cli_parse("calibrate", "MODEL --calib-data IMAGES [-o ranges.json] [options]", opt,
                       sizeof opt / sizeof *opt, argc, argv, word, 1, &n_words);
    if (rc >= 0) return rc;
    if (n_words != 1) return cli_usage("calibrate", "no MODEL given");
    if (!c.calib_data) return cli_usage("calibrate", "--calib-data is needed");
    if ((rc = cli_check_engines("calibrate", c.engine)) >= 0) return rc;
    if (cli_context_for(&ctx, &c) != PQ_OK) return CLI_FAILED;
    const pq_status st = calibrate(ctx, &k, word[0], path, &c);
    rc = st == PQ_OK ? show(ctx, &k, path, c.json) : cli_fail(ctx, st);
    cli_calibration_clear(&k);
    pq_ctx_free(ctx);
    return rc;
}
