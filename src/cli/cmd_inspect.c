/* pquant inspect: what a model is. Nothing is compiled. */
#include <inttypes.h>
#include <stdio.h>

#include "base/mem.h"
#include "cli/cli.h"

typedef struct facts {
    int64_t params; /* elements of the weights and biases that operators hold */
    int64_t flops;  /* two a multiply-accumulate */
} facts;

static pq_status count(pq_ctx *ctx, facts *f, const pq_graph *g)
{
    bool *counted = NULL;
    pq_status st = pq_alloc(ctx, &counted, g->n_values, 1);
    if (st != PQ_OK) return st;
    for (size_t i = 0; i < g->n_nodes; i++) {
        const pq_node *n = &g->node[i];
        const int64_t macs = pq_node_macs(g, n);
        f->flops += 2 * macs;
        for (int k = 1; macs && k < n->n_in; k++) {
            const pq_value *v = pq_in(g, n, k);
            if (!v || !v->data || counted[n->in[k]]) continue;
            counted[n->in[k]] = true;
            f->params += pq_shape_count(&v->shape);
        }
    }
    pq_free(counted);
    return PQ_OK;
}

/* Of the weights; NULL for what has none. */
static const pq_shape *shape_of(const pq_graph *g, const pq_node *n)
{
    const pq_value *w = n->op == PQ_OP_MAX_POOL ? NULL : pq_in(g, n, 1);
    return w ? &w->shape : NULL;
}

static bool add_shape(cJSON *o, const char *key, const pq_shape *s)
{
    if (!s) return cJSON_AddNullToObject(o, key) != NULL;
    cJSON *list = cJSON_AddArrayToObject(o, key);
    bool ok = list != NULL;
    for (int k = 0; ok && k < s->rank; k++)
        ok = cJSON_AddItemToArray(list, cJSON_CreateNumber((double)s->dim[k]));
    return ok;
}

static cJSON *as_json(const cli_model *m, const facts *f)
{
    const pq_graph *g = m->graph;
    cJSON *o = cJSON_CreateObject(), *ops = NULL;
    bool ok =
        cJSON_AddStringToObject(o, "family", g->family) &&
        (m->has_head ? cJSON_AddStringToObject(o, "decode", pq_head_family_name(m->head.family))
                     : cJSON_AddNullToObject(o, "decode")) &&
        add_shape(o, "input", &g->value[g->input[0]].shape) &&
        cJSON_AddNumberToObject(o, "params", (double)f->params) &&
        cJSON_AddNumberToObject(o, "flops", (double)f->flops) &&
        (ops = cJSON_AddArrayToObject(o, "ops")) != NULL;
    const int n = (int)pq_graph_quantizable_count(g);
    for (int i = 0; ok && i < n; i++) {
        const pq_node *node = &g->node[pq_graph_quantizable(g, i)];
        cJSON *e = cJSON_CreateObject();
        ok = cJSON_AddItemToArray(ops, e) && cJSON_AddNumberToObject(e, "index", i) &&
             cJSON_AddStringToObject(e, "name", node->name) &&
             cJSON_AddStringToObject(e, "type", node->type) &&
             add_shape(e, "shape", shape_of(g, node));
    }
    if (ok) return o;
    cJSON_Delete(o);
    return NULL;
}

static void head_text(const cli_model *m)
{
    const pq_head *h = &m->head;
    static const char *const fit[] = {"resized", "letterboxed", "letterboxed in the middle"};
    if (!m->has_head) {
        printf("head     not known: AP cannot be measured; name the decoding in a sidecar\n");
        return;
    }
    const char *colour = m->prep.channels == 1 ? "grey" : m->prep.bgr ? "BGR" : "RGB";
    printf("head     %s, %d classes, conf %g, iou %g, at most %d boxes; %s %s\n",
           pq_head_family_name(h->family), h->n_classes, h->conf, h->iou, h->max_det, colour,
           fit[m->prep.fit]);
}

static void as_text(const cli_model *m, const facts *f)
{
    const pq_graph *g = m->graph;
    char text[128];
    const int n = (int)pq_graph_quantizable_count(g);
    printf("family   %s\n", g->family);
    printf("input    %s\n", pq_shape_text(&g->value[g->input[0]].shape, text, sizeof text));
    for (size_t i = 0; i < g->n_outputs; i++) {
        const pq_value *v = &g->value[g->output[i]];
        printf("output   %s %s\n", v->name, pq_shape_text(&v->shape, text, sizeof text));
    }
    head_text(m);
    printf("params   %.2f M\n", (double)f->params * 1e-6);
    printf("flops    %.2f G\n", (double)f->flops * 1e-9);
    printf("quantizable operators: %d\n\n", n);
    int width = 4;
    for (int i = 0; i < n; i++) {
        const int len = snprintf(NULL, 0, "%s", g->node[pq_graph_quantizable(g, i)].name);
        if (len > width) width = len < 60 ? len : 60;
    }
    printf("%5s  %-*s  %-16s %-18s %9s\n", "index", width, "name", "type", "shape", "MMACs");
    for (int i = 0; i < n; i++) {
        const pq_node *node = &g->node[pq_graph_quantizable(g, i)];
        const pq_shape *shape = shape_of(g, node);
        printf("%5d  %-*s  %-16s %-18s %9.2f\n", i, width, node->name, node->type,
               shape ? pq_shape_text(shape, text, sizeof text) : "",
               (double)pq_node_macs(g, node) * 1e-6);
    }
}

/* A head that is not known is proposed as rows of boxes, which is seldom right but shows the
 * members. */
static pq_status propose(pq_ctx *ctx, const cli_model *m, const char *path)
{
    pq_head h = m->head;
    if (!m->has_head) {
        if (m->prep.h < 1) return cli_need_head(ctx, m);
        pq_head_defaults(&h, PQ_HEAD_BOXES, m->prep.h, m->prep.w);
        h.n_classes = 80;
        h.prep = m->prep;
    }
    return pq_sidecar_save(ctx, path, &h, m->graph, (const char *const *)m->class_name,
                           m->has_head ? h.n_classes : 0);
}

int cmd_inspect(int argc, char **argv)
{
    cli_common c;
    const char *word[1];
    size_t n_words;
    pq_ctx *ctx;
    cli_model m = {0};
    facts f = {0};
    cli_common_init(&c);
    const char *sidecar = NULL;
    const cli_opt opt[] = {
        {"--sidecar-out", CLI_TEXT, &sidecar, "FILE",
         "write what is known of head, input and classes, to be corrected and used as sidecar"},
        CLI_OPT_MODEL(c),
        CLI_OPT_JSON(c)};
    int rc = cli_parse("inspect", "MODEL [options]", opt, sizeof opt / sizeof *opt, argc, argv,
                       word, 1, &n_words);
    if (rc >= 0) return rc;
    if (n_words != 1) return cli_usage("inspect", "no MODEL given");
    if (cli_context(&ctx, c.quiet) != PQ_OK) return CLI_FAILED;
    pq_status st = cli_model_read(ctx, &m, word[0], &c);
    if (st == PQ_OK) st = count(ctx, &f, m.graph);
    if (st == PQ_OK && sidecar) st = propose(ctx, &m, sidecar);
    if (st != PQ_OK)
        rc = cli_fail(ctx, st);
    else if (c.json)
        rc = cli_print_json(ctx, as_json(&m, &f));
    else {
        as_text(&m, &f);
        rc = CLI_DONE;
    }
    cli_model_clear(&m);
    pq_ctx_free(ctx);
    return rc;
}
