/* The one symbol that engine/module.c asks for. */
#include "engine/cuda/cuda.h"

PQ_API const pq_engine *pq_engine_entry(void);

const pq_engine *pq_engine_entry(void) { return &pq_engine_cuda; }
