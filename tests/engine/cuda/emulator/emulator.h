/** @file emulator.h  What tests of errors turn on the emulated device. */
#ifndef PQ_EMULATOR_H
#define PQ_EMULATOR_H

#include <stdbool.h>

#include "cuda_runtime_api.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What new memory is full of. */
enum { EMULATED_GARBAGE = 0xff }; /* NaN as a half or a float, -1 as an integer */

typedef struct emulated_device {
    int devices;  /* how many there are */
    int driver;   /* CUDA version of the driver, as 1000 * major + 10 * minor; 0: no driver */
    bool no_code; /* the kernels were built for other devices */
    int fail_in;  /* > 0: the call that brings it to 0 fails; calls that release never do */
    cudaError_t failure;
    int launches;
    int held; /* memory, graphs, streams and events not given back */
} emulated_device;
extern emulated_device emulated;

#ifdef __cplusplus
}
#endif
#endif
