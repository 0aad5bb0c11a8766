/* What comparisons need and no command makes: a DAMO-YOLO without a checkpoint as an engine file, a
 * plan by preset with a float16 base, a model's outputs as numbers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pquant/calibrate.h>
#include <pquant/engine.h>
#include <pquant/pass.h>
#include <pquant/pqe.h>
#include <pquant/read.h>
#include <pquant/select.h>

#include "base/file.h"
#include "base/mem.h"
#include "support/synthetic.h"

static pq_status synthetic(pq_ctx *ctx, const char *name, const char *size, const char *path)
{
    pq_graph *g = NULL;
    pq_plan *plan = NULL;
    pq_status st;
    PQ_TRY(pq_test_synthetic_read(ctx, &g, name, atoi(size), atoi(size)));
    PQ_TRY(pq_pass_all(ctx, g));
    pq_graph_seal(g);
    PQ_TRY(pq_plan_float(ctx, &plan, g, PQ_PREC_FP32));
    st = pq_pqe_save(ctx, path, g, plan);
out:
    pq_plan_free(plan);
    pq_graph_free(g);
    return st;
}

static pq_status read_any(pq_ctx *ctx, pq_graph **g, const char *path)
{
    pq_plan *unused = NULL;
    const char *dot = strrchr(path, '.');
    pq_status st;
    if (dot && strcmp(dot, ".pqe") == 0) {
        st = pq_pqe_load(ctx, g, &unused, path);
        pq_plan_free(unused);
        return st;
    }
    st = pq_read(ctx, g, path, NULL);
    return st == PQ_OK ? pq_pass_all(ctx, *g) : st;
}

static pq_status plan(pq_ctx *ctx, char **word)
{
    pq_graph *g = NULL;
    pq_ranges *r = NULL;
    pq_plan *p = NULL;
    bool *int8 = NULL;
    pq_precision base;
    pq_status st;
    PQ_TRY(read_any(ctx, &g, word[0]));
    PQ_TRY(pq_ranges_load(ctx, &r, word[1]));
    const size_t n = pq_graph_quantizable_count(g);
    PQ_TRY(pq_alloc(ctx, &int8, n, 1));
    memset(int8, 1, n);
    if (strcmp(word[2], "all") != 0) PQ_TRY(pq_preset(ctx, int8, n, word[2]));
    PQ_TRY(pq_precision_parse(ctx, &base, word[3]));
    PQ_TRY(pq_plan_make(ctx, &p, g, r, int8, PQ_SCHEME_S8, base));
    st = pq_plan_save(ctx, p, word[4]);
out:
    pq_plan_free(p);
    pq_ranges_free(r);
    pq_graph_free(g);
    pq_free(int8);
    return st;
}

/* A model's outputs in full precision, one behind the other, for an input of float32 numbers. */
static pq_status outputs(pq_ctx *ctx, char **word)
{
    pq_graph *g = NULL;
    pq_plan *p = NULL;
    pq_buf *numbers = NULL;
    const pq_engine *engine;
    pq_session *s = NULL;
    pq_tensor in = {0}, *out = NULL;
    pq_out f;
    pq_status st;
    PQ_TRY(read_any(ctx, &g, word[0]));
    pq_graph_seal(g);
    PQ_TRY(pq_plan_float(ctx, &p, g, PQ_PREC_FP32));
    PQ_TRY(pq_engine_find(ctx, &engine, word[1]));
    PQ_TRY(pq_compile(ctx, &s, engine, g, p, NULL));
    PQ_TRY(pq_session_outputs(ctx, &out, s));
    PQ_TRY(pq_tensor_new(ctx, &in, PQ_F32, &s->input_shape[0]));
    PQ_TRY(pq_file_map(ctx, &numbers, word[2]));
    const size_t n = (size_t)pq_shape_count(&in.shape) * sizeof(float);
    if (pq_buf_bytes(numbers) != n) {
        st = pq_fail(ctx, PQ_E_FORMAT, "%s: %zu bytes, expected %zu", word[2],
                     pq_buf_bytes(numbers), n);
        goto out;
    }
    memcpy(pq_tensor_data(&in), pq_buf_data(numbers), n);
    PQ_TRY(pq_run(ctx, s, &in, 1, out, s->n_outputs));
    PQ_TRY(pq_out_open(ctx, &f, word[3]));
    for (size_t i = 0; i < s->n_outputs; i++)
        fwrite(pq_tensor_data(&out[i]), sizeof(float), (size_t)pq_shape_count(&out[i].shape), f.f);
    st = pq_out_commit(ctx, &f);
out:
    pq_buf_unref(numbers);
    pq_tensor_clear(&in);
    if (s) pq_session_outputs_free(out, s);
    pq_session_free(s);
    pq_plan_free(p);
    pq_graph_free(g);
    return st;
}

int main(int argc, char **argv)
{
    pq_ctx *ctx;
    pq_status st = PQ_E_INVALID;
    if (pq_ctx_new(&ctx) != PQ_OK) return 1;
    if (argc == 5 && strcmp(argv[1], "synthetic") == 0)
        st = synthetic(ctx, argv[2], argv[3], argv[4]);
    else if (argc == 7 && strcmp(argv[1], "plan") == 0)
        st = plan(ctx, argv + 2);
    else if (argc == 6 && strcmp(argv[1], "outputs") == 0)
        st = outputs(ctx, argv + 2);
    else
        fprintf(stderr, "usage: pq_peer_model synthetic M 640 OUT.pqe\n"
                        "       pq_peer_model plan MODEL RANGES PRESET|all fp16|fp32 OUT.json\n"
                        "       pq_peer_model outputs MODEL ENGINE IN OUT\n");
    if (st != PQ_OK) fprintf(stderr, "pq_peer_model: %s\n", pq_ctx_error(ctx));
    pq_ctx_free(ctx);
    return st != PQ_OK;
}
