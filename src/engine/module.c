/* The cuda engine's module, libpquant_cuda.so, opened when somebody asks for it.
 *
 * Looked for where --engine-path and PQUANT_CUDA say, else beside this library or command, else in
 * the folder pquant/ of the library folder; never in the current directory. A module stays open. */
#define _GNU_SOURCE /* dladdr; no other file sees it */
#include <dlfcn.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "engine/cuda/accepts.h"
#include "engine/engines.h"
#include "engine/foreign/library.h"

static const pq_library_spec spec = {
    .name = "cuda", .variable = "PQUANT_CUDA", .file = "libpquant_cuda.so"};

/* The folder of whatever this code is linked into, with a slash; "" if it cannot be said. */
static void own_folder(char folder[PATH_MAX])
{
    union {
        void (*fn)(char[PATH_MAX]);
        const void *address;
    } self = {own_folder};
    Dl_info info;
    folder[0] = 0;
    if (!dladdr(self.address, &info) || !info.dli_fname) return;
    /* A command's name may be as it was typed; the kernel knows the file. */
    const char *path = strchr(info.dli_fname, '/') ? info.dli_fname : "/proc/self/exe";
    if (!realpath(path, folder)) folder[0] = 0;
    char *slash = strrchr(folder, '/');
    if (slash) slash[1] = 0;
}

/* Errors: UNAVAILABLE (where it was looked for). */
static pq_status find_module(pq_ctx *ctx, char **path)
{
    static const char installed[] = "../" PQ_LIBDIR "/pquant/";
    static const char *const place[] = {"", "pquant/", "../lib/pquant/", "../lib64/pquant/",
                                        installed};
    char folder[PATH_MAX];
    pq_status st = pq_library_named(ctx, path, &spec);
    if (st != PQ_OK || *path) return st;
    own_folder(folder);
    for (size_t i = 0; i < sizeof place / sizeof *place && folder[0]; i++) {
        st = pq_asprintf(ctx, path, "%s%s%s", folder, place[i], spec.file);
        if (st != PQ_OK || pq_file_exists(*path)) return st;
        pq_free(*path);
        *path = NULL;
    }
    return pq_fail(
        ctx, PQ_E_UNAVAILABLE,
        "engine 'cuda': no %s in %s or its pquant/, and no --engine-path or %s names one "
        "(built without CUDA?)",
        spec.file, folder, spec.variable);
}

/* Errors: UNAVAILABLE (where it was looked for, or why it does not open). */
static pq_status open_module(pq_ctx *ctx, const pq_engine **out)
{
    const pq_engine *(*entry)(void) = NULL;
    pq_library lib = {0};
    char *real = NULL;
    *out = NULL;
    pq_status st = find_module(ctx, &lib.path);
    if (st != PQ_OK) return st;
    real = realpath(lib.path, NULL); /* with a slash, so that the loader searches nowhere */
    lib.handle = real ? dlopen(real, RTLD_NOW | RTLD_LOCAL) : NULL;
    if (!lib.handle) {
        const char *why = real ? dlerror() : "no such file";
        st = pq_fail(ctx, PQ_E_UNAVAILABLE, "engine 'cuda': %s: %s", lib.path,
                     why ? why : "the loader refuses it");
        goto out;
    }
    PQ_TRY(
        pq_prefix(ctx, pq_library_symbol(ctx, &entry, &lib, "pq_engine_entry"), "engine 'cuda'"));
    *out = entry();
    if ((*out)->abi != PQ_ENGINE_ABI)
        st = pq_fail(ctx, PQ_E_UNAVAILABLE,
                     "engine 'cuda': %s has interface version %u, expected %u: of another build",
                     lib.path, (*out)->abi, PQ_ENGINE_ABI);
out:
    free(real);
    pq_free(lib.path);
    return st;
}

static pq_status probe(pq_ctx *ctx, pq_engine_info *out)
{
    const pq_engine *e;
    pq_status st = open_module(ctx, &e);
    return st == PQ_OK ? pq_prefix(ctx, e->probe(ctx, out), "engine 'cuda'") : st;
}

static pq_status compile(pq_ctx *ctx, pq_session **out, const pq_graph *g, const pq_plan *plan,
                         const pq_compile_opts *opts)
{
    const pq_engine *e;
    *out = NULL;
    pq_status st = open_module(ctx, &e);
    return st == PQ_OK ? pq_prefix(ctx, e->compile(ctx, out, g, plan, opts), "engine 'cuda'") : st;
}

static pq_status memory(pq_ctx *ctx, pq_buf **out, size_t bytes)
{
    const pq_engine *e;
    pq_status st = open_module(ctx, &e);
    return st == PQ_OK ? pq_prefix(ctx, e->memory(ctx, out, bytes), "engine 'cuda'") : st;
}

/* Sessions belong to the module's engine: these are never asked. */
static pq_status run(pq_ctx *ctx, pq_session *s, const pq_tensor *in, size_t n_in, pq_tensor *out,
                     size_t n_out)
{
    return s->engine->run(ctx, s, in, n_in, out, n_out);
}

static void destroy(pq_session *s) { s->engine->destroy(s); }

const pq_engine pq_engine_cuda_module = {.abi = PQ_ENGINE_ABI,
                                         .name = "cuda",
                                         .probe = probe,
                                         .accepts = pq_cuda_accepts,
                                         .compile = compile,
                                         .run = run,
                                         .destroy = destroy,
                                         .memory = memory};
