/* pquant partial-quant: the command line of DAMO-YOLO's
 * tools/partial_quantization/partial_quant.py. Writes into the current folder and reads
 * datasets/coco, as the original does, unless told otherwise; calibrates on training images, which
 * the original does not. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "cli/work.h"
#include "read/pth.h"

typedef struct script {
    const char *ckpt, *model_type, *calib_weights, *out;
    const char *mode, *trt_type, *input, *output, *sensitivity, *device;
    bool trt, trt_eval, ort, end2end;
    int64_t opset;
} script;

static void note(pq_ctx *ctx, bool given, const char *option, const char *text)
{
    if (given) pq_log(ctx, PQ_LOG_INFO, "partial-quant", "%s: %s", option, text);
}

static void say_notes(pq_ctx *ctx, const script *s)
{
    note(ctx, s->mode && strcmp(s->mode, "onnx") != 0, "--mode",
         "an ONNX file is written in every mode");
    note(ctx, s->trt_type != NULL, "--trt_type",
         "the plan decides: INT8 where it says so, full precision elsewhere");
    note(ctx, s->input && strcmp(s->input, "images") != 0, "--input",
         "the input keeps its name, 'images'");
    note(ctx, s->output != NULL, "--output", "the outputs keep their names, 'scores' and 'boxes'");
    note(ctx, s->sensitivity != NULL, "--sensitivity_file",
         "--model_type decides; pquant run selects by measured sensitivity");
    note(ctx, s->end2end, "--end2end",
         "suppression runs behind the network, in --trt_eval and pquant detect");
    note(ctx, s->device != NULL, "--device", "the engine is chosen by --engine");
    note(ctx, s->trt, "--trt",
         "the engine written is a .pqe; for TensorRT: trtexec --onnx=FILE --int8 --fp16 "
         "(8 to 10), trtexec --onnx=FILE (11)");
}

/* Ranges of inputs from <op>._input_quantizer._amax; what the file does not have stays calibrated.
 */
static pq_status take_amax(pq_ctx *ctx, pq_ranges *r, const pq_graph *g, const char *path)
{
    pq_state *state = NULL;
    char *key = NULL;
    size_t taken = 0;
    pq_status st;
    PQ_TRY(pq_state_load(ctx, &state, path));
    for (size_t i = 0; i < g->n_nodes; i++) {
        const pq_node *n = &g->node[i];
        if (n->quant_index < 0) continue;
        pq_free(key);
        key = NULL;
        PQ_TRY(pq_asprintf(ctx, &key, "%s._input_quantizer._amax", n->name));
        const pq_state_entry *e = pq_state_find(state, key);
        const pq_range *found = pq_ranges_find(r, pq_in(g, n, 0)->name);
        if (!e || !found) continue;
        pq_tensor t = {0};
        PQ_TRY(pq_state_tensor(ctx, &t, state, e));
        const float amax =
            t.dtype == PQ_F32 && pq_shape_count(&t.shape) == 1 ? *(float *)pq_tensor_data(&t) : 0;
        pq_tensor_clear(&t);
        if (!(amax > 0)) {
            st = pq_fail(ctx, PQ_E_FORMAT, "'%s' is not one number above 0", key);
            goto out;
        }
        r->range[found - r->range].amax = amax;
        taken++;
    }
    if (!taken)
        st = pq_fail(ctx, PQ_E_FORMAT, "no '<operator>._input_quantizer._amax' for this model");
out:
    pq_free(key);
    pq_state_free(state);
    return pq_prefix(ctx, st, "%s", path);
}

/* The original names its ONNX after the config, its calibrated weights after the checkpoint. */
static pq_status base_name(pq_ctx *ctx, char **out, const script *s, const cli_common *c)
{
    return pq_path_stem(ctx, out, c->config ? c->config : s->ckpt);
}

static pq_status make_plan(cli_work *w, const script *s, pq_plan **plan)
{
    const pq_graph *g = w->model.graph;
    const size_t n = pq_graph_quantizable_count(g);
    bool *int8;
    pq_status st = pq_alloc(w->ctx, &int8, n, 1);
    if (st == PQ_OK) st = pq_preset(w->ctx, int8, n, s->model_type);
    if (st == PQ_OK)
        st = pq_plan_make(w->ctx, plan, g, w->calibration.ranges, int8, w->scheme, PQ_PREC_FP32);
    pq_free(int8);
    return st;
}

static pq_status convert(cli_work *w, const script *s, pq_plan **plan)
{
    const cli_common *c = w->c;
    char *name = NULL, *path = NULL;
    pq_status st;
    PQ_TRY(pq_engine_find(w->ctx, &w->engine, c->engine));
    PQ_TRY(cli_scheme(w->ctx, &w->scheme, c, w->engine));
    PQ_TRY(pq_strdup(w->ctx, &w->out, s->out));
    PQ_TRY(pq_dir_make(w->ctx, s->out));
    PQ_TRY(cli_model_load(w->ctx, &w->model, s->ckpt, c));
    if (s->trt_eval) {
        PQ_TRY(cli_need_head(w->ctx, &w->model));
        PQ_TRY(cli_data_for(w->ctx, &w->data, &w->model, c));
    }
    PQ_TRY(cli_ranges(w->ctx, &w->calibration.ranges, &w->model, c, w->data.images));
    if (s->calib_weights)
        PQ_TRY(take_amax(w->ctx, w->calibration.ranges, w->model.graph, s->calib_weights));
    PQ_TRY(make_plan(w, s, plan));
    PQ_TRY(base_name(w->ctx, &name, s, c));
    PQ_TRY(pq_path_join(w->ctx, &path, s->out, "plan.json"));
    PQ_TRY(pq_plan_save(w->ctx, *plan, path));
    st = cli_write_outputs(w, *plan, name, s->opset);
out:
    pq_free(name);
    pq_free(path);
    return st;
}

static pq_status run(pq_ctx *ctx, const script *s, const cli_common *c)
{
    cli_work w = {.ctx = ctx, .c = c};
    pq_plan *plan = NULL;
    pq_figures f;
    pq_status st;
    say_notes(ctx, s);
    PQ_TRY(convert(&w, s, &plan));
    if (s->trt_eval) {
        PQ_TRY(cli_evaluate(ctx, &f, &w.model, plan, w.engine, &w.data, c));
        if (c->json) {
            cJSON *o = cJSON_CreateObject();
            if (!cli_add_figures(o, &f)) cJSON_Delete(o), o = NULL;
            st = cli_print_json(ctx, o) == CLI_DONE ? PQ_OK : PQ_E_IO;
        } else
            for (int i = 0; i < PQ_FIG_COUNT; i++)
                printf("%-6s %.4f\n", pq_figure_name((pq_figure)i), f.v[i]);
    }
out:
    pq_plan_free(plan);
    cli_work_close(&w);
    return st;
}

/* Words behind the options are "KEY VALUE" changes of the original's config: none applies here. */
int cmd_partial_quant(int argc, char **argv)
{
    cli_common c;
    script s = {.out = ".", .opset = 13};
    const char *word[64];
    size_t n_words;
    cli_common_init(&c);
    c.scheme = "s8";
    c.calibrator = "entropy";
    c.calib_images = 1000;
    c.conf = 0.05;
    c.iou = 0.65;
    c.data = "datasets/coco/val2017";
    c.ann = "datasets/coco/annotations/instances_val2017.json";
    c.calib_data = "datasets/coco/train2017";
    const cli_opt opt[] = {
        {"-f,--config_file,--config", CLI_TEXT, &c.config, "CONFIG",
         "DAMO-YOLO config, by name or path"},
        {"-c,--ckpt", CLI_TEXT, &s.ckpt, "CKPT", "checkpoint (.pth)"},
        {"--batch_size", CLI_INT, &c.batch, "N", "batch size of what is written (default 1)"},
        {"--img_size", CLI_INT, &c.size, "N", "input size (default 640)"},
        {"--model_type", CLI_TEXT, &s.model_type, "TYPE",
         "tiny, small or medium: which operators are INT8"},
        {"--trt", CLI_FLAG, &s.trt, NULL,
         "write the engine (it is a .pqe here, and always written)"},
        {"--trt_eval", CLI_FLAG, &s.trt_eval, NULL, "COCO figures of the engine"},
        {"--calib_weights", CLI_TEXT, &s.calib_weights, "FILE", "a *_calib.pth: its input ranges"},
        {"-o,--opset", CLI_INT, &s.opset, "N", "ONNX opset (default 13, what the original writes)"},
        {"--ort", CLI_FLAG, &s.ort, NULL, "accepted: the ONNX file runs in ONNX Runtime as it is"},
        {"--iou-thres", CLI_REAL, &c.iou, "X", "suppression IoU (default 0.65)"},
        {"--conf-thres", CLI_REAL, &c.conf, "X", "least score (default 0.05)"},
        {"--mode", CLI_TEXT, &s.mode, "MODE", "accepted, with a note"},
        {"--trt_type", CLI_TEXT, &s.trt_type, "TYPE", "accepted, with a note"},
        {"--input", CLI_TEXT, &s.input, "NAME", "accepted, with a note"},
        {"--output", CLI_TEXT, &s.output, "NAME", "accepted, with a note"},
        {"--sensitivity_file", CLI_TEXT, &s.sensitivity, "FILE", "accepted, with a note"},
        {"--end2end", CLI_FLAG, &s.end2end, NULL, "accepted, with a note"},
        {"--device", CLI_TEXT, &s.device, "ID", "accepted, with a note"},
        {"--output-dir", CLI_TEXT, &s.out, "OUT", "folder to write into (default .)"},
        CLI_OPT_DATA(c),
        CLI_OPT_ENGINE(c),
        {"--calib-data", CLI_TEXT, &c.calib_data, "IMAGES",
         "calibration images (default datasets/coco/train2017)"},
        {"--calib-images", CLI_INT, &c.calib_images, "N", "use the first N of them (default 1000)"},
        {"--calibrator", CLI_TEXT, &c.calibrator, "NAME", "default entropy"},
        {"--scheme", CLI_TEXT, &c.scheme, "s8|u8", "default s8"},
        {"--quiet,-q", CLI_FLAG, &c.quiet, NULL, "no notes, no progress"},
        CLI_OPT_JSON(c)};
    int rc = cli_parse("partial-quant", "-f CONFIG -c CKPT --model_type TYPE [options]", opt,
                       sizeof opt / sizeof *opt, argc, argv, word, 64, &n_words);
    if (rc >= 0) return rc;
    if (!s.ckpt) return cli_usage("partial-quant", "no checkpoint given: -c CKPT");
    if (!s.model_type)
        return cli_usage("partial-quant",
                         "no --model_type given, expected tiny, small or medium (pquant run "
                         "measures which operators to keep)");
    pq_ctx *ctx;
    if (cli_context_for(&ctx, &c) != PQ_OK) return CLI_FAILED;
    if (n_words)
        pq_log(ctx, PQ_LOG_WARN, "partial-quant", "config changes from '%s' on are not applied",
               word[0]);
    pq_status st = run(ctx, &s, &c);
    rc = st == PQ_OK ? CLI_DONE : cli_fail(ctx, st);
    pq_ctx_free(ctx);
    return rc;
}
