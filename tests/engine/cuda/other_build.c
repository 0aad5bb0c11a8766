/* A module of another build: its interface has another version. */
#include <pquant/engine.h>

PQ_API const pq_engine *pq_engine_entry(void);

static const pq_engine engine = {.abi = PQ_ENGINE_ABI + 1, .name = "cuda"};

const pq_engine *pq_engine_entry(void) { return &engine; }
