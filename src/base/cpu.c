/* CPUID, masked by PQ_CPU_MASK. */
#include "base/cpu.h"

#include <cpuid.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

static pq_cpu cpu;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void detect(void)
{
    __builtin_cpu_init();
    cpu.avx2 = __builtin_cpu_supports("avx2");
    cpu.fma = __builtin_cpu_supports("fma");
    cpu.avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                 __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    cpu.avx512_vnni = cpu.avx512 && __builtin_cpu_supports("avx512vnni");
    unsigned a = 0, b = 0, c = 0, d = 0;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d))
        cpu.sha = __builtin_cpu_supports("sse4.1") && (b >> 29 & 1);
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d)) {
        cpu.avx_vnni = cpu.avx2 && (a >> 4 & 1);
        cpu.avx512_bf16 = cpu.avx512 && (a >> 5 & 1);
    }
    unsigned brand[12] = {0};
    for (unsigned i = 0; i < 3; i++)
        __get_cpuid(0x80000002u + i, brand + 4 * i, brand + 4 * i + 1, brand + 4 * i + 2,
                    brand + 4 * i + 3);
    memcpy(cpu.model, brand, 48);

    const char *mask = getenv("PQ_CPU_MASK");
    if (mask && *mask) {
        if (strcmp(mask, "avx512") != 0) cpu.avx512 = false;
        if (!cpu.avx512 && strcmp(mask, "avx2") != 0) cpu.avx2 = cpu.fma = false;
        if (strcmp(mask, "none") == 0) cpu.sha = false;
        cpu.avx_vnni = cpu.avx512_vnni = cpu.avx512_bf16 = false;
    }
}

const pq_cpu *pq_cpu_get(void)
{
    pthread_once(&once, detect);
    return &cpu;
}
