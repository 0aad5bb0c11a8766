/* Words separated by commas, and the checks of what may stand in them. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cli/cli.h"

pq_status cli_list_split(pq_ctx *ctx, cli_list *out, const char *text)
{
    size_t room = 1;
    pq_status st;
    *out = (cli_list){0};
    for (const char *p = text; *p; p++) room += *p == ',';
    PQ_TRY(pq_strdup(ctx, &out->text, text));
    PQ_TRY(pq_alloc(ctx, &out->at, room, sizeof *out->at));
    for (char *p = out->text, *end = p; end; p = end + 1) {
        end = strchr(p, ',');
        if (end) *end = 0;
        if (*p) out->at[out->n++] = p;
        if (!end) break;
    }
out:
    if (st != PQ_OK) cli_list_clear(out);
    return st;
}

void cli_list_clear(cli_list *l)
{
    pq_free(l->text);
    pq_free(l->at);
    *l = (cli_list){0};
}

bool cli_is_pqe(const char *path)
{
    char first[8];
    FILE *f = fopen(path, "rb");
    const bool is =
        f && fread(first, 1, sizeof first, f) == sizeof first && pq_pqe_is(first, sizeof first);
    if (f) fclose(f);
    return is;
}

static bool is_word(const char *p, size_t n, const char *word)
{
    return strlen(word) == n && memcmp(p, word, n) == 0;
}

static int check_precision(const char *command, const char *p, size_t n, const cli_common *c)
{
    if (is_word(p, n, "int8")) {
        if (c->calib_data || c->ranges) return -1;
        return cli_usage(command, "--precision int8 needs --calib-data or --ranges");
    }
    if (is_word(p, n, "fp32") || is_word(p, n, "bf16") || is_word(p, n, "fp16")) return -1;
    if (n > 5 && memcmp(p + n - 5, ".json", 5) == 0) return -1;
    return cli_usage(command, "precision '%.*s', expected fp32, bf16, fp16, int8 or a plan.json",
                     (int)n, p);
}

int cli_check_precisions(const char *command, const char *list, const cli_common *c)
{
    if (!list[strspn(list, ",")]) return cli_usage(command, "no precision given");
    for (const char *p = list; *p;) {
        const size_t n = strcspn(p, ",");
        const int rc = n ? check_precision(command, p, n, c) : -1;
        if (rc >= 0) return rc;
        p += n + (p[n] == ',');
    }
    return -1;
}

int cli_check_engines(const char *command, const char *list)
{
    const pq_engine *const *known = pq_engines();
    if (!list[strspn(list, ",")]) return cli_usage(command, "no engine given");
    for (const char *p = list; *p;) {
        const size_t n = strcspn(p, ",");
        bool found = n == 0;
        char names[256] = "";
        for (size_t i = 0; known[i]; i++) {
            found = found || is_word(p, n, known[i]->name);
            if (i) strncat(names, ", ", sizeof names - strlen(names) - 1);
            strncat(names, known[i]->name, sizeof names - strlen(names) - 1);
        }
        if (!found)
            return cli_usage(command, "engine '%.*s', expected one of %s", (int)n, p, names);
        p += n + (p[n] == ',');
    }
    return -1;
}
