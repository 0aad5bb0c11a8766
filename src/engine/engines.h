/** @file engines.h  The engines built into the library. */
#ifndef PQ_ENGINE_ENGINES_H
#define PQ_ENGINE_ENGINES_H

#include <pquant/engine.h>

extern const pq_engine pq_engine_cpu;
extern const pq_engine pq_engine_ref;

#endif
