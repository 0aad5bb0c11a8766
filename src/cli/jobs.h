/** @file jobs.h  Copies of the command on this machine, that measure together as ranks do under
 *  mpirun. */
#ifndef PQ_CLI_JOBS_H
#define PQ_CLI_JOBS_H

#include "sensitivity/crew.h"

enum { CLI_MOST_JOBS = 256 };

/** Fork n - 1 copies (n <= CLI_MOST_JOBS), before anything is opened or printed: what comes next
 * runs in each of them. Returns 0, or errno where there was no room, and then there are no copies.
 */
int cli_jobs_start(int n);
/** This process's place among them; 0 where there are no copies too. */
int cli_jobs_rank(void);
/** Of all: how they talk. false: there are no copies. A leader that is gone says "stop". */
bool cli_jobs_join(pq_crew *out);
/** The last thing. Rank 0 waits for the others to end; those that did not say goodbye are ended. */
void cli_jobs_end(bool all_there);

#endif
