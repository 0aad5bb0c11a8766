/* Fibers that take turns, and a device that runs launches as they come. One launch at a time, as a
 * CUDA stream does; not for use from several threads. */
#include <setjmp.h>
#include <ucontext.h>
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <vector>

/* Behind the others, for it gives words that they use another meaning. */
#include "emulator.hpp"

#include "emulator.h"
#undef blockDim /* members of the launch's configuration here */
#undef gridDim

namespace
{

struct barrier {
    unsigned expected = 0, arrived = 0, turn = 0;
};

struct copy {
    uint8_t *to;
    const uint8_t *from;
    int bytes, of; /* read, written: zeros behind */
};

enum { PLACE = 64, STACK = 64 << 10 };

struct warp {
    barrier wait;
    alignas(16) uint8_t place[2][32 * PLACE];
};

struct fiber {
    emulated_thread self;
    jmp_buf where;
    ucontext_t first;
    bool started = false, done = false;
    barrier *at = nullptr;
    unsigned turn = 0;
    unsigned exchanges = 0;
    warp *in = nullptr;
    barrier *block = nullptr;
    std::vector<copy> open;
    std::deque<std::vector<copy>> groups;
    std::vector<std::function<void()>> products;
    std::deque<std::vector<std::function<void()>>> product_groups;
};

struct machine {
    std::vector<fiber> fibers;
    std::vector<std::unique_ptr<uint8_t[]>> stacks;
    std::vector<std::vector<uint8_t>> shared;
    std::vector<uint8_t *> shared_at;
    std::vector<barrier> blocks;
    std::vector<unsigned> alive; /* threads of each block that have not ended */
    std::vector<warp> warps;
    barrier cluster;
    fiber *running = nullptr;
    jmp_buf scheduler;
    void (*kernel)(const void *) = nullptr;
    const void *argument = nullptr;
    unsigned turn = 0; /* of blocks: the order of their threads changes with it */
};

machine m;

/* AddressSanitizer is told of every change of stacks: who leaves, who arrived. */
#if defined(__SANITIZE_ADDRESS__)
struct {
    const void *bottom = nullptr;
    size_t size = 0;
} scheduler_stack;

void leave_for(const void *bottom, size_t size)
{
    __sanitizer_start_switch_fiber(nullptr, bottom, size);
}
void arrived(bool from_scheduler)
{
    const void *bottom;
    size_t size;
    __sanitizer_finish_switch_fiber(nullptr, &bottom, &size);
    if (!from_scheduler) return;
    scheduler_stack.bottom = bottom;
    scheduler_stack.size = size;
}
void leave_for_scheduler() { leave_for(scheduler_stack.bottom, scheduler_stack.size); }
#else
void leave_for(const void *, size_t) {}
void arrived(bool) {}
void leave_for_scheduler() {}
#endif

void enter()
{
    arrived(true);
    m.kernel(m.argument);
    m.running->done = true;
    leave_for_scheduler();
    _longjmp(m.scheduler, 1);
}

void give_way()
{
    if (!_setjmp(m.running->where)) {
        leave_for_scheduler();
        _longjmp(m.scheduler, 1);
    }
    arrived(true);
}

void wait_at(barrier *b)
{
    fiber *f = m.running;
    if (++b->arrived == b->expected) {
        b->arrived = 0;
        b->turn++;
        return;
    }
    f->at = b;
    f->turn = b->turn;
    while (b->turn == f->turn) give_way();
    f->at = nullptr;
}

/* Neither of the two is inlined: no variable of the caller lives across a jump. */
__attribute__((noinline)) void prepare(fiber *f, uint8_t *stack)
{
    getcontext(&f->first);
    f->first.uc_stack.ss_sp = stack;
    f->first.uc_stack.ss_size = STACK;
    f->first.uc_link = nullptr;
    makecontext(&f->first, enter, 0);
}

__attribute__((noinline)) void run_fiber(fiber *f)
{
    m.running = f;
    if (_setjmp(m.scheduler)) {
        arrived(false);
        return;
    }
    leave_for(f->first.uc_stack.ss_sp, STACK);
    if (f->started) _longjmp(f->where, 1);
    f->started = true;
    setcontext(&f->first);
}

/* A thread up to where it waits. false: it still does, or has ended. */
bool advance(fiber *f, size_t shared_bytes)
{
    if (f->done || (f->at && f->at->turn == f->turn)) return false;
    run_fiber(f);
    const size_t b = (size_t)(f->block - m.blocks.data());
    if (f->done && --m.alive[b] == 0) /* others of the cluster may no longer read it */
        memset(m.shared_at[b], EMULATED_GARBAGE, shared_bytes);
    return true;
}

/* All threads in turn, the last one first in every second block. In two of four blocks a warp goes
 * on until all of it waits for other warps: as far ahead of them as it may be. */
bool run_warps(size_t shared_bytes)
{
    const bool backwards = m.turn % 2, ahead = m.turn / 2 % 2;
    const size_t n = m.fibers.size();
    bool any = false;
    for (size_t begin = 0; begin < n;) {
        const warp *w = m.fibers[backwards ? n - 1 - begin : begin].in;
        size_t end = begin;
        while (end < n && m.fibers[backwards ? n - 1 - end : end].in == w) end++;
        for (bool moved = true; moved; moved = moved && ahead) {
            moved = false;
            for (size_t k = begin; k < end; k++)
                moved |= advance(&m.fibers[backwards ? n - 1 - k : k], shared_bytes);
            any |= moved;
        }
        begin = end;
    }
    return any;
}

void run_cluster(const cudaLaunchConfig_t *c, dim3 at, unsigned blocks)
{
    const unsigned threads = c->blockDim.x, warps = (threads + 31) / 32;
    m.fibers.clear();
    m.fibers.resize((size_t)blocks * threads);
    m.blocks.assign(blocks, barrier());
    m.alive.assign(blocks, threads);
    m.warps.assign((size_t)blocks * warps, warp());
    m.shared.resize(blocks);
    m.shared_at.resize(blocks);
    m.cluster = barrier();
    m.cluster.expected = blocks * threads;
    while (m.stacks.size() < m.fibers.size()) m.stacks.emplace_back(new uint8_t[STACK]);
    for (unsigned b = 0; b < blocks; b++) {
        m.shared[b].assign(c->dynamicSmemBytes + 1024, EMULATED_GARBAGE);
        m.shared_at[b] = (uint8_t *)(((uintptr_t)m.shared[b].data() + 1023) / 1024 * 1024);
        m.blocks[b].expected = threads;
        for (unsigned w = 0; w < warps; w++)
            m.warps[(size_t)b * warps + w].wait.expected =
                threads - 32 * w < 32 ? threads - 32 * w : 32;
        for (unsigned t = 0; t < threads; t++) {
            fiber &f = m.fibers[(size_t)b * threads + t];
            f.self = {
                {t, 0, 0}, {at.x, at.y, at.z + b}, {threads, 1, 1}, c->gridDim, m.shared_at[b]};
            f.block = &m.blocks[b];
            f.in = &m.warps[(size_t)b * warps + t / 32];
            prepare(&f, m.stacks[(size_t)b * threads + t].get());
        }
    }
    m.turn++;
    while (!m.fibers.empty() && run_warps(c->dynamicSmemBytes)) continue;
    size_t left = 0;
    for (const fiber &f : m.fibers) left += !f.done;
    if (left) {
        fprintf(stderr, "emulator: %zu threads wait at barriers that others left\n", left);
        abort();
    }
}

} // namespace

const emulated_thread &emulated_self() { return m.running->self; }
void emulated_block_wait() { wait_at(m.running->block); }
void emulated_cluster_wait() { wait_at(&m.cluster); }
uint8_t *emulated_shared_of(int rank) { return m.shared_at[(size_t)rank]; }

const uint8_t *emulated_exchange(const void *mine, size_t n, size_t *stride)
{
    fiber *f = m.running;
    /* Two sets of places in turn: the one is written anew only when all have left the other. */
    uint8_t *all = f->in->place[f->exchanges++ % 2];
    if (n > PLACE) abort();
    memcpy(all + f->self.thread.x % 32 * PLACE, mine, n);
    wait_at(&f->in->wait);
    *stride = PLACE;
    return all;
}

static void take_place(const copy &c)
{
    memcpy(c.to, c.from, (size_t)c.bytes);
    memset(c.to + c.bytes, 0, (size_t)(c.of - c.bytes));
}

/* As late as it may, or, in four of eight blocks, at once. */
void emulated_copy(uint8_t *to, const uint8_t *from, int bytes, int of)
{
    if ((uintptr_t)to % (uintptr_t)of || (bytes > 0 && (uintptr_t)from % (uintptr_t)of)) {
        fprintf(stderr, "emulator: a copy of %d bytes that is not aligned\n", of);
        abort();
    }
    const copy c = {to, from, bytes, of};
    if (m.turn / 4 % 2)
        take_place(c);
    else
        m.running->open.push_back(c);
}

void emulated_commit()
{
    m.running->groups.push_back(std::move(m.running->open));
    m.running->open.clear();
}

void emulated_copies_wait(int left)
{
    std::deque<std::vector<copy>> &g = m.running->groups;
    for (; g.size() > (size_t)left; g.pop_front())
        for (const copy &c : g.front()) take_place(c);
}

void emulated_product(std::function<void()> f)
{
    if (m.turn % 2)
        m.running->products.push_back(std::move(f));
    else
        f();
}

void emulated_products_commit()
{
    m.running->product_groups.push_back(std::move(m.running->products));
    m.running->products.clear();
}

void emulated_products_wait(int left)
{
    std::deque<std::vector<std::function<void()>>> &g = m.running->product_groups;
    for (; g.size() > (size_t)left; g.pop_front())
        for (const std::function<void()> &f : g.front()) f();
}

/* ---- the runtime ---- */

struct emulator_graph {
    struct launch {
        cudaLaunchConfig_t config;
        std::vector<cudaLaunchAttribute> attrs;
        const void *kernel;
        std::vector<uint8_t> argument;
        size_t branch;
        std::vector<size_t> after; /* launches that end before */
    };
    std::vector<launch> launches;
    std::vector<cudaStream_t>
        streams; /* of the branches; the first is captured, others follow it */
};
struct emulator_stream {
    std::vector<size_t> after; /* launches that end before its next one */
};
struct emulator_event {
    std::vector<size_t> after;
    double ms;
};

/* Time that passes: little by thread, much where a kernel's code is not that of the launch before.
 */
static double now_ms;
static const void *code;

static void pass(const cudaLaunchConfig_t *c, const void *kernel)
{
    emulated.launches++;
    now_ms += (code == kernel ? 0 : 0.1) +
              1e-6 * c->gridDim.x * c->gridDim.y * c->gridDim.z * c->blockDim.x;
    code = kernel;
}

emulated_device emulated = {1, 13000, false, 0, cudaSuccess, 0, 0};

static emulator_graph *capturing;

static cudaError_t outcome()
{
    return emulated.fail_in > 0 && --emulated.fail_in == 0 ? emulated.failure : cudaSuccess;
}

template <typename T> static cudaError_t make(T **out)
{
    const cudaError_t rc = outcome();
    if (rc != cudaSuccess) return rc;
    *out = new T();
    emulated.held++;
    return rc;
}

template <typename T> static cudaError_t release(T *p)
{
    emulated.held--;
    delete p;
    return cudaSuccess;
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *c, const void *f, void **args)
{
    const emulated_entry *kernel = (const emulated_entry *)f;
    const uint8_t *argument = (const uint8_t *)args[0];
    unsigned cluster = 1;
    const cudaError_t rc = outcome();
    if (rc != cudaSuccess) return rc;
    for (unsigned i = 0; i < c->numAttrs; i++)
        if (c->attrs[i].id == cudaLaunchAttributeClusterDimension)
            cluster = c->attrs[i].val.clusterDim.z;
    if (capturing) {
        size_t branch = 0;
        while (branch < capturing->streams.size() && capturing->streams[branch] != c->stream)
            branch++;
        if (branch == capturing->streams.size()) capturing->streams.push_back(c->stream);
        capturing->launches.push_back({*c,
                                       {c->attrs, c->attrs + c->numAttrs},
                                       f,
                                       {argument, argument + kernel->bytes},
                                       branch,
                                       c->stream->after});
        c->stream->after = {capturing->launches.size() - 1};
        return rc;
    }
    pass(c, f);
    m.kernel = kernel->call;
    m.argument = argument;
    for (unsigned z = 0; z < c->gridDim.z; z += cluster)
        for (unsigned y = 0; y < c->gridDim.y; y++)
            for (unsigned x = 0; x < c->gridDim.x; x++) run_cluster(c, {x, y, z}, cluster);
    return rc;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode)
{
    const cudaError_t rc = make(&capturing);
    if (rc != cudaSuccess) return rc;
    s->after.clear();
    capturing->streams.push_back(s);
    return rc;
}
/* Does launch i, or one of those before it, wait for j? */
static bool comes_after(const emulator_graph *g, size_t i, size_t j)
{
    if (i == j) return true;
    for (size_t k : g->launches[i].after)
        if (k >= j && comes_after(g, k, j)) return true;
    return false;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g)
{
    bool joined = true;
    for (size_t b = 1; b < capturing->streams.size(); b++)
        for (size_t last : capturing->streams[b]->after)
            joined = joined && !s->after.empty() && comes_after(capturing, s->after[0], last);
    *g = capturing;
    capturing = nullptr;
    return joined ? outcome() : cudaErrorStreamCaptureUnjoined;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned)
{
    s->after.insert(s->after.end(), e->after.begin(), e->after.end());
    return outcome();
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *e, cudaGraph_t g, unsigned long long)
{
    const cudaError_t rc = make(e);
    if (rc == cudaSuccess) **e = *g;
    return rc;
}
/* The launch before, once more, as a graph of repetitions has it: it would do the same. */
static bool is_again(const emulator_graph::launch &a, const emulator_graph::launch &b)
{
    return a.kernel == b.kernel && a.argument == b.argument && a.branch == b.branch &&
           memcmp(&a.config.gridDim, &b.config.gridDim, sizeof a.config.gridDim) == 0;
}

/* Branches run as far ahead of the others as they may: the last one first, or, every second time,
 * the first one. */
cudaError_t cudaGraphLaunch(cudaGraphExec_t e, cudaStream_t)
{
    static bool first_ahead;
    const cudaError_t rc = outcome();
    if (rc != cudaSuccess) return rc;
    std::vector<bool> done(e->launches.size());
    first_ahead = !first_ahead;
    for (size_t left = done.size(); left > 0; left--) {
        size_t next = done.size();
        for (size_t i = 0; i < done.size(); i++) {
            emulator_graph::launch &l = e->launches[i];
            bool ready = !done[i];
            for (size_t k : l.after) ready = ready && done[k];
            if (!ready) continue;
            if (next == done.size() || (first_ahead ? l.branch < e->launches[next].branch
                                                    : l.branch > e->launches[next].branch))
                next = i;
        }
        emulator_graph::launch &l = e->launches[next];
        if (next > 0 && is_again(l, e->launches[next - 1])) {
            pass(&l.config, l.kernel);
            done[next] = true;
            continue;
        }
        void *args[1] = {l.argument.data()};
        l.config.attrs = l.attrs.data();
        const cudaError_t launched = cudaLaunchKernelExC(&l.config, l.kernel, args);
        if (launched != cudaSuccess) return launched;
        done[next] = true;
    }
    return rc;
}
cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t) { return outcome(); }
cudaError_t cudaGraphDestroy(cudaGraph_t g) { return release(g); }
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t e) { return release(e); }

cudaError_t cudaMalloc(void **p, size_t n)
{
    const size_t room = (n + 255) / 256 * 256;
    cudaError_t rc = outcome();
    *p = nullptr;
    if (rc != cudaSuccess) return rc;
    *p = aligned_alloc(256, room);
    if (!*p) return cudaErrorMemoryAllocation;
    memset(*p, EMULATED_GARBAGE, room);
    emulated.held++;
    return rc;
}
cudaError_t cudaFree(void *p)
{
    if (p) emulated.held--;
    free(p);
    return cudaSuccess;
}
cudaError_t cudaHostAlloc(void **p, size_t n, unsigned) { return cudaMalloc(p, n); }
cudaError_t cudaFreeHost(void *p) { return cudaFree(p); }
cudaError_t cudaMemset(void *p, int value, size_t n)
{
    (void)value; /* the engine must not count on it */
    memset(p, EMULATED_GARBAGE, n);
    return outcome();
}
cudaError_t cudaMemsetAsync(void *p, int value, size_t n, cudaStream_t)
{
    if (n) memset(p, value, n);
    return outcome();
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t n, enum cudaMemcpyKind)
{
    if (n) memcpy(to, from, n); /* a network without constants copies nothing from nowhere */
    return outcome();
}
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, enum cudaMemcpyKind kind,
                            cudaStream_t)
{
    return cudaMemcpy(to, from, n, kind);
}
cudaError_t cudaGetDeviceCount(int *n)
{
    *n = emulated.driver < 13000 ? 0 : emulated.devices;
    return emulated.driver < 13000 ? cudaErrorInsufficientDriver
           : *n                    ? outcome()
                                   : cudaErrorNoDevice;
}
cudaError_t cudaDriverGetVersion(int *v)
{
    *v = emulated.driver;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *v)
{
    *v = 13000;
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int) { return outcome(); }
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int)
{
    *p = {"emulator", 9, 0, 132};
    return outcome();
}
cudaError_t cudaDeviceGetAttribute(int *v, enum cudaDeviceAttr, int)
{
    *v = 232448;
    return outcome();
}
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *a, const void *)
{
    a->ptxVersion = 90;
    return emulated.no_code ? cudaErrorNoKernelImageForDevice : outcome();
}
cudaError_t cudaFuncSetAttribute(const void *, enum cudaFuncAttribute, int) { return outcome(); }
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *, int, size_t)
{
    *blocks = 1;
    return outcome();
}
const char *cudaGetErrorName(cudaError_t e)
{
    switch (e) {
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorNoDevice: return "cudaErrorNoDevice";
    case cudaErrorNoKernelImageForDevice: return "cudaErrorNoKernelImageForDevice";
    case cudaErrorLaunchFailure: return "cudaErrorLaunchFailure";
    default: return "cudaErrorUnknown";
    }
}
const char *cudaGetErrorString(cudaError_t) { return "as the test asked"; }
cudaError_t cudaGetLastError(void) { return cudaSuccess; }
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned) { return make(s); }
cudaError_t cudaStreamDestroy(cudaStream_t s) { return release(s); }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return outcome(); }
cudaError_t cudaEventCreate(cudaEvent_t *e) { return make(e); }
cudaError_t cudaEventDestroy(cudaEvent_t e) { return release(e); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned) { return make(e); }
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    e->after = s->after;
    e->ms = now_ms;
    return outcome();
}
cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    *ms = (float)(to->ms - from->ms);
    return outcome();
}
