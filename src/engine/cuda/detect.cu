/* What stands around the network: pictures into its input, its scores and boxes into what is found.
 * The same results as the host's data and detect stages, bit for bit. */
#include "engine/cuda/device.cuh"
#include "engine/cuda/kernels.h"
#include "engine/suppress.h"

/* ---- pictures ---- */

static __device__ __forceinline__ int held(int i, int n) { return i < 0 ? 0 : i < n ? i : n - 1; }

/* Channel c of the resized picture at (x, y): data/resize.c. */
static __device__ __forceinline__ int resized(const pq_picture &p, int c, int x, int y)
{
    const uint8_t *at = p.data + c * p.plane;
    if (!p.across) return at[y * p.row + x * p.pixel];
    const pq_tap tx = p.across[x], ty = p.down[y];
    const uint8_t *left = at + held(tx.from, p.w) * p.pixel,
                  *right = at + held(tx.from + 1, p.w) * p.pixel;
    const size_t upper = held(ty.from, p.h) * p.row, lower = held(ty.from + 1, p.h) * p.row;
    const int s0 = (tx.weight[0] * left[upper] + tx.weight[1] * right[upper]) >> 4;
    const int s1 = (tx.weight[0] * left[lower] + tx.weight[1] * right[lower]) >> 4;
    return (uint8_t)((((ty.weight[0] * s0) >> 16) + ((ty.weight[1] * s1) >> 16) + 2) >> 2);
}

/* A pixel of an image of the input. */
__global__ void __launch_bounds__(PQ_CU_THREADS) prepare(const __grid_constant__ pq_cu_prepare p)
{
    const int i = (int)(blockIdx.x * PQ_CU_THREADS + threadIdx.x), y = i / p.w, x = i - y * p.w;
    if (y >= p.h) return;
    const pq_picture &in = p.in.at[blockIdx.y];
    const int fx = x - in.left, fy = y - in.top;
    const bool inside = fx >= 0 && fy >= 0 && fx < in.fit_w && fy < in.fit_h;
    int v[3] = {p.in.pad, p.in.pad, p.in.pad};
    if (inside)
        for (int c = 0; c < in.channels; c++) v[c] = resized(in, c, fx, fy);
    if (inside && p.c < in.channels) v[0] = (4899 * v[0] + 9617 * v[1] + 1868 * v[2] + 8192) >> 14;
    float *to = p.x + ((int64_t)blockIdx.y * p.c * p.h + y) * p.w + x;
    for (int c = 0; c < p.c; c++) {
        const int from = in.reversed && p.c == 3 ? 2 - c : c;
        to[(int64_t)c * p.h * p.w] = ((float)v[from] - p.in.mean[c]) * p.in.scale[c];
    }
}

/* ---- candidates ---- */

static __device__ __forceinline__ pq_box box_of(const pq_cu_suppress &p, int image, int anchor)
{
    const int64_t at = (int64_t)image * p.how.anchors + anchor;
    if (p.how.yolox) return pq_yolox_box(p.scores + at * (5 + p.how.n_classes), anchor, p.h, p.w);
    const float4 b = *(const float4 *)(p.boxes + 4 * at);
    return {b.x, b.y, b.z, b.w};
}

static __device__ __forceinline__ float score_of(const pq_cu_suppress &p, int image, int anchor,
                                                 int cls)
{
    const int64_t at = (int64_t)image * p.how.anchors + anchor;
    if (!p.how.yolox) return p.scores[at * p.how.n_classes + cls];
    const float *o = p.scores + at * (5 + p.how.n_classes);
    return o[4] * o[5 + cls];
}

/* A class of an anchor. */
__global__ void __launch_bounds__(PQ_CU_THREADS) collect(const __grid_constant__ pq_cu_suppress p)
{
    const int i = (int)(blockIdx.x * PQ_CU_THREADS + threadIdx.x), image = (int)blockIdx.y;
    const int all = (int)p.how.anchors * p.how.n_classes;
    if (i >= all) return;
    const int anchor = pq_cu_quotient(i, &p.by_classes), cls = i - anchor * p.how.n_classes;
    const float score = score_of(p, image, anchor, cls);
    if (!(score > p.how.conf)) return;
    const pq_box box = box_of(p, image, anchor);
    if (!pq_box_is_finite(&box)) return;
    const unsigned at = atomicAdd(&p.count[image], 1u);
    p.key[(int64_t)image * all + at] = pq_score_key(score, (uint32_t)i);
}

/* ---- suppression ---- */

/* An upper end such that the keys from `lower` to it are at most a chunk, and some: the first bin
 * of their highest byte that does not fit is looked at by the next byte, and so on. */
static __device__ uint64_t chunk_end(pq_cu_suppress_block *s, const uint64_t *key, unsigned n,
                                     uint64_t lower)
{
    uint64_t prefix = 0;
    if (threadIdx.x == 0) s->taken = 0;
    for (int shift = 56;; shift -= 8) {
        for (unsigned i = threadIdx.x; i < 256; i += PQ_CU_SUPPRESS_THREADS) s->bin[i] = 0;
        __syncthreads();
        for (unsigned i = threadIdx.x; i < n; i += PQ_CU_SUPPRESS_THREADS) {
            const uint64_t k = key[i];
            if (k >= lower && (shift == 56 || k >> (shift + 8) == prefix))
                atomicAdd(&s->bin[k >> shift & 255], 1u);
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            unsigned b = 0;
            while (b < 256 && s->taken + s->bin[b] <= PQ_CU_SUPPRESS_CHUNK) s->taken += s->bin[b++];
            s->first_left = b;
        }
        __syncthreads();
        const unsigned b = s->first_left, taken = s->taken;
        if (b == 256) return ~0ull; /* of the first byte: all that is left */
        prefix = prefix << 8 | b;
        if (taken >= PQ_CU_SUPPRESS_CHUNK / 2 || shift == 0) return prefix << shift;
        __syncthreads();
    }
}

/* The keys of [lower, upper) in order; how many. */
static __device__ unsigned sorted_chunk(pq_cu_suppress_block *s, const uint64_t *key, unsigned n,
                                        uint64_t lower, uint64_t upper)
{
    __syncthreads();
    if (threadIdx.x == 0) s->taken = 0;
    __syncthreads();
    for (unsigned i = threadIdx.x; i < n; i += PQ_CU_SUPPRESS_THREADS)
        if (key[i] >= lower && key[i] < upper) s->key[atomicAdd(&s->taken, 1u)] = key[i];
    __syncthreads();
    const unsigned m = s->taken;
    unsigned size = 2;
    while (size < m) size *= 2;
    for (unsigned i = m + threadIdx.x; i < size; i += PQ_CU_SUPPRESS_THREADS) s->key[i] = ~0ull;
    __syncthreads();
    for (unsigned run = 2; run <= size; run *= 2) /* bitonic: Batcher 1968 */
        for (unsigned apart = run / 2; apart; apart /= 2) {
            for (unsigned i = threadIdx.x; i < size / 2; i += PQ_CU_SUPPRESS_THREADS) {
                const unsigned a = 2 * i - (i & (apart - 1)), b = a + apart;
                const uint64_t x = s->key[a], y = s->key[b];
                if ((x > y) == ((a & run) == 0)) {
                    s->key[a] = y;
                    s->key[b] = x;
                }
            }
            __syncthreads();
        }
    return m;
}

/* The next of the sorted candidates, of which there are `left`, as many as a word has bits: how
 * many stay with the n_kept before. All threads have the same result. */
static __device__ unsigned suppress_tile(const pq_cu_suppress &p, pq_cu_suppress_block *s,
                                         int image, unsigned first, unsigned left, pq_found *found,
                                         unsigned n_kept)
{
    constexpr unsigned TILE = PQ_CU_SUPPRESS_TILE, SHARES = PQ_CU_SUPPRESS_THREADS / TILE;
    const unsigned m = left < TILE ? left : TILE;
    const unsigned j = threadIdx.x % TILE, share = threadIdx.x / TILE;
    if (threadIdx.x < m) {
        const int i = (int)(uint32_t)s->key[first + j];
        const int anchor = pq_cu_quotient(i, &p.by_classes);
        s->box[j] = box_of(p, image, anchor);
        s->area[j] = pq_box_area(&s->box[j]);
        s->cls[j] = i - anchor * p.how.n_classes;
        s->dropped[j] = 0;
    }
    __syncthreads();
    if (j < m) { /* by what was kept before; by the tile's own better ones, a bit each */
        const pq_box mine = s->box[j];
        const double area = s->area[j];
        const int cls = s->cls[j];
        unsigned long long by = 0;
        for (unsigned k = share; k < n_kept && !by; k += SHARES)
            if (found[k].cls == cls) {
                const pq_box other = found[k].box;
                if (pq_box_overlaps(&other, pq_box_area(&other), &mine, area, p.how.iou))
                    by = 1ull << j; /* itself: never to be kept */
            }
        for (unsigned k = share; k < j; k += SHARES)
            if (s->cls[k] == cls && pq_box_overlaps(&s->box[k], s->area[k], &mine, area, p.how.iou))
                by |= 1ull << k;
        if (by) atomicOr(&s->dropped[j], by);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        unsigned long long kept = 0;
        for (unsigned k = 0; k < m; k++) {
            const unsigned long long bit = 1ull << k;
            if (!(s->dropped[k] & (kept | bit))) kept |= bit;
        }
        s->kept = kept;
    }
    __syncthreads();
    const unsigned long long kept = s->kept;
    const unsigned most = (unsigned)p.how.max_det,
                   place = n_kept + (unsigned)__popcll(kept & ((1ull << j) - 1));
    if (threadIdx.x < m && kept >> j & 1 && place < most)
        found[place] = {s->box[j], pq_score_of_key(s->key[first + j]), s->cls[j]};
    __syncthreads();
    const unsigned n = n_kept + (unsigned)__popcll(kept);
    return n < most ? n : most;
}

/* A block an image: chunks of its candidates, best first, until enough stay. */
__global__ void __launch_bounds__(PQ_CU_SUPPRESS_THREADS)
    suppress(const __grid_constant__ pq_cu_suppress p)
{
    pq_cu_suppress_block *s = (pq_cu_suppress_block *)shared_memory();
    const int image = (int)blockIdx.x;
    const unsigned n = p.count[image], most = (unsigned)p.how.max_det;
    const uint64_t *key = p.key + (int64_t)image * p.how.anchors * p.how.n_classes;
    pq_found *found = p.found + (int64_t)image * p.how.max_det;
    unsigned done = 0, n_kept = 0;
    for (uint64_t lower = 0; done < n && n_kept < most;) {
        const uint64_t upper =
            n - done <= PQ_CU_SUPPRESS_CHUNK ? ~0ull : chunk_end(s, key, n, lower);
        const unsigned m = sorted_chunk(s, key, n, lower, upper);
        for (unsigned i = 0; i < m && n_kept < most; i += PQ_CU_SUPPRESS_TILE)
            n_kept = suppress_tile(p, s, image, i, m - i, found, n_kept);
        done += m;
        lower = upper;
    }
    if (threadIdx.x == 0) p.n_found[image] = n_kept;
}

extern "C" const pq_cu_detect_kernels *pq_cu_detect_kernels_get(void)
{
    static const pq_cu_detect_kernels all = {KERNEL(prepare), KERNEL(collect), KERNEL(suppress)};
    return &all;
}
