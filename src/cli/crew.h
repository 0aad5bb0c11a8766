/** @file crew.h  The processes that measure together with this one: started by mpirun, or copies of
 *  it (--jobs). */
#ifndef PQ_CLI_CREW_H
#define PQ_CLI_CREW_H

#include "cli/mpi.h"
#include "cli/work.h"

typedef struct cli_crew cli_crew;
struct cli_crew {
    pq_crew crew; /* size 1: alone */
    int threads;  /* this rank's share of the processors */
    const pq_mpi *mpi;
    void *library;
};

/** Did mpirun start this process, and others? */
bool cli_crew_started(void);
/** Errors: UNAVAILABLE where mpirun started more than one rank and MPI cannot be used. */
pq_status cli_crew_open(pq_ctx *ctx, cli_crew *out);
/** The rank that mpirun gave, or cli_jobs_start, before anything is opened; 0 without them. */
int cli_crew_rank(void);
/** Of rank 0, after the results are printed: send the others home. Of all: the last thing. */
void cli_crew_close(pq_ctx *ctx, cli_crew *c, int status);

/** Rank 0: the calibration lies in the output folder. */
void cli_crew_calibrated(const cli_crew *c);
/** What the others do from beginning to end. They write no files, and take their calibration from
 *  --ranges or from what rank 0 left in `out`. */
void cli_crew_member(pq_ctx *ctx, const cli_crew *c, const char *model, const cli_common *common,
                     const char *out);

#endif
