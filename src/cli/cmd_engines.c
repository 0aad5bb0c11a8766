/* pquant engines: what there is, and what it can do here. */
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"

static bool add_engine(cJSON *list, const pq_engine *e, const pq_engine_info *info, pq_status st,
                       const char *why)
{
    cJSON *o = cJSON_CreateObject(), *p = NULL;
    bool ok = cJSON_AddItemToArray(list, o) && cJSON_AddStringToObject(o, "name", e->name) &&
              cJSON_AddBoolToObject(o, "available", st == PQ_OK);
    if (ok && st != PQ_OK) return cJSON_AddStringToObject(o, "why", why) != NULL;
    ok = ok && cJSON_AddStringToObject(o, "version", info->version) &&
         cJSON_AddStringToObject(o, "device", info->device) &&
         (!info->library[0] || cJSON_AddStringToObject(o, "library", info->library)) &&
         (p = cJSON_AddArrayToObject(o, "precisions")) != NULL;
    for (int i = PQ_PREC_FP32; ok && i <= PQ_PREC_INT8; i++)
        if (info->precisions >> i & 1u)
            ok = cJSON_AddItemToArray(p, cJSON_CreateString(pq_precision_name((pq_precision)i)));
    return ok && cJSON_AddStringToObject(o, "scheme", info->scheme == PQ_SCHEME_U8 ? "u8" : "s8") &&
           cJSON_AddBoolToObject(o, "taps", info->taps);
}

/* "engine 'NAME': REASON" without what its row says already. */
static const char *reason(const pq_engine *e, const char *why)
{
    char start[64];
    const int n = snprintf(start, sizeof start, "engine '%s': ", e->name);
    return n > 0 && strncmp(why, start, (size_t)n) == 0 ? why + n : why;
}

static void print_engine(const pq_engine *e, const pq_engine_info *info, pq_status st,
                         const char *why)
{
    if (st != PQ_OK) {
        printf("%-12s not here: %s\n", e->name, reason(e, why));
        return;
    }
    printf("%-12s %-20s", e->name, info->version);
    char list[64] = "";
    for (int i = PQ_PREC_FP32; i <= PQ_PREC_INT8; i++) {
        if (!(info->precisions >> i & 1u)) continue;
        if (list[0]) strncat(list, ",", sizeof list - strlen(list) - 1);
        strncat(list, pq_precision_name((pq_precision)i), sizeof list - strlen(list) - 1);
    }
    printf(" %-20s %-6s %s\n", list, info->scheme == PQ_SCHEME_U8 ? "u8" : "s8", info->device);
    if (info->library[0]) printf("%-12s %s\n", "", info->library);
}

int cmd_engines(int argc, char **argv)
{
    cli_common c;
    size_t n_words;
    pq_ctx *ctx;
    cli_common_init(&c);
    const cli_opt opt[] = {CLI_OPT_ENGINE_PATH(c), CLI_OPT_JSON(c)};
    int rc = cli_parse("engines", "[--engine-path PATH] [--json]", opt, sizeof opt / sizeof *opt,
                       argc, argv, NULL, 0, &n_words);
    if (rc >= 0) return rc;
    if (cli_context_for(&ctx, &c) != PQ_OK) return CLI_FAILED;
    cJSON *list = c.json ? cJSON_CreateArray() : NULL;
    bool ok = !c.json || list;
    if (!c.json)
        printf("%-12s %-20s %-20s %-6s %s\n", "engine", "version", "precisions", "scheme",
               "device");
    for (const pq_engine *const *e = pq_engines(); *e && ok; e++) {
        pq_engine_info info = {0};
        const pq_status st = (*e)->probe(ctx, &info);
        if (c.json)
            ok = add_engine(list, *e, &info, st, pq_ctx_error(ctx));
        else
            print_engine(*e, &info, st, pq_ctx_error(ctx));
    }
    if (!ok) cJSON_Delete(list), list = NULL;
    rc = c.json ? cli_print_json(ctx, list) : CLI_DONE;
    pq_ctx_free(ctx);
    return rc;
}
