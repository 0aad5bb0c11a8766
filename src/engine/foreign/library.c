/* Finding and opening the library of a foreign runtime. */
#define _XOPEN_SOURCE 700 /* realpath */
#include "engine/foreign/library.h"

#include <ctype.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "engine/foreign/python.h"

/* "libx.so" or "libx.so.1.19.2": name as the spec has it, digits and dots behind. */
static bool is_library(const char *name, const char *file)
{
    const size_t n = strlen(file);
    if (strncmp(name, file, n) != 0) return false;
    if (!name[n]) return true;
    return name[n] == '.' && name[n + 1] && name[n + strspn(name + n, ".0123456789")] == 0;
}

/* Order of file names by the numbers in their version; one without a version is the first choice.
 */
static int compare_versions(const char *a, const char *b, size_t n)
{
    if (!a[n] || !b[n]) return !a[n] - !b[n];
    for (a += n, b += n; *a || *b;) {
        if (*a == '.') a++;
        if (*b == '.') b++;
        const unsigned long x = strtoul(a, NULL, 10), y = strtoul(b, NULL, 10);
        if (x != y) return x < y ? -1 : 1;
        while (isdigit((unsigned char)*a)) a++;
        while (isdigit((unsigned char)*b)) b++;
    }
    return 0;
}

static pq_status in_folder(pq_ctx *ctx, char **out, const char *folder, const char *file)
{
    char **name = NULL;
    size_t n = 0, best = 0;
    bool found = false;
    *out = NULL;
    if (!pq_file_is_dir(folder)) return PQ_OK;
    pq_status st = pq_dir_list(ctx, &name, &n, folder);
    if (st == PQ_E_NOMEM) return st;
    if (st != PQ_OK) return PQ_OK; /* not ours to read: not here */
    for (size_t i = 0; i < n; i++) {
        if (!is_library(name[i], file)) continue;
        if (!found || compare_versions(name[i], name[best], strlen(file)) > 0) best = i;
        found = true;
    }
    if (found) st = pq_path_join(ctx, out, folder, name[best]);
    for (size_t i = 0; i < n; i++) pq_free(name[i]);
    pq_free(name);
    return st;
}

pq_status pq_library_in(pq_ctx *ctx, char **out, const char *place, const pq_library_spec *spec)
{
    pq_status st = PQ_OK;
    *out = NULL;
    if (!*place) return PQ_OK;
    if (pq_file_exists(place) && !pq_file_is_dir(place)) return pq_strdup(ctx, out, place);
    st = in_folder(ctx, out, place, spec->file);
    for (int i = 0; st == PQ_OK && !*out && spec->below[i]; i++) {
        char *folder = NULL;
        st = pq_path_join(ctx, &folder, place, spec->below[i]);
        if (st == PQ_OK) st = in_folder(ctx, out, folder, spec->file);
        pq_free(folder);
    }
    return st;
}

/* ---- the places ---- */

typedef struct search {
    pq_ctx *ctx;
    const pq_library_spec *spec;
    char *found;     /* path, or NULL */
    char tried[768]; /* places looked into, for the message */
} search;

static void note(search *s, const char *what, const char *place, size_t n)
{
    const size_t at = strlen(s->tried);
    snprintf(s->tried + at, sizeof s->tried - at, "%s%s%s%.*s", at ? ", " : "", what, n ? " " : "",
             (int)n, place);
}

/* An entry of the engine path may be another engine's library. */
static bool names_other_file(const char *place, const pq_library_spec *spec)
{
    return pq_file_exists(place) && !pq_file_is_dir(place) &&
           !is_library(pq_path_base(place), spec->file);
}

static pq_status try_engine_path(search *s)
{
    pq_status st = PQ_OK;
    const char *p = pq_ctx_engine_path(s->ctx);
    if (!p || !*p) note(s, "--engine-path (not given)", "", 0);
    while (p && *p && !s->found && st == PQ_OK) {
        const size_t n = strcspn(p, ":");
        char *place = NULL;
        if (n) {
            st = pq_asprintf(s->ctx, &place, "%.*s", (int)n, p);
            if (st == PQ_OK && !names_other_file(place, s->spec))
                st = pq_library_in(s->ctx, &s->found, place, s->spec);
            note(s, "--engine-path", p, n);
        }
        pq_free(place);
        p += n + (p[n] == ':');
    }
    return st;
}

static pq_status try_variable(search *s)
{
    const char *place = getenv(s->spec->variable);
    if (!place || !*place) {
        note(s, s->spec->variable, "(not set)", 9);
        return PQ_OK;
    }
    pq_status st = pq_library_in(s->ctx, &s->found, place, s->spec);
    if (st == PQ_OK && !s->found)
        st = pq_fail(s->ctx, PQ_E_UNAVAILABLE, "engine '%s': %s is '%s', where there is no %s",
                     s->spec->name, s->spec->variable, place, s->spec->file);
    return st;
}

static pq_status try_python(search *s)
{
    pq_python py;
    pq_status st = pq_python_find(s->ctx, &py);
    if (st != PQ_OK) return st;
    if (!py.executable)
        note(s, "the packages of python3 (none on PATH)", "", 0);
    else if (!py.n_folders)
        note(s, "the packages of", py.executable, strlen(py.executable));
    for (size_t i = 0; i < py.n_folders && !s->found && st == PQ_OK; i++) {
        char *folder = NULL;
        st = pq_path_join(s->ctx, &folder, py.folder[i], s->spec->package);
        if (st == PQ_OK) st = in_folder(s->ctx, &s->found, folder, s->spec->file);
        if (st == PQ_OK) note(s, folder, "", 0);
        pq_free(folder);
    }
    pq_python_clear(&py);
    return st;
}

static pq_status try_system(search *s)
{
    static const char *const folder[] = {
        "/usr/local/lib",
        "/usr/local/lib64",
#if defined(__x86_64__)
        "/usr/lib/x86_64-linux-gnu",
#elif defined(__aarch64__)
        "/usr/lib/aarch64-linux-gnu",
#endif
        "/usr/lib64",
        "/usr/lib",
        "/opt/intel/openvino/runtime/lib/intel64"
    };
    pq_status st = PQ_OK;
    const char *p = getenv("LD_LIBRARY_PATH");
    while (p && *p && !s->found && st == PQ_OK) {
        const size_t n = strcspn(p, ":");
        char *place = NULL;
        if (p[0] == '/') {
            st = pq_asprintf(s->ctx, &place, "%.*s", (int)n, p);
            if (st == PQ_OK) st = in_folder(s->ctx, &s->found, place, s->spec->file);
        }
        pq_free(place);
        p += n + (p[n] == ':');
    }
    for (size_t i = 0; i < sizeof folder / sizeof *folder && !s->found && st == PQ_OK; i++)
        st = in_folder(s->ctx, &s->found, folder[i], s->spec->file);
    note(s, "the system's folders", "", 0);
    return st;
}

pq_status pq_library_named(pq_ctx *ctx, char **path, const pq_library_spec *spec)
{
    search s = {.ctx = ctx, .spec = spec};
    pq_status st = try_engine_path(&s);
    if (st == PQ_OK && !s.found) st = try_variable(&s);
    *path = s.found;
    return st;
}

pq_status pq_library_open(pq_ctx *ctx, pq_library *out, const pq_library_spec *spec)
{
    pq_status (*const place[])(search *) = {try_engine_path, try_variable, try_python, try_system};
    search s = {.ctx = ctx, .spec = spec};
    pq_status st = PQ_OK;
    char *real = NULL;
    memset(out, 0, sizeof *out);
    for (size_t i = 0; i < sizeof place / sizeof *place && !s.found; i++) PQ_TRY(place[i](&s));
    if (!s.found) {
        st = pq_fail(ctx, PQ_E_UNAVAILABLE, "engine '%s': no %s in %s; %s", spec->name, spec->file,
                     s.tried, spec->hint);
        goto out;
    }
    /* An absolute path, so that the loader searches nowhere. */
    real = realpath(s.found, NULL);
    out->handle = real ? dlopen(real, RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!out->handle) {
        const char *why = real ? dlerror() : "no such file";
        st = pq_fail(ctx, PQ_E_UNAVAILABLE, "engine '%s': %s: %s", spec->name, s.found,
                     why ? why : "the loader refuses it");
        goto out;
    }
    PQ_TRY(pq_strdup(ctx, &out->path, real));
out:
    free(real);
    pq_free(s.found);
    return st;
}

pq_status pq_library_symbol(pq_ctx *ctx, void *fn, const pq_library *lib, const char *name)
{
    void *address = dlsym(lib->handle, name);
    if (!address) return pq_fail(ctx, PQ_E_UNAVAILABLE, "%s: no function '%s'", lib->path, name);
    memcpy(fn, &address, sizeof address); /* ISO C has no cast from object to function pointers */
    return PQ_OK;
}
