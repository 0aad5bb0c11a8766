/* pquant export: ONNX (plain or with quantization nodes), a calibrated .pth, or a .pqe. */
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/file.h"
#include "cli/audit.h"
#include "export/calib_pth.h"

typedef struct options {
    cli_common c;
    const char *precision, *target, *out, *real;
    int64_t opset;
    bool audit, strict;
} options;

static bool ends_in(const char *path, const char *ext)
{
    const char *dot = strrchr(pq_path_base(path), '.');
    return dot && strcasecmp(dot, ext) == 0;
}

/* A target's own default scheme, where --scheme is not given. */
static const char *scheme_for(const options *o)
{
    if (o->c.scheme || !o->target) return o->c.scheme;
    return strcmp(o->target, "tensorrt") == 0 ? "s8" : "u8";
}

/* What is not INT8 in another float type: TensorRT 11 runs the types that the file has. The INT8
 * part stays as it is. */
static pq_status change_float(pq_ctx *ctx, pq_plan *plan, const char *name)
{
    pq_precision p;
    const pq_status st = pq_precision_parse(ctx, &p, name);
    if (st != PQ_OK) return st;
    plan->base = p;
    for (size_t i = 0; i < plan->n_nodes; i++)
        if (plan->node[i].precision != PQ_PREC_INT8) plan->node[i].precision = p;
    return PQ_OK;
}

static pq_status write_as(pq_ctx *ctx, const options *o, const cli_model *m, const pq_plan *plan)
{
    pq_export_opts opts = {.opset = (int)o->opset};
    pq_status st;
    if (ends_in(o->out, ".pqe")) return pq_pqe_save(ctx, o->out, m->graph, plan);
    if (ends_in(o->out, ".pth")) return pq_export_calib_pth(ctx, o->out, m->graph, plan);
    if (o->target && (st = pq_target_parse(ctx, &opts.target, o->target)) != PQ_OK) return st;
    return pq_export_onnx_file(ctx, o->out, m->graph, plan, &opts);
}

/* What was written, on the engine it was written for; for TensorRT by its rules. */
static pq_status audit_of(pq_ctx *ctx, pq_audit **out, const options *o, const cli_model *m,
                          const pq_plan *plan)
{
    const pq_engine *engine;
    pq_buf *bytes = NULL;
    pq_status st;
    if (!o->target || strcmp(o->target, "tensorrt") != 0) {
        st = pq_engine_find(ctx, &engine, o->target ? o->target : o->c.engine);
        return st == PQ_OK ? cli_audit(ctx, out, engine, m->graph, plan, (int)o->c.threads) : st;
    }
    st = pq_file_map(ctx, &bytes, o->out);
    if (st == PQ_OK) st = pq_audit_tensorrt(ctx, out, pq_buf_data(bytes), pq_buf_bytes(bytes));
    pq_buf_unref(bytes);
    return st;
}

static pq_status export_model(pq_ctx *ctx, const options *o, const char *path, pq_audit **audit)
{
    const pq_engine *engine;
    cli_common c = o->c;
    cli_model m = {0};
    cli_calibration calibration = {0};
    pq_plan *plan = NULL;
    pq_status st;
    c.scheme = scheme_for(o);
    c.rounds_outputs = o->target && strcmp(o->target, "onnxruntime") == 0;
    PQ_TRY(pq_engine_find(ctx, &engine, c.engine));
    PQ_TRY(cli_model_load(ctx, &m, path, &c));
    PQ_TRY(cli_try_writing(ctx, o->out));
    if (o->precision || !m.plan)
        PQ_TRY(cli_plan(ctx, &plan, o->precision ? o->precision : "fp32", &m, &c, engine,
                        &calibration, NULL));
    if (o->real) PQ_TRY(change_float(ctx, plan ? plan : m.plan, o->real));
    PQ_TRY(write_as(ctx, o, &m, plan ? plan : m.plan));
    if (o->audit) st = audit_of(ctx, audit, o, &m, plan ? plan : m.plan);
out:
    pq_plan_free(plan);
    cli_calibration_clear(&calibration);
    cli_model_clear(&m);
    return st;
}

static int check(const options *o)
{
    int rc;
    if (!o->out) return cli_usage("export", "-o FILE is needed");
    if (!ends_in(o->out, ".onnx") && !ends_in(o->out, ".pth") && !ends_in(o->out, ".pqe"))
        return cli_usage("export", "'%s', expected a name in .onnx, .pth or .pqe", o->out);
    if (o->target && strcmp(o->target, "tensorrt") != 0 && strcmp(o->target, "openvino") != 0 &&
        strcmp(o->target, "onnxruntime") != 0)
        return cli_usage("export", "--for '%s', expected tensorrt, openvino or onnxruntime",
                         o->target);
    if (o->real && !ends_in(o->out, ".onnx"))
        return cli_usage("export", "--float goes with an .onnx file");
    if ((o->target || o->opset) && !ends_in(o->out, ".onnx"))
        return cli_usage("export", "--for and --opset go with an .onnx file");
    if (o->real && strcmp(o->real, "fp32") != 0 && strcmp(o->real, "fp16") != 0)
        return cli_usage("export", "--float '%s', expected fp32 or fp16", o->real);
    if (o->strict && !o->audit) return cli_usage("export", "--strict goes with --audit");
    if (o->audit && ends_in(o->out, ".pth"))
        return cli_usage("export", "--audit goes with an .onnx or .pqe file");
    if (o->precision && (rc = cli_check_precisions("export", o->precision, &o->c)) >= 0) return rc;
    return cli_check_engines("export", o->c.engine);
}

static int report(pq_ctx *ctx, const options *o, const pq_audit *audit)
{
    struct stat s;
    const double bytes = stat(o->out, &s) == 0 ? (double)s.st_size : 0.0;
    int rc = CLI_DONE;
    if (o->c.json) {
        cJSON *doc = cJSON_CreateObject();
        const bool ok = cJSON_AddStringToObject(doc, "file", o->out) &&
                        cJSON_AddNumberToObject(doc, "bytes", bytes) &&
                        (!audit || cli_add_audit(doc, audit));
        if (!ok) cJSON_Delete(doc), doc = NULL;
        rc = cli_print_json(ctx, doc);
    } else {
        printf("%s: %.2f MB\n", o->out, bytes * 1e-6);
        if (audit) cli_print_audit(audit);
    }
    return rc == CLI_DONE && o->strict && audit->n_faults ? CLI_FAILED : rc;
}

int cmd_export(int argc, char **argv)
{
    options o = {0};
    const char *word[1];
    size_t n_words;
    pq_ctx *ctx;
    pq_audit *audit = NULL;
    cli_common_init(&o.c);
    const cli_opt opt[] = {
        {"--precision", CLI_TEXT, &o.precision, "P",
         "fp32, bf16, fp16, int8 or a plan.json (default fp32, of a .pqe its plan)"},
        {"--for", CLI_TEXT, &o.target, "TARGET",
         "tensorrt, openvino or onnxruntime (default: what all of them read)"},
        {"--float", CLI_TEXT, &o.real, "fp32|fp16",
         "type of what is not INT8 in an .onnx file (default: the plan's); TensorRT 11 wants fp16"},
        {"--opset", CLI_INT, &o.opset, "N",
         "ONNX opset, 13 to 21 (default 13; 19 for int8 in fp16)"},
        {"-o", CLI_TEXT, &o.out, "FILE", ".onnx, .pth (calibrated state dict) or .pqe"},
        {"--audit", CLI_FLAG, &o.audit, NULL,
         "run it on the engine and say what does not run as planned (tensorrt: by its rules)"},
        {"--strict", CLI_FLAG, &o.strict, NULL, "exit 1 where the audit finds a fault"},
        CLI_OPT_ENGINE(o.c),
        CLI_OPT_CALIB(o.c),
        CLI_OPT_MODEL(o.c),
        CLI_OPT_JSON(o.c)};
    int rc = cli_parse("export", "MODEL --precision P [--for TARGET] -o FILE [options]", opt,
                       sizeof opt / sizeof *opt, argc, argv, word, 1, &n_words);
    if (rc >= 0) return rc;
    if (n_words != 1) return cli_usage("export", "no MODEL given");
    if ((rc = check(&o)) >= 0) return rc;
    if (cli_context_for(&ctx, &o.c) != PQ_OK) return CLI_FAILED;
    const pq_status st = export_model(ctx, &o, word[0], &audit);
    rc = st == PQ_OK ? report(ctx, &o, audit) : cli_fail(ctx, st);
    pq_audit_free(audit);
    pq_ctx_free(ctx);
    return rc;
}
