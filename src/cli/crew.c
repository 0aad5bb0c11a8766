/* Under mpirun: the module that knows MPI, opened when it is needed. With --jobs: copies of this
 * process. And what the other ranks do. */
#include "cli/crew.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/parallel.h"
#include "cli/jobs.h"

static int number_of(const char *name, int otherwise)
{
    const char *text = getenv(name);
    return text && *text ? atoi(text) : otherwise;
}

/* Open MPI, what speaks PMI, and what speaks PMIx, which does not say how many there are. */
static int started_ranks(void)
{
    const int n = number_of("OMPI_COMM_WORLD_SIZE", number_of("PMI_SIZE", 0));
    return n > 0 ? n : getenv("PMIX_RANK") ? 2 : 1;
}

bool cli_crew_started(void) { return started_ranks() > 1; }

int cli_crew_rank(void)
{
    if (cli_jobs_rank()) return cli_jobs_rank();
    return number_of("OMPI_COMM_WORLD_RANK", number_of("PMI_RANK", number_of("PMIX_RANK", 0)));
}

pq_status cli_crew_open(pq_ctx *ctx, cli_crew *out)
{
    char why[256] = "";
    int sharing = 1;
    *out = (cli_crew){.crew = {.size = 1, .patience = 10}};
    if (cli_jobs_join(&out->crew)) {
        const int each = pq_cpu_count() / out->crew.size;
        out->threads = each > 1 ? each : 1;
        return PQ_OK;
    }
    if (!cli_crew_started()) return PQ_OK;
    /* MPI loads parts of its own that look for its symbols among all. */
    out->library = dlopen(PQ_MPI_LIBRARY, RTLD_NOW | RTLD_GLOBAL);
    if (!out->library)
        return pq_fail(ctx, PQ_E_UNAVAILABLE,
                       "started by mpirun, but this pquant has no MPI: %s; build it where Open MPI "
                       "is installed, or use --shard",
                       dlerror());
    out->mpi = dlsym(out->library, "pquant_mpi");
    if (!out->mpi || !out->mpi->open(&out->crew, &sharing, why, sizeof why)) {
        out->mpi = NULL;
        return pq_fail(ctx, PQ_E_UNAVAILABLE, "%s: %s", PQ_MPI_LIBRARY, why[0] ? why : dlerror());
    }
    const int n = pq_cpu_count() / sharing;
    out->threads = n > 1 ? n : 1;
    return PQ_OK;
}

/* The library stays: MPI does not like to be unloaded. */
void cli_crew_close(pq_ctx *ctx, cli_crew *c, int status)
{
    if (c->crew.size <= 1) return;
    const bool all = c->crew.rank != 0 || pq_crew_dismiss(ctx, &c->crew);
    fflush(stdout);
    if (c->mpi)
        c->mpi->close(&c->crew, all, status);
    else
        cli_jobs_end(all);
    c->crew.size = 1;
}

void cli_crew_calibrated(const cli_crew *c)
{
    for (int r = 1; r < c->crew.size; r++)
        if (!c->crew.send(c->crew.user, r, "calibrated")) c->crew.lost[r] = true;
}

/* false: sent home, or nobody has calibrated in half a day. */
static bool wait_for_calibration(const cli_crew *c)
{
    const double until = cli_now() + 12 * 3600;
    char text[64];
    while (cli_now() < until) {
        if (c->crew.receive(c->crew.user, text, sizeof text, 1) != 0) continue;
        if (strcmp(text, "calibrated") == 0) return true;
        if (strcmp(text, "stop") == 0) break;
    }
    return false;
}

void cli_crew_member(pq_ctx *ctx, const cli_crew *c, const char *model, const cli_common *common,
                     const char *out)
{
    const cli_work_opts opts = {.meter_threads = common->threads ? 0 : c->threads,
                                .reads_only = true};
    cli_common own = *common;
    cli_work w = {0};
    char *ranges = NULL;
    pq_status st = PQ_OK;
    if (!wait_for_calibration(c)) {
        (void)c->crew.send(c->crew.user, 0, "bye 0 0 0");
        return;
    }
    if (!own.ranges) {
        PQ_TRY(pq_path_join(ctx, &ranges, out, "ranges.json"));
        own.ranges = ranges;
    }
    PQ_TRY(cli_work_open(ctx, &w, model, &own, out, &opts));
    st = pq_crew_work(ctx, &c->crew, w.meter);
out:
    if (st != PQ_OK) pq_crew_decline(&c->crew, pq_ctx_error(ctx));
    cli_work_close(&w);
    pq_free(ranges);
}
