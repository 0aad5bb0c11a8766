/* An audit as text and as JSON. */
#include <stdio.h>
#include <string.h>

#include "cli/audit.h"

pq_status cli_audit(pq_ctx *ctx, pq_audit **out, const pq_engine *engine, const pq_graph *g,
                    const pq_plan *plan, int threads)
{
    const pq_compile_opts opts = {.threads = threads};
    pq_session *s = NULL;
    *out = NULL;
    pq_status st = pq_compile(ctx, &s, engine, g, plan, &opts);
    if (st == PQ_OK) st = pq_audit_session(ctx, out, s, g, plan);
    pq_session_free(s);
    return st;
}

static size_t count_as_planned(const pq_audit *a)
{
    size_t n = 0;
    for (size_t i = 0; i < a->n_layers; i++) n += a->layer[i].as_planned;
    return n;
}

void cli_print_audit(const pq_audit *a)
{
    printf("audit on %s (%s): ", a->target, a->version);
    if (a->n_layers)
        printf("%zu of %zu operators as planned; kernels take %.3f ms, among them %zu conversions "
               "%.3f ms and %zu changes of layout %.3f ms\n",
               count_as_planned(a), a->n_layers, a->total_ms, a->n_converts, a->convert_ms,
               a->n_reorders, a->reorder_ms);
    else
        printf("%zu rules broken\n", a->n_faults);
    for (size_t i = 0; i < a->n_findings; i++) {
        const pq_finding *f = &a->finding[i];
        printf("  %-5s %s%s%s\n", f->fault ? "fault" : "note", f->node, *f->node ? ": " : "",
               f->text);
    }
}

static bool add_layers(cJSON *doc, const pq_audit *a)
{
    cJSON *list = cJSON_AddArrayToObject(doc, "operators");
    for (size_t i = 0; list && i < a->n_layers; i++) {
        const pq_audit_layer *l = &a->layer[i];
        cJSON *o = cJSON_CreateObject();
        if (!cJSON_AddItemToArray(list, o) || !cJSON_AddStringToObject(o, "name", l->node) ||
            !cJSON_AddStringToObject(o, "type", l->type) ||
            !cJSON_AddStringToObject(o, "wanted", pq_precision_name(l->wanted)) ||
            !cJSON_AddStringToObject(o, "achieved", l->achieved) ||
            !cJSON_AddStringToObject(o, "kernel", l->kernel) ||
            !cJSON_AddNumberToObject(o, "ms", l->ms) ||
            !cJSON_AddNumberToObject(o, "convert_ms", l->convert_ms) ||
            !cJSON_AddBoolToObject(o, "as_planned", l->as_planned))
            return false;
    }
    return list != NULL;
}

static bool add_findings(cJSON *doc, const pq_audit *a)
{
    cJSON *list = cJSON_AddArrayToObject(doc, "findings");
    for (size_t i = 0; list && i < a->n_findings; i++) {
        const pq_finding *f = &a->finding[i];
        cJSON *o = cJSON_CreateObject();
        if (!cJSON_AddItemToArray(list, o) ||
            !cJSON_AddStringToObject(o, "kind", f->fault ? "fault" : "note") ||
            !cJSON_AddStringToObject(o, "name", f->node) ||
            !cJSON_AddStringToObject(o, "text", f->text))
            return false;
    }
    return list != NULL;
}

bool cli_add_audit(cJSON *to, const pq_audit *a)
{
    cJSON *o = cJSON_AddObjectToObject(to, "audit");
    return cJSON_AddStringToObject(o, "target", a->target) &&
           cJSON_AddStringToObject(o, "version", a->version) &&
           cJSON_AddNumberToObject(o, "faults", (double)a->n_faults) &&
           cJSON_AddNumberToObject(o, "as_planned", (double)count_as_planned(a)) &&
           cJSON_AddNumberToObject(o, "kernels_ms", a->total_ms) &&
           cJSON_AddNumberToObject(o, "conversions", (double)a->n_converts) &&
           cJSON_AddNumberToObject(o, "conversions_ms", a->convert_ms) &&
           cJSON_AddNumberToObject(o, "reorders", (double)a->n_reorders) &&
           cJSON_AddNumberToObject(o, "reorders_ms", a->reorder_ms) && add_layers(o, a) &&
           add_findings(o, a);
}
