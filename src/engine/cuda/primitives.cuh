/**
 * @file primitives.cuh
 * The instructions that C++ has no words for: dependent launch, clusters, asynchronous copies,
 * matrices in shared memory, tensor cores. tests/engine/cuda/emulator has the same in plain C++, so
 * that every kernel also runs on a CPU, one thread of a block after the other.
 */
#ifndef PQ_ENGINE_CUDA_PRIMITIVES_CUH
#define PQ_ENGINE_CUDA_PRIMITIVES_CUH

#ifdef PQ_CU_EMULATOR
#include "emulator.hpp"
#else

#include <cooperative_groups.h>
#include <cuda_fp16.h>

#include "engine/cuda/shared.h"

/* A kernel's address for the host's tables. */
#define KERNEL(k) ((const void *)(k))

/* ---- dependent launch: a no-op before sm_90 ---- */

static __device__ __forceinline__ void pdl_wait()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

static __device__ __forceinline__ void pdl_launch()
{
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

/* ---- clusters: sm_90 and later ---- */

#if __CUDA_ARCH__ >= 900
static __device__ __forceinline__ void cluster_wait() { cooperative_groups::this_cluster().sync(); }

/* Nobody leaves while its shared memory is read. What was read has been used: nothing is ordered
 * here, and the stores under way are not waited for. */
static __device__ __forceinline__ void cluster_leave()
{
    asm volatile("barrier.cluster.arrive.relaxed.aligned;\n\tbarrier.cluster.wait.aligned;" ::
                     : "memory");
}

/* The same place in the shared memory of block `rank` of the cluster. */
template <typename T> static __device__ __forceinline__ const T *cluster_shared(T *p, int rank)
{
    return cooperative_groups::this_cluster().map_shared_rank(p, (unsigned)rank);
}
#endif

/* ---- moving ---- */

/* All that the launch gave. */
static __device__ __forceinline__ uint8_t *shared_memory()
{
    extern __shared__ __align__(128) uint8_t launch_smem[];
    return launch_smem;
}

typedef unsigned shared_at; /* address in shared memory */

/* What a loop needs each time, kept in a register: a shuffle from the lane itself is what the
 * assembler does not do again. Of what is worked out from the thread's index it otherwise prefers
 * to repeat the steps, and they were half of the loop. All lanes of the warp. */
static __device__ __forceinline__ void keep(unsigned &x)
{
    x = __shfl_sync(~0u, x, (int)threadIdx.x & 31);
}
static __device__ __forceinline__ void keep(int &x)
{
    x = __shfl_sync(~0u, x, (int)threadIdx.x & 31);
}

static __device__ __forceinline__ shared_at shared_address(const void *p)
{
    return (unsigned)__cvta_generic_to_shared(p);
}

/* 16 bytes that all exist. */
static __device__ __forceinline__ void copy16(shared_at to, const uint8_t *from)
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
#else
    const uint4 v = *(const uint4 *)from;
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(v.x), "r"(v.y), "r"(v.z),
                 "r"(v.w)
                 : "memory");
#endif
}

/* 16 bytes, or zeros and nothing read. */
static __device__ __forceinline__ void copy16_if(shared_at to, const uint8_t *from, bool in)
{
#if __CUDA_ARCH__ >= 800
    asm volatile("{\n\t.reg .pred skip;\n\tsetp.eq.s32 skip, %2, 0;\n\t"
                 "cp.async.cg.shared.global [%0], [%1], 16, skip;\n\t}" ::"r"(to),
                 "l"(from), "r"((int)in)
                 : "memory");
#else
    const uint4 v = in ? *(const uint4 *)from : make_uint4(0, 0, 0, 0);
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(v.x), "r"(v.y), "r"(v.z),
                 "r"(v.w)
                 : "memory");
#endif
}

static __device__ __forceinline__ void copies_commit()
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

template <int LEFT> static __device__ __forceinline__ void copies_wait()
{
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
#endif
}

static __device__ __forceinline__ void ldmatrix4(unsigned r[4], shared_at address)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
}

/* ---- multiplying: 16 x 8 sums, 32 bytes of the inner dimension ---- */

static __device__ __forceinline__ void mma(float c[4], const unsigned a[4], const unsigned b[2])
{
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
#pragma unroll
    for (int i = 0; i < 2; i++)
        asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, "
                     "{%4, %5}, {%6}, {%0, %1, %2, %3};"
                     : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                     : "r"(a[2 * i]), "r"(a[2 * i + 1]), "r"(b[i]));
#endif
}

static __device__ __forceinline__ void mma(int c[4], const unsigned a[4], const unsigned b[2])
{
#if __CUDA_ARCH__ >= 800
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, "
                 "{%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#else
#pragma unroll
    for (int i = 0; i < 2; i++) /* a: rows 0-7 and 8-15 of the first 16 bytes, then of the others */
#pragma unroll
        for (int j = 0; j < 2; j++)
            asm volatile("mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%0, %1}, {%2}, {%3}, "
                         "{%0, %1};"
                         : "+r"(c[2 * j]), "+r"(c[2 * j + 1])
                         : "r"(a[2 * i + j]), "r"(b[i]));
#endif
}

#endif
#endif
