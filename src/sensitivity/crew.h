/** @file crew.h  A sweep by several processes. Rank 0 leads: it knows the tasks, hands them out one
 *  by one, keeps the journal and works too; the others measure with a meter of their own. How lines
 *  of text get from one to the other is the caller's: MPI in the command, memory in tests. */
#ifndef PQ_SENSITIVITY_CREW_H
#define PQ_SENSITIVITY_CREW_H

#include "sensitivity/task.h"

typedef struct pq_crew {
    int rank, size;
    double patience; /* seconds that no answer is waited for less than */
    void *user;
    /** false: that rank cannot be reached. */
    bool (*send)(void *user, int to, const char *text);
    /** The next message from anyone within so many seconds (0: one that is there already), cut to
     *  `room` bytes with its 0. Returns the sender, -1: none. */
    int (*receive)(void *user, char *text, size_t room, double seconds);
    bool *lost; /* [size] who does not answer; kept by the leader */
} pq_crew;

typedef struct pq_sweep_opts {
    pq_sweep_kind kind;
    size_t shard, n_shards; /* 0: all */
    const pq_crew *crew;    /* NULL: alone */
} pq_sweep_opts;
PQ_MUST_USE pq_status pq_sweep_with(pq_ctx *ctx, pq_scores **out, pq_meter *m,
                                    const pq_sweep_opts *o);

/** What a leader has to do; all borrowed. put takes every result once. */
typedef struct pq_lead {
    const pq_crew *crew;
    pq_runner *runner;
    const pq_task *task;
    size_t n;
    pq_status (*put)(pq_ctx *ctx, void *user, const pq_task *t, const pq_entry *e);
    void *user;
} pq_lead;
typedef struct pq_leader pq_leader;
/** From here on until pq_leader_free tasks are handed out between any two images of the meter. The
 *  task of a rank that does not answer goes to another one; two answers are no harm, since they are
 *  the same. Memory: *out is yours. Errors: NOMEM. */
PQ_MUST_USE pq_status pq_leader_start(pq_ctx *ctx, pq_leader **out, const pq_lead *lead);
/** Until all is done, or nothing new may begin and what was begun is done. Errors: as
 *  pq_meter_measure, those of put. */
PQ_MUST_USE pq_status pq_leader_run(pq_ctx *ctx, pq_leader *l);
void pq_leader_free(pq_leader *l);
/** Send the others home, who say goodbye with the time they were idle. false: not all did. */
bool pq_crew_dismiss(pq_ctx *ctx, const pq_crew *crew);

/** What the others do until they are sent home. Errors: as pq_meter_measure; ENGINE where the
 *  leader is gone. */
PQ_MUST_USE pq_status pq_crew_work(pq_ctx *ctx, const pq_crew *crew, pq_meter *m);
/** Tell the leader why this rank cannot work, and wait to be sent home. */
void pq_crew_decline(const pq_crew *crew, const char *why);

#endif
