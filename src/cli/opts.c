/* Options from tables, and --help from the same tables. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"

int cli_usage(const char *command, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fprintf(stderr, "pquant %s: ", command);
    vfprintf(stderr, fmt, ap);
    fprintf(stderr, "; see pquant %s --help\n", command);
    va_end(ap);
    return CLI_USAGE;
}

static bool is_named(const char *names, const char *word, size_t n)
{
    for (const char *p = names;; p = strchr(p, ',') + 1) {
        const size_t len = strcspn(p, ",");
        if (len == n && strncmp(p, word, n) == 0) return true;
        if (!p[len]) return false;
    }
}

static void help(const char *command, const char *usage, const cli_opt *opt, size_t n)
{
    printf("usage: pquant %s %s\n\n", command, usage);
    for (size_t i = 0; i < n; i++) {
        char left[80];
        snprintf(left, sizeof left, "%s%s%s", opt[i].name, opt[i].arg ? " " : "",
                 opt[i].arg ? opt[i].arg : "");
        printf("  %-26s %s\n", left, opt[i].help);
    }
    printf("  %-26s %s\n", "--help", "this text");
}

static bool set(const cli_opt *o, const char *text)
{
    char *end = NULL;
    errno = 0;
    switch (o->kind) {
    case CLI_FLAG: *(bool *)o->to = true; return true;
    case CLI_TEXT: *(const char **)o->to = text; return true;
    case CLI_INT: {
        const long long v = strtoll(text, &end, 10);
        *(int64_t *)o->to = v;
        return *text && !*end && !errno && v >= 0;
    }
    case CLI_REAL: {
        const double v = strtod(text, &end);
        *(double *)o->to = v;
        return *text && !*end && isfinite(v);
    }
    }
    return false;
}

int cli_parse(const char *command, const char *usage, const cli_opt *opt, size_t n_opts, int argc,
              char **argv, const char **word, size_t max_words, size_t *n_words)
{
    bool words_only = false;
    *n_words = 0;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        if (words_only || a[0] != '-' || !a[1]) {
            if (*n_words == max_words) return cli_usage(command, "unexpected argument '%s'", a);
            word[(*n_words)++] = a;
            continue;
        }
        if (strcmp(a, "--") == 0) {
            words_only = true;
            continue;
        }
        if (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0) {
            help(command, usage, opt, n_opts);
            return CLI_DONE;
        }
        const char *eq = strchr(a, '=');
        const size_t len = eq ? (size_t)(eq - a) : strlen(a);
        const cli_opt *o = NULL;
        for (size_t k = 0; k < n_opts && !o; k++)
            if (is_named(opt[k].name, a, len)) o = &opt[k];
        if (!o) return cli_usage(command, "unknown option '%.*s'", (int)len, a);
        const char *value = eq ? eq + 1 : NULL;
        if (o->kind == CLI_FLAG) {
            if (value) return cli_usage(command, "option '%s' takes no value", o->name);
        } else if (!value) {
            if (++i == argc) return cli_usage(command, "option '%s' needs %s", o->name, o->arg);
            value = argv[i];
        }
        if (!set(o, value))
            return cli_usage(command, "option '%s': '%s', expected a number", o->name, value);
    }
    return -1;
}
