/** @file network.h  Ranks in one process: threads that send each other lines. */
#ifndef PQ_TESTS_SENSITIVITY_NETWORK_H
#define PQ_TESTS_SENSITIVITY_NETWORK_H

#include "sensitivity/crew.h"

enum { MOST_RANKS = 4 };
typedef struct network network;

network *network_new(int size, double patience);
void network_free(network *n);
pq_crew *network_crew(network *n, int rank);
/** From now on nothing reaches that rank, and who sends is told so. */
void network_cut(network *n, int rank);
/** Until n lines wait for rank 0. */
void network_wait(network *n, size_t lines);

#endif
