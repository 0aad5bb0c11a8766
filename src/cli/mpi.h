/** @file mpi.h  What the command finds in libpquant_mpi.so, which alone knows MPI: so that pquant
 *  runs where there is none. */
#ifndef PQ_CLI_MPI_H
#define PQ_CLI_MPI_H

#include "sensitivity/crew.h"

#define PQ_MPI_LIBRARY "libpquant_mpi.so"

/** What the module gives under the name "pquant_mpi". */
typedef struct pq_mpi {
    /** MPI_Init. *sharing: ranks of this host, this one too, that may run on the same processors.
     *  false: it did not work, with the reason in why. */
    bool (*open)(pq_crew *out, int *sharing, char *why, size_t room);
    /** MPI_Finalize where everyone comes to it; else MPI_Abort, which ends the lost ones. */
    void (*close)(pq_crew *crew, bool all_there, int status);
} pq_mpi;

#endif
