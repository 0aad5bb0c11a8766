/* SHA-256 blocks with the SHA instructions. The instruction holds the state as (a b e f) and
 * (c d g h), high word first, and does two rounds; see Intel's "SHA Extensions", 2013. */
#include <immintrin.h>

#include "base/hash_internal.h"

void pq_sha256_blocks_x86(uint32_t h[8], const uint8_t *p, size_t n)
{
    const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i t = _mm_shuffle_epi32(_mm_loadu_si128((const void *)h), 0xb1);          /* c d a b */
    __m128i cdgh = _mm_shuffle_epi32(_mm_loadu_si128((const void *)(h + 4)), 0x1b); /* e f g h */
    __m128i abef = _mm_alignr_epi8(t, cdgh, 8);
    cdgh = _mm_blend_epi16(cdgh, t, 0xf0);
    for (; n; n--, p += 64) {
        const __m128i abef_before = abef, cdgh_before = cdgh;
        __m128i w[4];
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            if (i < 4)
                w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const void *)(p + 16 * i)), swap);
            else {
                const __m128i last = w[(i + 3) % 4];
                t = _mm_sha256msg1_epu32(w[i % 4], w[(i + 1) % 4]);
                t = _mm_add_epi32(t, _mm_alignr_epi8(last, w[(i + 2) % 4], 4));
                w[i % 4] = _mm_sha256msg2_epu32(t, last);
            }
            t = _mm_add_epi32(w[i % 4], _mm_loadu_si128((const void *)(pq_sha256_k + 4 * i)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, t);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(t, 0x0e));
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    t = _mm_shuffle_epi32(abef, 0x1b);     /* f e b a */
    cdgh = _mm_shuffle_epi32(cdgh, 0xb1);  /* d c h g */
    abef = _mm_blend_epi16(t, cdgh, 0xf0); /* d c b a */
    cdgh = _mm_alignr_epi8(cdgh, t, 8);    /* h g f e */
    _mm_storeu_si128((void *)h, abef);
    _mm_storeu_si128((void *)(h + 4), cdgh);
}
