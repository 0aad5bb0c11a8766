/** @file engines.h  The engines that the library knows. */
#ifndef PQ_ENGINE_ENGINES_H
#define PQ_ENGINE_ENGINES_H

#include <pquant/engine.h>

extern const pq_engine pq_engine_cpu;
extern const pq_engine pq_engine_ref;
/** Opens libpquant_cuda.so when it is first asked something (module.c). */
extern const pq_engine pq_engine_cuda_module;
/** Of libraries opened at run time. */
extern const pq_engine pq_engine_onnxruntime;
extern const pq_engine pq_engine_openvino;

#endif
